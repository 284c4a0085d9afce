"""`wallet replay` on a real Kafka and a real Postgres: what is missing comes back, what is there is compared."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

import pytest

from config.errors import ConfigurationError, NotReachable, Refused, Stopped
from config.settings import Settings
from operations.replay import run as replay_run
from operations.replay.ranges import Range, plans
from schemas.records import from_ms
from sinks import postgres, replay
from sinks.consumer import sinks_of
from sinks.positions import Move
from sinks.postgres import databases, questions
from sinks.replay import Replay, Trial
from sinks.tables import Differs
from tests.integration.replays import (
    ENTRIES,
    EVERYTHING,
    SINKS,
    StopAfter,
    another_database,
    counted,
    damage,
    filled,
    places,
    replayed,
    resumed,
    rows,
    tried,
)
from tests.integration.tables import archive_november
from tests.integration.workers import Worker
from tests.ledgers import DAY_MS, NOVEMBER_MS, drain, running, wait_until
from topics.topic_log import TopicLog

pytestmark = pytest.mark.integration

ALL = 4 * ENTRIES
ONE_OF_THEM = "FROM {} WHERE source_partition = 1 AND source_offset BETWEEN 20 AND 29"


@pytest.fixture
def pipeline(settings: Settings) -> Settings:
    return filled(settings)


@pytest.fixture
def empty(pipeline: Settings) -> Iterator[Settings]:
    another = another_database(pipeline)
    yield another
    databases.drop(pipeline, another.postgres.get_secret_value().rpartition("/")[2])


def test_a_replay_of_everything_into_an_empty_database_ends_equal_row_for_row(
    pipeline: Settings, empty: Settings
) -> None:
    assert [counted(one)[1] for one in tried(empty)] == [counted(one)[0] for one in tried(empty)]
    assert places(empty) == {}
    outcomes = replayed(empty)
    assert [(one.sink, counted(one)) for one in outcomes] == [
        ("ledger", (ALL, ALL, 0)),
        ("snapshots", (len(rows(pipeline)["transaction_snapshots"]),) * 2 + (0,)),
        ("rejections", (60, 60, 0)),
    ]
    assert all(one.finished and one.problem is None for one in outcomes)
    assert rows(empty) == rows(pipeline)
    assert [places(empty, sink) for sink in SINKS] == [places(pipeline, sink) for sink in SINKS]
    drain(empty, *SINKS)
    assert rows(empty) == rows(pipeline)


def test_missing_rows_are_counted_by_a_dry_run_and_come_back_by_a_replay(pipeline: Settings) -> None:
    whole, stood = rows(pipeline), places(pipeline)
    damage(pipeline, "2026_11", f"DELETE {ONE_OF_THEM}")
    damaged = rows(pipeline)
    dry = tried(pipeline, names=["ledger"])[0]
    assert counted(dry) == (ALL, 10, ALL - 10)
    assert [one.inserted for one in dry.stretches] == [0, 10, 0, 0]
    assert (rows(pipeline), places(pipeline)) == (damaged, stood)
    assert counted(replayed(pipeline, names=["ledger"])[0]) == (ALL, 10, ALL - 10)
    assert (rows(pipeline), places(pipeline)) == (whole, stood)
    assert [counted(one)[1] for one in replayed(pipeline)] == [0, 0, 0]


def test_a_row_that_differs_stops_a_replay_with_both_versions(pipeline: Settings) -> None:
    damage(
        pipeline, "2026_11", "UPDATE {} SET amount = 999999 WHERE source_partition = 1 AND source_offset = 25"
    )
    stood = places(pipeline)
    for outcome in (*tried(pipeline, names=["ledger"]), *replayed(pipeline, names=["ledger"])):
        assert isinstance(outcome.problem, Differs)
        assert outcome.problem.versions == "amount is 999999 in the table and 26 in the topic"
        assert not outcome.finished
        # What was read before it counts: partition 0 whole, and nothing of the batch that holds the row.
        assert counted(outcome) == (ENTRIES, 0, ENTRIES)
    assert places(pipeline) == stood


@pytest.mark.full
def test_a_replay_that_is_stopped_goes_on_where_it_was(pipeline: Settings, empty: Settings) -> None:
    stopped = replayed(empty, names=["ledger"], stop=StopAfter(12))[0]
    read = counted(stopped)[0]
    assert not stopped.finished
    assert 0 < read < ALL
    with pytest.raises(Refused, match=r"is unfinished.*--resume.*--abandon"):
        replayed(empty, names=["ledger"])
    # A sink that is started instead goes on by itself, and the replay compares what is left of it.
    drain(empty, "ledger")
    assert rows(empty)["transactions"] == rows(pipeline)["transactions"]
    assert counted(resumed(empty, ["ledger"])[0]) == (ALL, read, ALL - read)
    with pytest.raises(Refused, match="nothing to resume"):
        resumed(empty, ["ledger"])
    assert rows(empty)["transactions"] == rows(pipeline)["transactions"]
    assert places(empty) == places(pipeline)


@pytest.mark.full
def test_a_replay_that_is_killed_is_resumed_and_ends_equal(
    pipeline: Settings, empty: Settings, tmp_path: Path
) -> None:
    small = empty.model_copy(update={"sink_batch_rows": 2})
    with Worker(small, tmp_path / "replay.log", "replay", "--from-beginning", "--execute"):
        wait_until(lambda: len(rows(empty)["transactions"]) > 50, "it has written some rows")
    assert len(rows(empty)["transactions"]) < ALL
    wait_until(lambda: not _sessions(empty), "its session is gone")
    assert [counted(one)[1] for one in resumed(empty)] == [
        ALL,
        len(rows(pipeline)["transaction_snapshots"]),
        60,
    ]
    assert rows(empty) == rows(pipeline)


def _sessions(settings: Settings) -> bool:
    with postgres.connect(settings) as connection:
        return bool(
            connection.execute(
                "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()"
                " AND application_name LIKE 'wallet sink %'"
            ).fetchone()
        )


def _owners(settings: Settings) -> set[str]:
    return {one.owner for one in questions.positions(settings) if one.sink == "ledger"}


@pytest.mark.full
def test_a_sink_that_runs_and_a_replay_that_runs_are_in_the_way_and_named(pipeline: Settings) -> None:
    former = _owners(pipeline)
    with running(pipeline, "ledger"):
        wait_until(lambda: not former & _owners(pipeline), "the sink has all its partitions")
        with pytest.raises(
            Refused, match=r"sink ledger is running: process \d+ on .* \(PostgreSQL session \d+"
        ):
            replayed(pipeline, names=["ledger"])
        assert "sink ledger is running" in str(tried(pipeline, names=["ledger"])[0].running)
        # None of the three is begun, as one of them may not be.
        with pytest.raises(Refused, match="sink ledger is running"):
            replayed(pipeline, names=["snapshots", "ledger"])
        assert replay.unfinished(pipeline, sinks_of(pipeline, ["snapshots"])[0]) == []
    sink = sinks_of(pipeline, ["ledger"])[0]
    plan = plans(pipeline, [sink], EVERYTHING)[0]
    with closing(Replay(pipeline, sink, Event())) as first:
        first.begin(plan.begins, plan.stretches)
        with pytest.raises(Refused, match=r"a replay of sink ledger is running: process \d+"):
            replayed(pipeline, names=["ledger"])


@pytest.mark.full
def test_a_sink_that_starts_takes_over_from_a_replay_and_nothing_is_lost(
    pipeline: Settings, empty: Settings
) -> None:
    sink = sinks_of(empty, ["ledger"])[0]
    plan = plans(empty, [sink], EVERYTHING)[0]
    with closing(Replay(empty, sink, Event())) as one:
        one.begin(plan.begins, plan.stretches)
        batch = one.prepare(Move(0, 0, 1), [])
        drain(empty, "ledger")
        with pytest.raises(Stopped, match="sink ledger was started during the replay"):
            one.write(batch)
    assert rows(empty)["transactions"] == rows(pipeline)["transactions"]
    assert counted(resumed(empty, ["ledger"])[0]) == (ALL, 0, ALL)


def test_a_replay_whose_postgres_is_away_says_how_to_go_on(pipeline: Settings) -> None:
    sink = sinks_of(pipeline, ["ledger"])[0]
    plan = plans(pipeline, [sink], EVERYTHING)[0]
    with closing(Trial(pipeline, sink)) as trial, closing(Replay(pipeline, sink, Event())) as one:
        one.begin(plan.begins, plan.stretches)
        with postgres.connect(pipeline) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name LIKE 'wallet %'"
            )
        with pytest.raises(NotReachable, match="PostgreSQL is away"):
            trial.missing([])
        with pytest.raises(NotReachable, match=r"PostgreSQL is away.*`wallet replay ledger --resume`"):
            one.stretches()
        assert one.stretches() == list(plan.stretches)
        one.abandon()


def test_a_replay_whose_login_may_not_write_is_refused_with_the_table(empty: Settings) -> None:
    sink = sinks_of(empty, ["ledger"])[0]
    plan = plans(empty, [sink], EVERYTHING)[0]
    with postgres.connect(empty) as owner:
        owner.execute("REVOKE INSERT ON wallets FROM wallet_writer")
    (outcome,) = replay_run.execute(empty, [plan], Event())
    assert isinstance(outcome.problem, Refused)
    assert "permission denied for table wallets" in str(outcome.problem)


@pytest.mark.full
def test_a_batch_whose_answer_never_came_is_not_counted_twice(pipeline: Settings) -> None:
    sink = sinks_of(pipeline, ["ledger"])[0]
    plan = plans(pipeline, [sink], EVERYTHING)[0]
    first = plan.stretches[0]
    with closing(TopicLog(pipeline, sink.topic)) as log:
        records = next(log.slices(0, first.from_offset, first.to_offset, 5))
    with closing(Replay(pipeline, sink, Event())) as one:
        one.begin(plan.begins, plan.stretches)
        batch = one.prepare(Move(0, first.from_offset, (records[-1].offset() or 0) + 1), records)
        one.write(batch)
        one.write(batch)
        assert [stretch.read for stretch in one.stretches()] == [5, 0, 0, 0]


@pytest.mark.full
def test_rows_of_a_sealed_month_are_compared_in_the_archive(pipeline: Settings) -> None:
    archive_november(pipeline)
    whole = rows(pipeline)
    assert whole["transaction_archive"]
    assert counted(replayed(pipeline, names=["ledger"])[0]) == (ALL, 0, ALL)
    assert rows(pipeline) == whole
    damage(pipeline, "2026_11", f"DELETE {ONE_OF_THEM}")
    problem = replayed(pipeline, names=["ledger"])[0].problem
    assert "missing although its month is sealed" in str(problem)


@pytest.mark.full
def test_times_and_offsets_bound_a_replay(pipeline: Settings) -> None:
    day = from_ms(NOVEMBER_MS) + timedelta(days=3)
    step = timedelta(milliseconds=DAY_MS // 8)
    # Entry n is recorded at (n + 1) steps after the first of November.
    for begin, end, read in (
        (day, day + timedelta(days=1), 8),
        (day + timedelta(microseconds=1), day + timedelta(days=1), 7),
        (day, day + step + timedelta(microseconds=1), 2),
        (day, day, 0),
    ):
        outcome = tried(pipeline, Range(from_time=begin, to_time=end), ["ledger"])[0]
        assert [one.read for one in outcome.stretches] == [read] * 4
    bounded = tried(pipeline, Range(2, from_offset=7, to_offset=11), ["ledger"])[0]
    assert [(one.partition, one.from_offset, one.to_offset, one.read) for one in bounded.stretches] == [
        (2, 7, 11, 4)
    ]
    ever = datetime.now(UTC) - from_ms(NOVEMBER_MS)
    assert counted(tried(pipeline, Range(back=ever), ["ledger"])[0])[0] == ALL


LATER = datetime(2999, 1, 1, tzinfo=UTC)
BAD: list[tuple[Range, Sequence[str], str]] = [
    (Range(), ["ledger"], "choose where to start"),
    (Range(from_beginning=True, back=timedelta(1)), ["ledger"], "choose where to start"),
    (Range(1, from_offset=9_999), ["ledger"], r"9999 is not in .*ledger partition 1, which holds 0 to 300"),
    (Range(1, from_offset=0, to_offset=301), ["ledger"], r"--to-offset 301 is not in .* 0 to 300"),
    (Range(1, from_offset=9, to_offset=8), ["ledger"], "the start 9 is after the end 8"),
    (Range(4, from_beginning=True), ["ledger"], "partitions 0 to 3"),
    (Range(from_offset=1), ["ledger"], "--partition N"),
    (Range(1, from_offset=1), SINKS, "name the sink"),
    (Range(from_time=LATER), SINKS, "--from 2999.* is in the future"),
    (Range(from_beginning=True, to_time=LATER), SINKS, "--to 2999.* future"),
    (
        Range(back=timedelta(days=1), to_time=datetime(2026, 1, 1, tzinfo=UTC)),
        SINKS,
        "after --to:",
    ),
    (Range(back=timedelta(days=999_999)), SINKS, "before the year 1"),
]


@pytest.mark.full
def test_ranges_that_cannot_be_are_refused_with_what_can(pipeline: Settings, empty: Settings) -> None:
    for wanted, names, told in BAD:
        with pytest.raises(ConfigurationError, match=told):
            plans(pipeline, sinks_of(pipeline, names), wanted)
    with pytest.raises(Refused, match="only up to offset 0: a replay from 100 would leave a hole"):
        plans(empty, sinks_of(empty, ["ledger"]), Range(1, from_offset=100))
