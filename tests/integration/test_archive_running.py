"""The archive while others read and write, when it is killed, and as a sink."""

from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from config.settings import Settings
from operations.looking import status
from schemas.records import from_ms
from sinks import postgres
from sinks.archive.work import LocksTaken
from tests.integration.archives import (
    EMPTY,
    FIRST,
    FIRST_MS,
    PARTITIONS,
    SECOND,
    archiving,
    first_ms,
    month,
    name,
    pipeline_with,
    publish_dated,
    publish_snapshot,
    table,
    two_months,
    work,
)
from tests.integration.tables import change, rows
from tests.integration.workers import Worker
from tests.ledgers import DAY_MS, Ledger, running, stands, wait_until
from topics.cluster import quiet_admin
from topics.names import Topics

pytestmark = pytest.mark.integration

SEALS = "SELECT month::text FROM archive_seals ORDER BY 1"
ARCHIVED = """
    SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'transaction_archive'::regclass ORDER BY 1
"""
OLD_ROWS = b"SELECT count(*), count(DISTINCT hash), sum(amount) FROM wallet_entries WHERE recorded_at < %s"
STATEMENT = b"SELECT count(*), sum(balance) FROM wallet_statement('wallet-0-3', 'epoch', %s)"
OLD_MONTHS = b"""
    SELECT DISTINCT date_trunc('month', recorded_at)::date FROM transactions WHERE recorded_at < %s ORDER BY 1
"""


@pytest.fixture
def pipeline(settings: Settings) -> Settings:
    few = settings.model_copy(update={"sink_batch_rows": 50})
    return pipeline_with(few, *(two_months(partition) for partition in range(PARTITIONS)))


