"""Writes the page of what was changed and what the audit printed: `python -m tests.mutations_page`, with a stack up."""

import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from audit import catalog
from audit.report import Difference
from config.settings import Settings
from local.stack import Stack
from operations.verify.report import in_words
from sinks import postgres
from tests.edits import edited
from tests.integration.test_catalog import DONE
from tests.integration.test_verify_tables import TAMPERED, but_functions, tampered
from tests.integration.verify_copies import pipeline_that_ran, tampering, verified
from tests.unit.agreement import in_python
from tests.unit.audit_changes import CHANGES, RULES
from tests.unit.audits import Pipe, piped
from tests.unit.test_audit import PIPELINE, sources

PAGE = Path("docs/operations/verify-mutations.md")
SHOWN = 170
HEAD = """\
# What `wallet verify` was tried on

Each line is one change, made in a copy of a clean pipeline, and the first line that the audit printed of it. The tests
hold that each is found, in its place, and that nothing else is told: `tests/unit/audit_changes.py` (topics and rules),
`tests/integration/test_verify_tables.py` (rows), `tests/integration/test_catalog.py` (guards). This page is written by
`python -m tests.mutations_page`.
"""
Line = tuple[str, int, str]


def main() -> None:
    """Write the page."""
    sections: list[tuple[str, str, Iterable[Line]]] = [
        ("Topics", "The topics hold something else than a worker wrote.", _topics()),
        (
            "Rules",
            "The worker's code was changed before it ran: it posts what it must not, or the reverse.",
            _rules(),
        ),
        ("Rows", "The owner of the tables changed rows; the topics are as they were.", _rows()),
        ("Guards", "The owner changed what guards the tables, or a function.", _guards()),
    ]
    out = [HEAD]
    for title, told, lines in sections:
        out += [
            f"## {title}\n",
            f"{told}\n",
            "| what was done | differences | the first one |",
            "|---|---|---|",
        ]
        out += [f"| {name} | {count} | `{text}` |" for name, count, text in lines]
        out.append("")
    PAGE.write_text("\n".join(out))


def _line(name: str, differences: list[Difference], count: int) -> Line:
    if not differences:
        sys.exit(f"{name}: nothing was found")
    text = re.sub(r"test-[0-9a-f]{8}|\s+", " ", in_words(differences[0])).replace("|", "¦").replace("`", "'")
    return name, count, text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _topics() -> Iterator[Line]:
    original = piped(PIPELINE, sources(), 97)
    for change in CHANGES:
        pipe = Pipe(original.pipeline, {name: [*some] for name, some in original.topics.items()})
        change.do(pipe)
        found = pipe.audit(shown=10)[0]
        yield _line(change.name, found.shown, found.total)


def _rules() -> Iterator[Line]:
    for rule in RULES:
        pipeline = replace(PIPELINE, id_window_days=2) if "early" in rule.name else PIPELINE
        with edited(rule.name, [rule.edit]), in_python():
            found = piped(pipeline, sources(), 97).audit(shown=10)[0]
        yield _line(rule.name, [one for one in found.shown if one.check == rule.check], found.total)


def _rows() -> Iterator[Line]:
    with _pipeline() as settings:
        for name, (statement, *_) in TAMPERED.items():
            if "archive" not in statement:
                with tampering(settings) as owner:
                    tampered(owner, statement)
                    report = verified(settings)
                yield _line(name, but_functions(report.differences.shown), report.differences.total)


def _guards() -> Iterator[Line]:
    with _pipeline() as settings, postgres.connect(settings) as owner:
        (month,) = owner.execute("SELECT min(tableoid::regclass::text) FROM transactions").fetchone() or ("",)
        for name, (statement, *_) in DONE.items():
            if "{sealed}" not in statement and "{archived}" not in statement:
                with owner.transaction(force_rollback=True):
                    owner.execute(statement.format(open=month).encode())
                    found = [*catalog.differences(owner)]
                yield _line(name, found, len(found))


@contextmanager
def _pipeline() -> Iterator[Settings]:
    addresses = Stack().addresses
    if addresses is None:
        sys.exit("no stack is up: run `wallet local up`")
    with tempfile.TemporaryDirectory() as folder, pipeline_that_ran(addresses, Path(folder)) as settings:
        yield settings


if __name__ == "__main__":
    main()
