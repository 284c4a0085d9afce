"""The end of a run: `wallet verify` as an operator would run it, and the slow fold of the tests."""

import json
import os
import subprocess
import sys
from pathlib import Path

from config.settings import Settings
from operations.cli.context import environment
from tests.faults.load import Load
from tests.faults.report import Report
from tests.integration.exactness import assert_exact
from tests.reading import read_all
from topics.names import Topics

VERIFY_S = 900.0


def audit(settings: Settings, load: Load, report: Report) -> None:
    """Add to the report what was counted and every difference."""
    _verify(settings, report)
    topic = Topics.of(settings).transactions
    report.events = sum(1 for _ in read_all(settings, topic, settings.partitions))
    _count_input(report.events, load, report)
    try:
        exact = assert_exact(settings)
        report.checks["records exact by the slow fold"] = f"{exact.records:,} of {report.events:,}"
    except AssertionError as difference:
        report.problems.append(f"the slow fold differs: {difference}")


def _verify(settings: Settings, report: Report) -> None:
    found = Path(report.folder) / "verify.json"
    ours = {name: value for name, value in os.environ.items() if not name.startswith("WALLET_")}
    done = subprocess.run(
        [sys.executable, "-m", "operations", "verify", "--json"],
        env=ours | environment(settings),
        capture_output=True,
        text=True,
        timeout=VERIFY_S,
        check=False,
    )
    found.write_text(done.stdout)
    report.checks["wallet verify"] = f"exit code {done.returncode}"
    if done.returncode:
        report.problems.append(f"wallet verify ended with code {done.returncode}: {done.stderr[-400:]}")
    if done.stdout:
        report.differences = json.loads(done.stdout)["differences"]


def _count_input(records: int, load: Load, report: Report) -> None:
    """What Kafka confirmed to upstream must be in the topic, or there would be nothing to be exact about."""
    least, most = load.confirmed, load.confirmed + load.uncertain
    report.checks["records of upstream that are in the topic"] = f"{records:,} (confirmed {least:,})"
    if not least <= records <= most:
        report.problems.append(f"upstream had {least} to {most} records confirmed, the topic holds {records}")
