"""The writer against a real Postgres: one attempt more than needed changes nothing."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing

import pytest
from confluent_kafka import Message
from psycopg import sql

from config.errors import Stopped
from config.settings import Settings
from sinks import postgres
from sinks.ledger import LedgerSink
from sinks.migrations import migrate
from sinks.months import make_months, months_of
from sinks.observer import Observer
from sinks.positions import Lost, Move, Place, Position, advance, claim, session_name
from sinks.sink import Record
from sinks.writer import Batch, Writer, prepare
from tests.ledgers import DAY_MS, LEDGER_FRAME, NOVEMBER_MS, Ledger

pytestmark = pytest.mark.integration

SINK = LedgerSink("test.ledger")


@pytest.fixture
def writer(settings: Settings) -> Iterator[Writer]:
    migrate(settings)
    writer = Writer(settings, SINK, "me", threading.Event(), Observer())
    yield writer
    writer.close()


END_OTHERS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


class Waits(Observer):
    """Remembers what was waited for."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def waiting(self, sink: str, reason: str) -> None:
        assert sink == SINK.name
        self.reasons.append(reason)


def records(ledger: Ledger) -> list[Record]:
    return [
        Message("test.ledger", partition=ledger.partition, offset=offset, value=LEDGER_FRAME + written.body)
        for offset, written in enumerate(ledger.written)
    ]


def count(settings: Settings) -> int:
    return postgres.counts(settings)["transactions"]


def test_a_batch_whose_commit_was_not_answered_is_not_written_again(
    writer: Writer, settings: Settings
) -> None:
    assert writer.claim({0: 0}) == {0: Position(0, 0)}
    batch = prepare(SINK, Batch([Move(0, 0, 10)], records(Ledger(0).post_many(10)), []))
    assert writer.write(batch)
    assert writer.write(batch)
    assert count(settings) == 10


def test_a_writer_that_was_suspended_in_the_middle_of_a_transaction_writes_it_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(settings)
    impatient = settings.model_copy(update={"transaction_timeout_s": 0.2})
    naps = iter([1.0])

    def advance_slowly(connection: postgres.Connection, place: Place, moves: Sequence[Move]) -> None:
        advance(connection, place, moves)
        time.sleep(next(naps, 0))

    monkeypatch.setattr("sinks.positions.advance", advance_slowly)
    observer = Waits()
    with closing(Writer(impatient, SINK, "me", threading.Event(), observer)) as writer:
        writer.claim({0: 0})
        assert writer.write(prepare(SINK, Batch([Move(0, 0, 10)], records(Ledger(0).post_many(10)), [])))
    assert observer.reasons == ["terminating connection due to idle-in-transaction timeout"]
    assert count(settings) == 10


def test_a_postgres_that_is_read_only_just_now_is_waited_for(settings: Settings) -> None:
    migrate(settings)
    observer = Waits()
    with postgres.connect(settings) as operator:
        name = sql.Identifier(operator.info.dbname)
        operator.execute(sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(name))
        with closing(Writer(settings, SINK, "me", threading.Event(), observer)) as writer:
            operator.execute(sql.SQL("ALTER DATABASE {} RESET default_transaction_read_only").format(name))
            # This session stays read-only until somebody ends it, as after a failover.
            end = threading.Timer(1.0, operator.execute, [END_OTHERS])
            end.start()
            assert writer.claim({0: 0}) == {0: Position(0, 0)}
            end.join()
    assert "read-only" in observer.reasons[0]


def test_of_a_batch_that_is_in_for_one_partition_the_other_is_written(
    writer: Writer, settings: Settings
) -> None:
    writer.claim({0: 0, 1: 0})
    first, second = records(Ledger(0).post_many(10)), records(Ledger(1).post_many(10))
    assert writer.write(prepare(SINK, Batch([Move(0, 0, 10)], first, [])))
    assert writer.write(prepare(SINK, Batch([Move(0, 0, 10), Move(1, 0, 10)], [*first, *second], [])))
    assert count(settings) == 20


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("UPDATE sink_positions SET next_offset = 5 WHERE partition = 1", 5),
        ("UPDATE sink_positions SET next_offset = 15 WHERE partition = 1", 15),
        ("DELETE FROM sink_positions WHERE partition = 1", None),
        ("UPDATE sink_positions SET owner = 'of a session that has ended' WHERE partition = 1", 10),
        ("UPDATE sink_positions SET owner = 'somebody', next_offset = 9 WHERE partition = 1", 9),
    ],
)
def test_nothing_is_written_where_a_position_was_moved_be_it_of_another_partition(
    writer: Writer, settings: Settings, change: str, found: int | None
) -> None:
    writer.claim({0: 0, 1: 10})
    with postgres.connect(settings, name=session_name(SINK.name, "somebody")) as connection:
        connection.execute(change.encode())
        for attempt in (writer.look, lambda batch: writer.write(prepare(SINK, batch))):
            with pytest.raises(Lost) as lost:
                attempt(Batch([Move(0, 0, 10)], records(Ledger(0).post_many(10)), [], {1: 10}))
            assert (lost.value.fenced, lost.value.moved) == (frozenset(), {1: found})
    assert count(settings) == 0


