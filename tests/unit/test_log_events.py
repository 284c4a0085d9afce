"""docs/operations/log-events.md has every event that the programs log, with its level, and no other."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.rooms import ROOMS

ROOT = Path(__file__).parents[2]
LEVELS = {
    "debug": "debug",
    "info": "info",
    "warning": "warning",
    "error": "error",
    "exception": "error",
    "failure": "error",
}
#: Loggers that are not ours: of libraries, whose lines are made fewer or led past a progress bar.
OF_LIBRARIES = {"config/logs.py", "console/serve.py", "operations/cli/output.py", "operations/setup/init.py"}


def modules() -> Iterator[tuple[str, str]]:
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            yield str(path.relative_to(ROOT)), path.read_text("utf-8")


def calls(text: str) -> Iterator[tuple[str, ast.expr]]:
    """Level and event of every call of a log."""
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="log"), attr=method),
                args=[event, *_],
            ) if method in LEVELS:
                yield LEVELS[method], event


def test_every_event_that_is_logged_is_on_the_page_with_its_level() -> None:
    # The event of a progress is its title.
    logged, titled = {("progress", "info")}, set()
    for name, text in modules():
        for level, event in calls(text):
            if isinstance(event, ast.Constant):
                logged.add((str(event.value), level))
            else:
                titled.add(name)
    assert titled == {"operations/cli/output.py"}
    page = (ROOT / "docs/operations/log-events.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ([\w, ]+) \| .+ \|$", page, re.MULTILINE)
    assert [event for event, _ in rows] == sorted({event for event, _ in rows})
    assert {(event, level) for event, levels in rows for level in levels.split(", ")} == logged


def test_no_program_logs_sentences() -> None:
    plain = {
        name
        for name, text in modules()
        if re.search(r"logging\.getLogger|self\.log\.(debug|info|warning|error|exception)\(", text)
    }
    assert plain == OF_LIBRARIES
