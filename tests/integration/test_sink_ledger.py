"""The ledger sink on a real Kafka and a real Postgres: rows, replays, months, fences."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import psycopg
import pytest

from config.errors import Refused, Stopped
from config.settings import Settings
from operations.setup.init import initialise
from schemas.codec import NO_HASH, encode_entry, encode_transaction
from sinks import postgres
from sinks.ledger import LedgerSink
from sinks.positions import Holder, claim, session_name
from sinks.postgres import questions
from sinks.replay import Replay, Trial, origin_of
from sinks.replay_positions import Stretch
from tests.integration.pipelines import delete_topic, make_topics, transaction
from tests.integration.tables import change, rows
from tests.integration.workers import Worker
from tests.ledgers import (
    DAY_MS,
    LEDGER_FRAME,
    NOVEMBER_MS,
    Ledger,
    drain,
    publish,
    publish_entries,
    running,
    wait_until,
)
from topics.cluster import Offsets
from topics.names import Topics

pytestmark = pytest.mark.integration


@pytest.fixture
def pipeline(settings: Settings) -> Settings:
    initialise(settings)
    return settings


def everything(settings: Settings) -> list[tuple[Any, ...]]:
    """All rows with the transactions that wrote them, so that a row written again would show."""
    return rows(settings, "SELECT xmin::text, * FROM wallets ORDER BY 2") + rows(
        settings, "SELECT xmin::text, * FROM transactions ORDER BY wallet_id, sequence"
    )


def start_again_from(settings: Settings, offset: int) -> None:
    with postgres.connect(settings) as connection:
        connection.execute(
            "UPDATE sink_positions SET next_offset = %s, high_offset = greatest(high_offset, %s)",
            [offset, offset],
        )


def test_every_entry_becomes_its_row_once_however_often_it_is_read(pipeline: Settings) -> None:
    ledgers = [Ledger(partition).post_many(60) for partition in range(4)]
    publish_entries(pipeline, *ledgers)
    drain(pipeline, "ledger")

    first = {
        w.entry.transaction.wallet_id: w.entry for x in ledgers for w in x.written if w.entry.sequence == 1
    }
    assert rows(pipeline, "SELECT * FROM wallets ORDER BY 1") == [
        (name, entry.transaction.currency, entry.recorded_at) for name, entry in sorted(first.items())
    ]
    before = everything(pipeline)
    start_again_from(pipeline, 0)
    drain(pipeline, "ledger")
    assert everything(pipeline) == before
    with postgres.connect(pipeline) as connection:
        connection.execute("DELETE FROM sink_positions")
    drain(pipeline, "ledger")
    assert everything(pipeline) == before

    # It compares what it has written, and goes on with what is new.
    publish_entries(pipeline, *(ledger.post_many(40) for ledger in ledgers), start=60)
    start_again_from(pipeline, 0)
    drain(pipeline, "ledger")
    assert rows(pipeline, "SELECT DISTINCT high_offset FROM sink_positions") == [(100,)]
    found = sorted(rows(pipeline, "SELECT * FROM transactions"), key=itemgetter(0, 1))
    assert found == sorted((w.row for ledger in ledgers for w in ledger.written), key=itemgetter(0, 1))


def test_the_months_that_rows_need_are_made_before_them(pipeline: Settings) -> None:
    ledger = Ledger(0, recorded_ms=0)
    ledger.post("old")
    ledger.post("old", recorded_ms=NOVEMBER_MS - 1)
    ledger.post("old", recorded_ms=NOVEMBER_MS)
    ledger.post("old", recorded_ms=NOVEMBER_MS + 400 * DAY_MS)
    publish_entries(pipeline, ledger)
    drain(pipeline, "ledger")
    assert rows(pipeline, "SELECT tableoid::regclass::text FROM transactions ORDER BY sequence") == [
        ("transactions_1970_01",),
        ("transactions_2026_10",),
        ("transactions_2026_11",),
        ("transactions_2027_12",),
    ]


def test_new_rows_of_a_sealed_month_stop_the_sink(pipeline: Settings) -> None:
    with postgres.connect(pipeline) as owner:
        owner.execute(
            "INSERT INTO archive_seals (month, ranges, entries, amount, hash, seal)"
            " VALUES ('2026-11-01', '[]', 0, 0, '', '')"
        )
    publish_entries(pipeline, Ledger(0).post_many(1))
    with pytest.raises(Stopped, match="2026-11 is sealed"):
        drain(pipeline, "ledger")


def test_an_entry_whose_wallet_was_never_opened_stops_the_sink(pipeline: Settings) -> None:
    publish_entries(pipeline, Ledger(0).post_many(20, wallets=2), start=5)
    with pytest.raises(Stopped, match="foreign key"):
        drain(pipeline, "ledger")


def test_a_position_beyond_the_end_of_the_topic_stops_the_sink_with_both_numbers(pipeline: Settings) -> None:
    publish_entries(pipeline, Ledger(0).post_many(5))
    drain(pipeline, "ledger")
    start_again_from(pipeline, 77)
    with pytest.raises(Stopped, match=r"is at offset 77 .* holds 0 to"):
        drain(pipeline, "ledger")


def made_again(settings: Settings, ledger: Ledger) -> None:
    """The ledger topic is deleted, made again, and soon has more records than before."""
    delete_topic(settings, Topics.of(settings).ledger)
    make_topics(settings)
    publish_entries(settings, ledger)


def test_a_topic_that_was_made_again_is_refused_until_an_operator_has_its_records_compared(
    pipeline: Settings,
) -> None:
    ledger = Ledger(0).post_many(5)
    publish_entries(pipeline, ledger)
    drain(pipeline, "ledger")
    made_again(pipeline, ledger.post_many(50))
    with pytest.raises(Refused, match=r"this database was filled from topic .*ledger with id"):
        drain(pipeline, "ledger")
    sink = LedgerSink(Topics.of(pipeline).ledger)
    with pytest.raises(Refused, match=r"see docs/operations/replay\.md"):
        Trial(pipeline, sink)
    with (
        closing(Replay(pipeline, sink, threading.Event())) as replay,
        pytest.raises(Refused, match="with id"),
    ):
        replay.begin({0: 0}, [Stretch(0, 0, 5, 0)])
    assert rows(pipeline, "SELECT count(*) FROM transactions") == [(5,)]
    with postgres.connect(pipeline) as owner:
        # As docs/operations/replay.md has it.
        owner.execute(
            "UPDATE sink_positions SET cluster_id = NULL, topic_id = NULL, next_offset = 0 WHERE sink = 'ledger'"
        )
    drain(pipeline, "ledger")
    assert rows(pipeline, "SELECT count(*), count(DISTINCT hash) FROM transactions") == [(55, 55)]


def test_a_topic_that_is_made_again_while_the_sink_runs_is_not_read_on(pipeline: Settings) -> None:
    publish_entries(pipeline, Ledger(0).post_many(5))
    with running(pipeline, "ledger") as sinks:
        sinks.wait_until_caught_up()
        made_again(pipeline, Ledger(0).post_many(50))
        failure = sinks.wait_until_ended()
    assert isinstance(failure, Refused | Stopped), failure
    assert rows(pipeline, "SELECT count(*) FROM transactions") == [(5,)]


@contextmanager
def another_owner(settings: Settings) -> Iterator[Callable[[], object]]:
    """A sink that is not of our group, and lives; what this gives takes partition 0 over for it."""
    holder = Holder("ledger", f"{settings.prefix}.ledger", "the new owner")
    with postgres.connect(settings, name=session_name(holder.sink, holder.owner)) as connection:
        yield partial(
            claim, connection, holder, origin_of(settings, LedgerSink(holder.topic)), 0, 1, Offsets(0, 1_000)
        )


def test_a_sink_waits_asks_its_group_anew_and_stops_when_its_partition_is_taken_once_more(
    pipeline: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sinks.holdings.FENCED_SESSIONS", 0.3)
    monkeypatch.setattr("sinks.holdings.REMEMBERED", 1_000)
    owner = "SELECT next_offset, owner FROM sink_positions WHERE partition = 0"
    ledger = Ledger(0).post_many(10)
    publish_entries(pipeline, ledger)
    with another_owner(pipeline) as takes, running(pipeline, "ledger") as sinks:
        sinks.wait_until_caught_up()
        takes()
        publish_entries(pipeline, ledger.post_many(10), start=10)
        wait_until(lambda: rows(pipeline, owner)[0][1] != "the new owner", "the group gave it back")
        sinks.wait_until_caught_up()
        takes()
        publish_entries(pipeline, ledger.post_many(10), start=20)
        failure = sinks.wait_until_ended()
    assert isinstance(failure, Stopped)
    assert "to another owner" in str(failure)
    assert rows(pipeline, "SELECT count(*) FROM transactions") == [(20,)]
    assert rows(pipeline, owner) == [(20, "the new owner")]


def test_a_fenced_partition_does_not_keep_the_others_from_going_on(pipeline: Settings) -> None:
    ledgers = [Ledger(partition).post_many(10) for partition in range(4)]
    publish_entries(pipeline, *ledgers)
    with another_owner(pipeline) as takes, running(pipeline, "ledger") as zombie:
        zombie.wait_until_caught_up()
        takes()
        publish_entries(pipeline, *(ledger.post_many(10) for ledger in ledgers), start=10)
        wait_until(
            lambda: rows(pipeline, "SELECT count(*) FROM transactions") == [(70,)], "three partitions are in"
        )
    assert zombie.failure is None
    assert rows(pipeline, "SELECT partition, next_offset FROM sink_positions ORDER BY 1") == [
        (0, 10),
        (1, 20),
        (2, 20),
        (3, 20),
    ]


def test_two_sinks_share_the_partitions_and_write_every_row_once(pipeline: Settings) -> None:
    ledgers = [Ledger(partition).post_many(500) for partition in range(4)]
    small = pipeline.model_copy(update={"sink_batch_rows": 50})
    with running(small, "ledger") as first:
        publish_entries(pipeline, *ledgers)
        with running(small, "ledger") as second:
            publish_entries(pipeline, *(ledger.post_many(500) for ledger in ledgers), start=500)
            wait_until(
                lambda: len({at.owner for at in questions.positions(pipeline)}) == 2, "both own partitions"
            )
            second.wait_until_caught_up()
        publish_entries(pipeline, *(ledger.post_many(100) for ledger in ledgers), start=1_000)
        first.wait_until_caught_up()
    assert first.failure is None
    assert second.failure is None
    assert rows(
        pipeline, "SELECT count(*), count(DISTINCT (source_partition, source_offset)) FROM transactions"
    ) == [(4_400, 4_400)]


@pytest.mark.full
def test_a_month_is_attached_while_rows_are_written(pipeline: Settings) -> None:
    ledger = Ledger(0).post_many(300, step_ms=DAY_MS // 3)
    small = pipeline.model_copy(update={"sink_batch_rows": 10, "lock_timeout_ms": 100})
    others = Ledger(1).post_many(3_000, wallets=1_000)
    with running(small, "ledger") as sinks:
        publish_entries(pipeline, ledger, others)
        with postgres.connect(pipeline, postgres.WRITER) as connection:
            for month in range(1, 13):
                connection.execute("SELECT make_month(make_date(2031, %s, 1))", [month])
        sinks.wait_until_caught_up()
    assert sinks.failure is None
    assert rows(pipeline, "SELECT count(*) FROM transactions") == [(3_300,)]


def test_a_month_waits_for_its_lock_in_short_pieces_and_is_made_when_it_can_be(pipeline: Settings) -> None:
    impatient = pipeline.model_copy(update={"lock_timeout_ms": 50})
    publish_entries(pipeline, Ledger(0, NOVEMBER_MS + 400 * DAY_MS).post_many(3))
    with postgres.connect(pipeline) as connection:
        connection.execute("BEGIN")
        connection.execute("LOCK TABLE wallets IN ROW EXCLUSIVE MODE")
        with running(impatient, "ledger") as sinks:
            wait_until(lambda: _asks_for_lock(pipeline), "the sink asks for the lock")
            connection.execute("ROLLBACK")
            sinks.wait_until_caught_up()
    assert rows(pipeline, "SELECT count(*) FROM transactions") == [(3,)]


def _asks_for_lock(settings: Settings) -> bool:
    waiting = "SELECT FROM pg_locks WHERE relation = 'wallets'::regclass AND mode = 'ShareRowExclusiveLock'"
    return bool(rows(settings, waiting))


def test_rows_keep_their_months_in_utc_whatever_the_server_thinks(pipeline: Settings) -> None:
    with postgres.connect(pipeline) as connection:
        name = connection.info.dbname
        connection.execute(
            psycopg.sql.SQL("ALTER DATABASE {} SET timezone = 'Asia/Tokyo'").format(
                psycopg.sql.Identifier(name)
            )
        )
    last_of_month_ms = NOVEMBER_MS + (30 + 31) * DAY_MS - 1
    ledger = Ledger(0, last_of_month_ms)
    ledger.post("wallet")
    publish_entries(pipeline, ledger)
    drain(pipeline, "ledger")
    assert rows(pipeline, "SELECT tableoid::regclass::text, recorded_at FROM transactions") == [
        ("transactions_2026_12", ledger.written[0].entry.recorded_at)
    ]
    assert ledger.written[0].entry.recorded_at.utcoffset() == timedelta(0)


def test_a_row_that_differs_stops_the_sink_and_its_contents_are_in_no_log(
    pipeline: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    publish_entries(pipeline, Ledger(0).post_many(40))
    drain(pipeline, "ledger")
    change(
        pipeline,
        'UPDATE transactions SET amount = 123456, metadata = \'{"a": "sesame"}\' WHERE source_offset = 7',
    )
    start_again_from(pipeline, 0)
    with pytest.raises(Stopped) as stopped, caplog.at_level("INFO"):
        drain(pipeline, "ledger")
    assert str(stopped.value).startswith(
        "transactions (wallet_id='wallet-0-7', sequence=1, source_partition=0, source_offset=7) differs from its "
        "topic in amount, metadata: "
    )
    told = str(stopped.value) + caplog.text + "".join(str(record.__dict__) for record in caplog.records)
    assert "sesame" not in told
    assert "123456" not in told


#: An entry that decodes, of a partition that no column takes.
HUGE = encode_entry(encode_transaction(transaction(1, "huge")), 1, 1, NOVEMBER_MS, 2**31, 3) + NO_HASH


@pytest.mark.parametrize("body", [b"garbage", HUGE])
def test_a_record_that_does_not_decode_stops_the_sink_after_what_came_before(
    pipeline: Settings, body: bytes
) -> None:
    publish_entries(pipeline, Ledger(2).post_many(3))
    with running(pipeline, "ledger") as sinks:
        sinks.wait_until_caught_up()
        publish(pipeline, f"{pipeline.prefix}.ledger", [(2, b"wallet", LEDGER_FRAME + body, [])])
        failure = sinks.wait_until_ended()
    assert isinstance(failure, Stopped)
    assert "ledger partition 2 offset 3 does not decode" in str(failure)
    assert rows(pipeline, "SELECT count(*) FROM transactions") == [(3,)]


def test_a_zombie_that_comes_back_is_fenced_and_goes_on_as_an_ordinary_member(
    pipeline: Settings, tmp_path: Path
) -> None:
    ledgers = [Ledger(partition).post_many(2_000) for partition in range(4)]
    small = pipeline.model_copy(update={"sink_batch_rows": 20, "transaction_timeout_s": 5.0})
    with Worker(small, tmp_path / "zombie.log", "sink", "ledger") as zombie:
        publish_entries(pipeline, *ledgers)
        wait_until(
            lambda: rows(pipeline, "SELECT count(*) FROM transactions")[0][0] > 0, "the first one writes"
        )
        zombie.signal(signal.SIGSTOP)
        with running(small, "ledger") as successor:
            # Also waits for a transaction that the zombie may be in the middle of.
            successor.wait_until_caught_up()
            zombie.signal(signal.SIGCONT)
            wait_until(
                lambda: len({at.owner for at in questions.positions(pipeline)}) == 2, "both own partitions"
            )
            publish_entries(pipeline, *(ledger.post_many(50) for ledger in ledgers), start=2_000)
            successor.wait_until_caught_up()
        assert successor.failure is None
        zombie.stop()
    query = "SELECT count(*), count(DISTINCT (source_partition, source_offset)) FROM transactions"
    assert rows(pipeline, query) == [(8_200, 8_200)]