def test_a_position_that_is_lost_between_the_look_and_the_write_is_told_apart_too(
    writer: Writer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.claim({0: 0})

    def advance_late(connection: postgres.Connection, place: Place, moves: Sequence[Move]) -> None:
        with postgres.connect(settings) as operator:
            operator.execute("DELETE FROM sink_positions")
        advance(connection, place, moves)

    monkeypatch.setattr("sinks.positions.advance", advance_late)
    with pytest.raises(Lost) as lost:
        writer.write(prepare(SINK, Batch([Move(0, 0, 10)], records(Ledger(0).post_many(10)), [])))
    assert lost.value.moved == {0: None}
    assert count(settings) == 0


def test_a_claim_takes_the_position_over_and_keeps_what_was_reached(
    writer: Writer, settings: Settings
) -> None:
    writer.claim({0: 0})
    writer.write(prepare(SINK, Batch([Move(0, 0, 10)], records(Ledger(0).post_many(10)), [])))
    other = Writer(settings, SINK, "another", threading.Event(), Observer())
    assert other.claim({0: 0, 1: 42}) == {0: Position(10, 10), 1: Position(42, 42)}
    with pytest.raises(Lost) as lost:
        writer.write(prepare(SINK, Batch([Move(0, 10, 20)], [], [])))
    other.close()
    assert lost.value.fenced == {0}
    assert not lost.value.moved


def test_a_session_that_hangs_in_the_middle_of_a_copy_is_ended_by_who_takes_over(settings: Settings) -> None:
    migrate(settings)
    brief = settings.model_copy(update={"transaction_timeout_s": 5.0})
    place = Place(SINK.name, SINK.topic, "host:1:hung")
    name = session_name(SINK.name, place.owner)
    with closing(postgres.connect(brief, postgres.WRITER, name=name)) as hung:
        claim(hung, place, 0, 0)
        hung.execute("BEGIN")
        advance(hung, place, [Move(0, 0, 10)])
        hung.pgconn.exec_(b"COPY wallets FROM STDIN")
        successor = Writer(brief, SINK, "host:2:successor", threading.Event(), Observer())
        assert successor.claim({0: 0}) == {0: Position(0, 0)}
        assert successor.write(prepare(SINK, Batch([Move(0, 0, 10)], records(Ledger(0).post_many(10)), [])))
        successor.close()
    assert count(settings) == 10


#: What a VACUUM of wallets and a CREATE INDEX CONCURRENTLY on it hold for as long as they take.
AS_VACUUM_DOES = "LOCK TABLE wallets IN SHARE UPDATE EXCLUSIVE MODE"


def months_of_tables(settings: Settings) -> int:
    with postgres.connect(settings) as connection:
        return connection.execute(
            "SELECT FROM pg_inherits WHERE inhparent = 'transactions'::regclass"
        ).rowcount


def test_a_month_ahead_that_a_vacuum_is_in_the_way_of_keeps_no_row_from_being_written(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    migrate(settings.model_copy(update={"months_ahead": 1}))
    batch = prepare(SINK, Batch([Move(0, 0, 10)], records(Ledger(0).post_many(10)), []))
    with postgres.connect(settings) as other:
        make_months(other, months_of(batch.fresh.days), settings)
        before = months_of_tables(settings)
        with other.transaction():
            other.execute(AS_VACUUM_DOES)
            with closing(Writer(settings, SINK, "me", threading.Event(), Observer())) as writer:
                writer.claim({0: 0})
                assert writer.write(batch)
    assert count(settings) == 10
    assert "month_ahead_not_made" in caplog.messages
    assert months_of_tables(settings) == before


def test_a_month_that_a_row_needs_is_waited_for_and_then_ends_the_sink(settings: Settings) -> None:
    migrate(settings)
    impatient = settings.model_copy(update={"startup_wait_s": 0.1})
    far = Ledger(0, NOVEMBER_MS + 4_000 * DAY_MS).post_many(10)
    with (
        postgres.connect(settings) as other,
        other.transaction(),
        closing(Writer(impatient, SINK, "me", threading.Event(), Observer())) as writer,
    ):
        other.execute(AS_VACUUM_DOES)
        writer.claim({0: 0})
        with pytest.raises(Stopped, match=r"no lock on wallets in 0\.1 s to make 2037-10"):
            writer.write(prepare(SINK, Batch([Move(0, 0, 10)], records(far), [])))
    assert count(settings) == 0
