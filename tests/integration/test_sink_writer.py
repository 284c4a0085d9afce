"""The writer against a real Postgres: one attempt more than needed changes nothing."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing

import psycopg
import pytest
from confluent_kafka import Message
from psycopg import conninfo, sql
from pydantic import SecretStr

from config.errors import Refused, Stopped
from config.settings import Settings
from sinks import postgres
from sinks.batch import Batch, Prepared, prepare
from sinks.ledger import LedgerSink
from sinks.observer import Observer
from sinks.positions import Holder, Lost, Move, Origin, Position, advance, claim, session_name
from sinks.postgres import questions
from sinks.postgres.migrations import migrate
from sinks.postgres.months import make_months, months_of
from sinks.sink import Record
from sinks.writer import Writer
from tests.ledgers import DAY_MS, LEDGER_FRAME, NOVEMBER_MS, Ledger, Waits, wait_until
from tests.positions_contract import CASES
from topics.cluster import Offsets

pytestmark = pytest.mark.integration

SINK = LedgerSink("test.ledger")
HERE = Origin("this cluster", "this topic")


def opened(settings: Settings, owner: str = "me", observer: Observer | None = None) -> closing[Writer]:
    return closing(Writer(settings, SINK, owner, threading.Event(), observer or Observer()))


@pytest.fixture
def writer(settings: Settings) -> Iterator[Writer]:
    migrate(settings)
    with opened(settings) as writer:
        yield writer


END_OTHERS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


def claimed(writer: Writer, begins: dict[int, int], origin: Origin = HERE) -> dict[int, Position] | None:
    """Partitions taken over, whose logs begin there and end far behind."""
    return writer.claim({partition: Offsets(begin, 1_000) for partition, begin in begins.items()}, origin)


def records(ledger: Ledger) -> list[Record]:
    return [
        Message("test.ledger", partition=ledger.partition, offset=offset, value=LEDGER_FRAME + written.body)
        for offset, written in enumerate(ledger.written)
    ]


def ten() -> Prepared:
    """A batch of the first ten records of a partition."""
    return prepare(SINK, Batch([Move(0, 0, 10)], records(Ledger(0).post_many(10)), []))


def count(settings: Settings) -> int:
    return questions.counts(settings)["transactions"]


def test_a_batch_whose_commit_was_not_answered_is_not_written_again(
    writer: Writer, settings: Settings
) -> None:
    assert claimed(writer, {0: 0}) == {0: Position(0, 0)}
    batch = ten()
    assert writer.write(batch)
    assert writer.write(batch)
    assert count(settings) == 10


def test_a_writer_that_was_suspended_in_the_middle_of_a_transaction_writes_it_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(settings)
    impatient = settings.model_copy(update={"transaction_timeout_s": 0.2})
    suspended: list[int] = []

    def advance_slowly(connection: postgres.Connection, holder: Holder, moves: Sequence[Move]) -> None:
        advance(connection, holder, moves)
        if not suspended:
            suspended.append(connection.info.backend_pid)
            with postgres.connect(settings) as other:
                alive = "SELECT FROM pg_stat_activity WHERE pid = %s"
                wait_until(
                    lambda: other.execute(alive, suspended).fetchone() is None, "the server ends its session"
                )

    monkeypatch.setattr("sinks.positions.advance", advance_slowly)
    observer = Waits()
    with opened(impatient, observer=observer) as writer:
        claimed(writer, {0: 0})
        assert writer.write(ten())
    assert observer.sinks == {SINK.name}
    assert observer.reasons == ["terminating connection due to idle-in-transaction timeout"]
    assert count(settings) == 10


def test_a_postgres_that_is_read_only_just_now_is_waited_for(settings: Settings) -> None:
    migrate(settings)
    with postgres.connect(settings) as operator:
        # This session stays read-only until somebody ends it, as after a failover.
        observer = Waits(lambda: operator.execute(END_OTHERS))
        name = sql.Identifier(operator.info.dbname)
        operator.execute(sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(name))
        with opened(settings, observer=observer) as writer:
            operator.execute(sql.SQL("ALTER DATABASE {} RESET default_transaction_read_only").format(name))
            assert claimed(writer, {0: 0}) == {0: Position(0, 0)}
    assert "read-only" in observer.reasons[0]


def test_of_a_batch_that_is_in_for_one_partition_the_other_is_written(
    writer: Writer, settings: Settings
) -> None:
    claimed(writer, {0: 0, 1: 0})
    first, second = records(Ledger(0).post_many(10)), records(Ledger(1).post_many(10))
    assert writer.write(prepare(SINK, Batch([Move(0, 0, 10)], first, [])))
    assert writer.write(prepare(SINK, Batch([Move(0, 0, 10), Move(1, 0, 10)], [*first, *second], [])))
    assert count(settings) == 20


#: What is done to the position of partition 1, and what it is found to be.
MOVED = [
    ("UPDATE sink_positions SET next_offset = 5 WHERE partition = 1", 5),
    ("UPDATE sink_positions SET next_offset = 15, high_offset = 15 WHERE partition = 1", 15),
    ("DELETE FROM sink_positions WHERE partition = 1", None),
    ("UPDATE sink_positions SET owner = 'of a session that has ended' WHERE partition = 1", 10),
    ("UPDATE sink_positions SET owner = 'somebody', next_offset = 9 WHERE partition = 1", 9),
]


def test_nothing_is_written_where_a_position_was_moved_be_it_of_another_partition(
    writer: Writer, settings: Settings
) -> None:
    with postgres.connect(settings, name=session_name(SINK.name, "somebody")) as connection:
        for change, found in MOVED:
            connection.execute("DELETE FROM sink_positions")
            assert claimed(writer, {0: 0, 1: 10}) == {0: Position(0, 0), 1: Position(10, 10)}
            connection.execute(change.encode())
            for attempt in (writer.look, lambda batch: writer.write(prepare(SINK, batch))):
                with pytest.raises(Lost) as lost:
                    attempt(Batch([Move(0, 0, 10)], records(Ledger(0).post_many(10)), [], {1: 10}))
                assert (lost.value.fenced, lost.value.moved) == (frozenset(), {1: found}), change
    assert count(settings) == 0


def test_a_position_that_is_lost_between_the_look_and_the_write_is_told_apart_too(
    writer: Writer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed(writer, {0: 0})

    def advance_late(connection: postgres.Connection, holder: Holder, moves: Sequence[Move]) -> None:
        with postgres.connect(settings) as operator:
            operator.execute("DELETE FROM sink_positions")
        advance(connection, holder, moves)

    monkeypatch.setattr("sinks.positions.advance", advance_late)
    with pytest.raises(Lost) as lost:
        writer.write(ten())
    assert lost.value.moved == {0: None}
    assert count(settings) == 0


def test_a_claim_takes_the_position_over_and_keeps_what_was_reached(
    writer: Writer, settings: Settings
) -> None:
    claimed(writer, {0: 0})
    writer.write(ten())
    with opened(settings, "another") as other:
        assert claimed(other, {0: 0, 1: 42}) == {0: Position(10, 10), 1: Position(42, 42)}
        with pytest.raises(Lost) as lost:
            writer.write(prepare(SINK, Batch([Move(0, 10, 20)], [], [])))
    assert lost.value.fenced == {0}
    assert not lost.value.moved


def test_a_session_that_hangs_in_the_middle_of_a_copy_is_ended_by_who_takes_over(settings: Settings) -> None:
    migrate(settings)
    brief = settings.model_copy(update={"transaction_timeout_s": 5.0})
    holder = Holder(SINK.name, SINK.topic, "host:1:hung")
    name = session_name(SINK.name, holder.owner)
    with closing(postgres.connect(brief, postgres.WRITER, name=name)) as hung:
        claim(hung, holder, HERE, 0, 4, Offsets(0, 10))
        hung.execute("BEGIN")
        advance(hung, holder, [Move(0, 0, 10)])
        hung.pgconn.exec_(b"COPY wallets FROM STDIN")
        with opened(brief, "host:2:successor") as successor:
            assert claimed(successor, {0: 0}) == {0: Position(0, 0)}
            assert successor.write(ten())
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
    batch = ten()
    with postgres.connect(settings) as other:
        make_months(other, months_of(batch.fresh.days), settings)
        before = months_of_tables(settings)
        with other.transaction():
            other.execute(AS_VACUUM_DOES)
            with opened(settings) as writer:
                claimed(writer, {0: 0})
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
        opened(impatient) as writer,
    ):
        other.execute(AS_VACUUM_DOES)
        claimed(writer, {0: 0})
        with pytest.raises(Stopped, match=r"no lock on wallets within 0\.1 s to make 2037-10"):
            writer.write(prepare(SINK, Batch([Move(0, 0, 10)], records(far), [])))
    assert count(settings) == 0


def test_who_waits_for_a_month_hears_that_it_is_to_stop(settings: Settings) -> None:
    migrate(settings)
    far, stop = Ledger(0, NOVEMBER_MS + 4_000 * DAY_MS).post_many(10), threading.Event()
    batch = Batch([Move(0, 0, 10)], records(far), [])
    with (
        postgres.connect(settings) as other,
        other.transaction(),
        closing(Writer(settings, SINK, "me", stop, Observer())) as writer,
    ):
        other.execute(AS_VACUUM_DOES)
        claimed(writer, {0: 0})
        stop.set()
        # It would wait WALLET_STARTUP_WAIT_S, and then raise.
        assert not writer.write(prepare(SINK, batch))
    assert count(settings) == 0


@pytest.mark.parametrize(
    "other", [HERE._replace(cluster_id="another cluster"), HERE._replace(topic_id="a topic made again")]
)
def test_a_position_in_another_topic_of_the_same_name_is_refused_and_left_to_its_owner(
    writer: Writer, settings: Settings, other: Origin
) -> None:
    claimed(writer, {0: 0})
    with opened(settings, "another") as stranger:
        for _ in range(2):
            with pytest.raises(
                Refused, match="check that WALLET_KAFKA and WALLET_POSTGRES belong together"
            ) as told:
                claimed(stranger, {0: 0, 1: 0}, other)
            assert all(name in str(told.value) for name in (*HERE, *other))
    assert writer.write(ten())


def test_positions_of_the_last_release_are_of_the_topic_that_they_are_first_claimed_in(
    writer: Writer, settings: Settings
) -> None:
    claimed(writer, {0: 0, 1: 0})
    with postgres.connect(settings) as owner:
        owner.execute(
            "UPDATE sink_positions SET cluster_id = NULL, topic_id = NULL, next_offset = 5, high_offset = 5"
        )
        # One that cannot be of this topic is not taken for it.
        with pytest.raises(
            Stopped, match=r"is at offset 5 of test\.ledger partition 0, which holds 6 to 1000"
        ):
            claimed(writer, {0: 6})
        assert claimed(writer, {0: 0, 1: 0}) == {0: Position(5, 5), 1: Position(5, 5)}
        found = owner.execute("SELECT DISTINCT cluster_id, topic_id FROM sink_positions").fetchall()
    assert found == [HERE]


def test_a_position_is_never_beyond_what_was_written(writer: Writer, settings: Settings) -> None:
    claimed(writer, {0: 0})
    with postgres.connect(settings) as owner, pytest.raises(psycopg.errors.CheckViolation):
        owner.execute("UPDATE sink_positions SET next_offset = 1")


def test_a_right_that_the_role_lacks_is_named_at_the_start(settings: Settings) -> None:
    migrate(settings)
    with postgres.connect(settings) as owner:
        for right, named in (
            ("INSERT ON transactions", "INSERT on transactions"),
            ("UPDATE ON sink_positions", "UPDATE on sink_positions"),
            ("SELECT ON wallet_migrations", "permission denied for table wallet_migrations"),
        ):
            owner.execute(f"REVOKE {right} FROM wallet_writer".encode())
            with pytest.raises(Refused, match=named):
                opened(settings)
            owner.execute(f"GRANT {right} TO wallet_writer".encode())


def test_a_login_that_may_not_be_a_writer_is_refused_with_the_role(settings: Settings) -> None:
    migrate(settings)
    name = f"{settings.prefix.replace('-', '_')}_nobody"
    with postgres.connect(settings) as owner:
        login = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
        owner.execute(login.format(sql.Identifier(name), sql.Literal(name)))
        database, role = sql.Identifier(owner.info.dbname), sql.Identifier(name)
        owner.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, role))
        try:
            dsn = conninfo.make_conninfo(settings.postgres.get_secret_value(), user=name, password=name)
            theirs = settings.model_copy(update={"postgres": SecretStr(dsn)})
            with pytest.raises(Refused, match="GRANT wallet_writer TO it"):
                opened(theirs)
        finally:
            owner.execute(sql.SQL("REVOKE CONNECT ON DATABASE {} FROM {}").format(database, role))
            owner.execute(sql.SQL("DROP ROLE {}").format(role))


def test_positions_are_kept_as_the_simulated_postgres_keeps_them(settings: Settings) -> None:
    migrate(settings)
    with postgres.connect(settings) as owner:
        for case in CASES:
            with ExitStack() as sessions:
                case(lambda: sessions.enter_context(postgres.connect(settings, postgres.WRITER)))
            owner.execute("DELETE FROM sink_positions")
