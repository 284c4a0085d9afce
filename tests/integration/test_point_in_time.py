"""What a balance lookup reads: the nearest snapshot and at most an interval of entries, whatever the history."""

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from benchmarks.balance_lookup import BEGIN, INTERVAL, SPAN, fill
from config.settings import Settings
from sinks import postgres
from sinks.postgres import Connection

pytestmark = pytest.mark.integration

Node = dict[str, Any]


def body_of(connection: Connection, function: str) -> str:
    """The query within a SQL function of a wallet and a time, with $1 and $2 for them: EXPLAIN shows no calls."""
    row = connection.execute("SELECT pg_get_function_sqlbody(%s::regproc)", [function]).fetchone()
    assert row
    query = re.sub(rf"{function}\.wallet_id\b", "$1", row[0].removeprefix("BEGIN ATOMIC").removesuffix("END"))
    return re.sub(rf"{function}\.at\b", "$2", query).strip().removesuffix(";")


def plan(connection: Connection, wallet_id: str, at: datetime) -> list[Node]:
    """Every node of the plan as it was executed."""
    row = connection.execute(
        f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE lookup('{wallet_id}', '{at.isoformat()}')"
    ).fetchone()
    assert row
    return list(nodes(row[0][0]["Plan"]))


def nodes(node: Node) -> Iterator[Node]:
    yield node
    for child in node.get("Plans", ()):
        yield from nodes(child)


def read(node: Node) -> int:
    """Rows that a scan looked at."""
    removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return int((node["Actual Rows"] + removed) * node["Actual Loops"])


@pytest.mark.parametrize(
    ("entries", "mode"),
    [
        (5_000, "force_generic_plan"),
        pytest.param(100_000, "force_generic_plan", marks=pytest.mark.full),
        pytest.param(100_000, "force_custom_plan", marks=pytest.mark.full),
    ],
)
def test_a_lookup_reads_an_interval_of_entries_and_no_other_month(
    settings: Settings, entries: int, mode: str
) -> None:
    fill(settings, "busy", entries, snapshots=True)
    with postgres.connect(settings, postgres.READER) as connection:
        connection.execute(f"SET plan_cache_mode = {mode}")
        connection.execute(
            f"PREPARE lookup (text, timestamptz) AS {body_of(connection, 'wallet_balance_at')}"
        )
        # Shortly after the year began, in its midst just before a snapshot, at its end, and long after it.
        for fraction in (0.003, 0.4999, 0.99, 2.0):
            at = BEGIN + fraction * SPAN
            expected = min(entries, int(fraction * entries + 1e-9))
            found = connection.execute("SELECT wallet_balance_at('busy', %s)", [at]).fetchone()
            assert found is not None
            assert abs(found[0] / 3 - expected) <= 1
            scans = [node for node in plan(connection, "busy", at) if "Relation Name" in node]
            entry_scans = [node for node in scans if node["Relation Name"].startswith("transactions_")]
            assert entry_scans
            assert sum(map(read, entry_scans)) <= INTERVAL
            assert sum(read(node) for node in scans if node not in entry_scans) <= 3
            # Pages say what an index scan walked over as well: some descents, and an interval of entries.
            pages = [node["Shared Hit Blocks"] + node["Shared Read Blocks"] for node in entry_scans]
            assert sum(pages) <= INTERVAL / 4
            # From the snapshot's month to that of the time; the others were pruned, or never begun.
            executed = [node for node in entry_scans if node["Actual Loops"]]
            snapshot_at = min(at, BEGIN + SPAN) - (INTERVAL + 1) / entries * SPAN
            assert f"transactions_{snapshot_at:%Y_%m}" <= min(node["Relation Name"] for node in executed)
            assert max(node["Relation Name"] for node in executed) <= f"transactions_{at:%Y_%m}"
            assert not any(node["Node Type"] == "Seq Scan" for node in executed if read(node))
