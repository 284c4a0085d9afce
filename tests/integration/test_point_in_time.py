"""What a balance lookup reads: the nearest snapshot and at most an interval of entries, whatever the history."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from psycopg import sql

from benchmarks.balance_lookup import BEGIN, INTERVAL, SPAN, fill
from config.settings import Settings
from sinks import postgres
from sinks.postgres import Connection
from tests.effort import in_full

pytestmark = pytest.mark.integration

Node = dict[str, Any]


def queries(connection: Connection) -> tuple[str, str]:
    """The two queries of `wallet_balance_at`, since EXPLAIN shows no calls: for $1 and $2, and for $1 to $5."""
    row = connection.execute(
        "SELECT prosrc FROM pg_proc WHERE oid = 'wallet_balance_at(text, timestamptz)'::regprocedure"
    ).fetchone()
    assert row
    first = re.search(r"BEGIN\s+(SELECT.*?)INTO nearest\b(.*?);", row[0], re.DOTALL)
    second = re.search(r"EXECUTE\s+'(.*?)'\s+INTO later", row[0], re.DOTALL)
    assert first
    assert second
    nearest = first[1].replace("wallet_balance_at.at", "$2") + first[2].replace("wallet_balance_at.at", "$2")
    entries = re.sub(r"'\s*\n\s*'", "", second[1]).replace("''", "'")
    return nearest.replace("wallet_balance_at.wallet_id", "$1"), entries


def plan(connection: Connection, query: str, *values: object) -> list[Node]:
    """Every node of the plan as it was executed."""
    bound = re.sub(r"\$(\d)", lambda at: sql.Literal(values[int(at[1]) - 1]).as_string(connection), query)
    row = connection.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {bound}".encode()).fetchone()
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
        in_full(100_000, "force_generic_plan"),
        in_full(100_000, "force_custom_plan"),
    ],
)
def test_a_lookup_reads_an_interval_of_entries_and_no_other_month(
    settings: Settings, entries: int, mode: str
) -> None:
    fill(settings, "busy", entries, snapshots=True)
    with postgres.connect(settings, postgres.READER) as connection:
        connection.execute(f"SET plan_cache_mode = {mode}")
        nearest, later = queries(connection)
        connection.execute(f"PREPARE nearest (text, timestamptz) AS {nearest}".encode())
        # Shortly after the year began, in its midst just before a snapshot, at its end, and long after it.
        for fraction in (0.003, 0.4999, 0.99, 2.0):
            at = BEGIN + fraction * SPAN
            expected = min(entries, int(fraction * entries + 1e-9))
            found = connection.execute("SELECT wallet_balance_at('busy', %s)", [at]).fetchone()
            assert found is not None
            assert abs(found[0] / 3 - expected) <= 1
            looked_up = connection.execute(f"EXECUTE nearest('busy', '{at.isoformat()}')".encode()).fetchone()
            assert looked_up is not None
            _, sequence, recorded_at, following = looked_up
            plans = plan(connection, "EXECUTE nearest($1, $2)", "busy", at)
            plans += plan(connection, later, "busy", sequence, following, recorded_at, at)
            scans = [node for node in plans if "Relation Name" in node]
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