def test_readers_see_every_row_exactly_once_while_months_move_and_the_ledger_sink_writes(
    settings: Settings,
) -> None:
    """Six months, one day apart at their bounds, move while new entries are written."""
    ledger = Ledger(0, FIRST_MS - 180 * DAY_MS).post_many(400, 20, step_ms=DAY_MS // 2)
    one = pipeline_with(settings.model_copy(update={"sink_batch_rows": 20}), ledger)
    bound = [from_ms(first_ms(EMPTY))]
    right = [*rows(one, OLD_ROWS, *bound), *rows(one, STATEMENT, *bound)]
    stop, seen = Event(), list[list[Any]]()

    def read() -> None:
        with postgres.connect(one, postgres.READER) as reader:
            while not stop.is_set():
                seen.append([row for asked in (OLD_ROWS, STATEMENT) for row in reader.execute(asked, bound)])

    readers = [Thread(target=read) for _ in range(2)]
    with running(one, "ledger") as sinks:
        for reader in readers:
            reader.start()
        ledger.recorded_ms = first_ms(month(0))
        publish_dated(one, ledger.post_many(1_500, 500), start=400)
        months = [first for (first,) in rows(one, OLD_MONTHS, *bound)]
        for first in months:
            _, (moved,), _ = work(one, first)
            assert moved.month.first == first
            before = len(seen)
            # Each of the two may have begun its reading before the month was moved.
            wait_until(lambda before=before: len(seen) >= before + 4, "both have read what it left")  # type: ignore[misc]
        wait_until(lambda: rows(one, "SELECT count(*) FROM wallet_entries") == [(1_900,)], "all is written")
    stop.set()
    for reader in readers:
        reader.join()
    assert sinks.failure is None
    assert len(months) >= 6
    assert all(found == right for found in seen)


def waits_for(settings: Settings, table: str) -> bool:
    return bool(
        rows(settings, "SELECT FROM pg_locks WHERE NOT granted AND relation = to_regclass(%s)", table)
    )


def wait_until_nobody_works(settings: Settings) -> None:
    """The server notices within a second that a process is gone."""
    held = "SELECT FROM pg_locks JOIN pg_database AS d ON d.oid = database WHERE locktype = 'advisory'"
    wait_until(lambda: not rows(settings, f"{held} AND datname = current_database()"), "the lock is free")


@pytest.mark.full
def test_a_run_that_is_killed_is_finished_by_the_next_wherever_it_was(
    pipeline: Settings, tmp_path: Path
) -> None:
    def run() -> Worker:
        return Worker(pipeline, tmp_path / "log", "archive", "run")

    with postgres.connect(pipeline) as other:
        # In the transaction that seals: none of it is there.
        with other.transaction():
            other.execute("LOCK TABLE transaction_snapshots IN SHARE MODE")
            with run():
                wait_until(
                    lambda: waits_for(pipeline, "transaction_snapshots"), "it is in the middle of sealing"
                )
        wait_until_nobody_works(pipeline)
        assert rows(pipeline, SEALS) == []
        assert rows(pipeline, "SELECT count(*) FROM transaction_snapshots") == [(0,)]
        # Between sealing and moving: sealed and not moved, which the next run does.
        with other.transaction():
            other.execute("LOCK TABLE transactions IN ACCESS SHARE MODE")
            with run():
                wait_until(lambda: waits_for(pipeline, "transactions"), "it wants to move")
        wait_until_nobody_works(pipeline)
        assert rows(pipeline, SEALS) == [(str(FIRST),)]
        assert rows(pipeline, ARCHIVED) == []
    run().done()
    assert rows(pipeline, SEALS) == [(str(FIRST),), (str(SECOND),)]
    assert rows(pipeline, ARCHIVED) == [(table(FIRST),), (table(SECOND),)]


@pytest.mark.full
def test_the_archive_sink_waits_its_turn_and_goes_on_when_snapshots_come(
    pipeline: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sinks.archive.sink.LEAST_PAUSE_S", 0.1)
    change(pipeline, "UPDATE sink_positions SET next_offset = 39, high_offset = 39")
    with running(pipeline, "archive") as sinks:
        wait_until(lambda: len(stands(pipeline, "archive")) == PARTITIONS, "it has its share")
        with archiving(pipeline) as another:
            # Complete now, and told so by a snapshot of a later day; but another one is at it.
            change(
                pipeline, "UPDATE sink_positions SET next_offset = 90, high_offset = 90 WHERE sink = 'ledger'"
            )
            publish_snapshot(pipeline, two_months(0))
            wait_until(lambda: stands(pipeline, "archive") == {0: 1, 1: 0}, "the snapshot is read")
            assert rows(pipeline, SEALS) == []
            assert another.is_ours()
        wait_until(lambda: len(rows(pipeline, ARCHIVED)) == 2, "both months are archived")
    assert sinks.failure is None
    assert rows(
        pipeline, "SELECT topic, sum(next_offset) FROM sink_positions WHERE sink = 'archive' GROUP BY 1"
    ) == [(Topics.of(pipeline).snapshots, 1)]
    places = status.look(pipeline, quiet_admin(pipeline)).places
    assert [(one.position, one.lag) for one in places if one.reader == "archive"] == [(1, 0), (0, 0)]


def test_a_month_that_is_not_its_topics_stops_the_archive_sink(pipeline: Settings) -> None:
    change(pipeline, "UPDATE transactions SET amount = 7 WHERE (wallet_id, sequence) = ('wallet-0-2', 1)")
    with running(pipeline, "archive") as sinks:
        failure = sinks.wait_until_ended()
    assert f"month {name(FIRST)} differs from its topic" in str(failure)
    assert "'wallet-0-2' sequence 1: amount is 7 in the tables and 3 in the topic" in str(failure)


def test_a_month_whose_tables_are_in_use_is_moved_when_they_are_free(pipeline: Settings) -> None:
    """A long report is no failure: the sink tries again, and what it sealed stays sealed."""
    impatient = pipeline.model_copy(
        update={"lock_timeout_ms": 100, "startup_wait_s": 1.0, "retry_wait_s": 0.2}
    )
    with postgres.connect(pipeline) as report:
        report.execute("BEGIN; SELECT count(*) FROM wallets")
        with archiving(impatient) as archive:
            (first, *_) = archive.months()
            archive.seal(first, archive.completeness(first), lambda _done: None)
            with pytest.raises(LocksTaken, match=f"to move {name(FIRST)}, which is sealed"):
                archive.move(first)
        with running(impatient, "archive") as sinks:
            wait_until(lambda: waits_for(pipeline, "wallets"), "the sink wants to move it")
            assert rows(pipeline, ARCHIVED) == []
            report.execute("ROLLBACK")
            wait_until(lambda: len(rows(pipeline, ARCHIVED)) == 2, "both months are archived")
    assert sinks.failure is None
