"""What `wallet verify` prints, and with `--export` its report as one JSON file, to compare on another machine.

`certified` holds what two audits of the same pipeline up to the same offsets share, and `seal` is its SHA-256: the
same seal means the same outcomes, to the byte.
"""

import json
import os
import platform
from dataclasses import asdict
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import typer
from confluent_kafka import libversion
from rich.console import Console

from audit.report import SHOWN_CHARACTERS, Difference, Fields, Report
from config.errors import DIFFERENCES, ConfigurationError
from config.folders import written_whole
from config.times import rfc3339
from operations.cli.output import as_line, console, show_table, table

FORMAT = 1
PACKAGES = ("wallet-ledger", "aiokafka", "confluent-kafka", "fastavro", "numpy", "psycopg", "rocksdict")
#: Fields of a partition that two audits share.
COMPARED = (
    "partition",
    "from_offset",
    "to_offset",
    "records",
    "entries",
    "rejections",
    "snapshots",
    "amount",
    "entries_hash",
    "rejections_hash",
)


def show(report: Report, *, as_json: bool) -> int:
    """Print the report; returns the exit code, 0 only if nothing differs."""
    if as_json:
        typer.echo(as_line(report.to_json()))
    else:
        _print(report, console())
    return 0 if report.clean else DIFFERENCES


def _print(report: Report, output: Console) -> None:
    columns = {
        "partition": "partition",
        "from": "from_offset",
        "to": "to_offset",
        "in flight": "in_flight",
        "records": "records",
        "entries": "entries",
        "rejections": "rejections",
        "snapshots": "snapshots",
        "balances": "balances",
    }
    rows = ([f"{getattr(one, name):,}" for name in columns.values()] for one in report.covered)
    show_table(table([*columns], rows, numbers=columns, title=f"pipeline {report.prefix}"))
    for line in _told(report):
        output.print(line, markup=False)
    for difference in report.differences.shown:
        output.print(in_words(difference), markup=False)
    for finding in report.findings.shown:
        output.print(f"finding: {finding.kind} {finding.subject}: {finding.detail}", markup=False)
    if report.findings.total > len(report.findings.shown):
        output.print(f"... {report.findings.total - len(report.findings.shown)} more findings", markup=False)
    for (where, what), count in sorted(report.differences.counts.items()):
        output.print(f"{where}: {count} {what}", markup=False)
    more = report.differences.total - len(report.differences.shown)
    if report.clean:
        output.print("everything is as the input says", style="green")
    else:
        unshown = f", {more} of them not shown" if more > 0 else ""
        output.print(f"{report.differences.total} differences{unshown}", style="red")


def _told(report: Report) -> list[str]:
    """The coverage, in words."""
    records = sum(one.records for one in report.covered)
    rate = f"{records / report.folding_s:,.0f} records/s" if report.folding_s else "no records"
    cpu = f"{report.folding_cpu_s:.1f} s of CPU"
    lines = [
        f"{records:,} records judged in {report.folding_s:.1f} s ({rate}, {cpu}), {report.took_s:.1f} s in all"
    ]
    if report.rows:
        rows = ", ".join(f"{table} {count:,}" for table, count in report.rows.items())
        lines.append(f"rows compared: {rows}")
    else:
        lines.append("PostgreSQL was not checked")
    if report.functions:
        lines.append(
            ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in report.functions.items())
        )
    lines += [f"from the verified point {report.since}"] if report.since else []
    lines += [f"verified point saved: {report.saved}"] if report.saved else []
    not_kept = sum(one.not_kept for one in report.covered)
    lines += [f"{not_kept:,} records deleted by retention were not compared"] if not_kept else []
    return lines + [f"note: {note}" for note in report.notes]


def in_words(difference: Difference) -> str:
    """One difference: where, what, and both versions."""
    places = {
        "partition": difference.partition,
        "offset": difference.offset,
        "source offset": difference.source_offset,
        "wallet": difference.wallet_id,
        "sequence": difference.sequence,
    }
    place = ", ".join(f"{name} {value}" for name, value in places.items() if value is not None)
    what = f"{difference.what} ({difference.check})" if difference.check else difference.what
    versions = [
        f"{name} {_cut(version)}"
        for name, version in (("expected", difference.expected), ("found", difference.found))
        if version is not None
    ]
    told = "; ".join(part for part in (difference.detail, *versions) if part)
    return f"{what}: {difference.where}{f' ({place})' if place else ''}: {told}"


def _cut(fields: Fields) -> str:
    text = as_line(fields)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


def refuse_unwritable(path: Path) -> None:
    """Raise ConfigurationError if the file cannot be created, before hours of work for it."""
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise ConfigurationError(f"--export {path} cannot be written: name a file in an existing folder")


def export(report: Report, cluster: str, topic_id: str, path: Path) -> None:
    """Write the file atomically."""
    certified: dict[str, Any] = {
        "prefix": report.prefix,
        "cluster": cluster,
        "topic_id": topic_id,
        "policy": report.policy,
        "clean": report.clean,
        "partitions": [{name: asdict(one)[name] for name in COMPARED} for one in report.covered],
    }
    told = {
        "format": FORMAT,
        "at": rfc3339(datetime.now(UTC)),
        "versions": {
            "python": platform.python_version(),
            "librdkafka": libversion()[0],
            **{name: version(name) for name in PACKAGES},
        },
        "certified": certified,
        "seal": sha256(json.dumps(certified, sort_keys=True).encode()).hexdigest(),
        "report": json.loads(as_line(report.to_json())),
    }
    with written_whole(path) as out:
        json.dump(told, out, indent=1)
        out.write("\n")
