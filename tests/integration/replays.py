"""What the tests of replays share: topics that hold something, a database that was filled from them, and damage."""

from collections.abc import Iterable, Sequence
from threading import Event

from confluent_kafka import Producer
from psycopg import sql

from config.settings import Settings
from operations.replay import run as replay_run
from operations.replay.ranges import Range, plans
from operations.replay.run import Outcome
from operations.setup.init import initialise
from sinks import postgres
from sinks.consumer import sinks_of
from sinks.postgres import databases, questions
from tests.integration.tables import unguarded
from tests.ledgers import DAY_MS, LEDGER_FRAME, NOVEMBER_MS, PATIENCE_S, SNAPSHOT_FRAME, Ledger, drain
from topics.clients import librdkafka
from topics.names import Topics

SINKS = ("ledger", "snapshots", "rejections")
EVERYTHING = Range(from_beginning=True)
ENTRIES = 300
TABLES = {
    "wallets": "wallet_id",
    "transactions": "wallet_id, sequence",
    "transaction_archive": "wallet_id, sequence",
    "transaction_snapshots": "wallet_id, sequence, reason",
    "rejections": "source_partition, source_offset",
}

Timed = tuple[int, bytes | None, bytes | None, list[tuple[str, bytes | None]], int]


class StopAfter(Event):
    """An event that is set when it has been asked so often: a signal that comes in the middle."""

    def __init__(self, questions: int) -> None:
        super().__init__()
        self._left = questions

    def is_set(self) -> bool:
        self._left -= 1
        return self._left < 0


def filled(settings: Settings) -> Settings:
    """Three topics with records of two months, each recorded at its time, and all of it in Postgres."""
    initialise(settings)
    settings = settings.model_copy(update={"sink_batch_rows": 40, "retry_wait_s": 0.5})
    topics = Topics.of(settings)
    ledgers = [Ledger(partition).post_many(ENTRIES, step_ms=DAY_MS // 8) for partition in range(4)]
    publish(settings, topics.ledger, (one for ledger in ledgers for one in entries_of(ledger)))
    snapshots: list[Timed] = [
        (ledger.partition, key.encode(), SNAPSHOT_FRAME + body, [], NOVEMBER_MS)
        for ledger in ledgers
        for key, body in ledger.snapshots(7)
    ]
    publish(settings, topics.snapshots, snapshots)
    publish(settings, topics.rejections, [rejection(number) for number in range(60)])
    drain(settings, *SINKS)
    return settings


def entries_of(ledger: Ledger, start: int = 0) -> Iterable[Timed]:
    """The records of a ledger, at their times."""
    for written in ledger.written[start:]:
        key = written.entry.transaction.wallet_id.encode()
        yield ledger.partition, key, LEDGER_FRAME + written.body, [], written.entry.recorded_ms


def rejection(number: int) -> Timed:
    """A record of the rejections topic."""
    told = {
        "reason": "INVALID",
        "detail": "amount is 0",
        "topic": "t",
        "partition": str(number % 4),
        "offset": str(number),
        "at": str(NOVEMBER_MS),
    }
    headers: list[tuple[str, bytes | None]] = [("trace", b"\xff")]
    headers += [(f"rejection.{name}", value.encode()) for name, value in told.items()]
    return number % 4, b"key", bytes([number]), headers, NOVEMBER_MS


def publish(settings: Settings, topic: str, records: Iterable[Timed]) -> None:
    """Write records at their times."""
    producer = Producer(librdkafka(settings))
    for partition, key, value, headers, at_ms in records:
        producer.produce(topic, value, key, partition, headers=headers, timestamp=at_ms)  # type: ignore[arg-type] # None is fine
        producer.poll(0)
    assert producer.flush(PATIENCE_S) == 0


def another_database(settings: Settings) -> Settings:
    """The same pipeline with an empty database of its own; drop it with `databases.drop`."""
    name = settings.postgres.get_secret_value().rpartition("/")[2]
    empty = databases.create(settings, f"{name}_2")
    initialise(empty)
    return empty


def rows(settings: Settings) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table that sinks write, SEAL snapshots left out."""
    with postgres.connect(settings) as connection:
        found = {}
        for table, order in TABLES.items():
            where = sql.SQL("WHERE reason <> 'SEAL'" if table == "transaction_snapshots" else "")
            query = sql.SQL("SELECT * FROM {} {} ORDER BY {}").format(
                sql.Identifier(table), where, sql.SQL(order)
            )
            found[table] = connection.execute(query).fetchall()
    return found


def places(settings: Settings, sink: str = "ledger") -> dict[int, tuple[int, int]]:
    """next_offset and high_offset of each partition of a sink."""
    return {
        one.partition: (one.next_offset, one.high_offset)
        for one in questions.positions(settings)
        if one.sink == sink
    }


def damage(settings: Settings, month: str, statement: str) -> None:
    """What an owner could do to a month's table who takes its trigger away for a moment."""
    table = sql.Identifier(f"transactions_{month}")
    with postgres.connect(settings) as owner, unguarded(owner):
        assert owner.execute(sql.SQL(statement).format(table)).rowcount > 0


def replayed(
    settings: Settings, wanted: Range = EVERYTHING, names: Sequence[str] = SINKS, stop: Event | None = None
) -> list[Outcome]:
    """Replay in earnest."""
    planned = plans(settings, sinks_of(settings, names), wanted)
    return list(replay_run.execute(settings, planned, stop or Event()))


def tried(settings: Settings, wanted: Range = EVERYTHING, names: Sequence[str] = SINKS) -> list[Outcome]:
    """Replay as a dry run."""
    planned = plans(settings, sinks_of(settings, names), wanted)
    return [replay_run.try_out(settings, plan, Event()) for plan in planned]


def resumed(settings: Settings, names: Sequence[str] = SINKS) -> list[Outcome]:
    """Go on with what is unfinished."""
    return list(replay_run.resume(settings, sinks_of(settings, names), Event()))


def counted(outcome: Outcome) -> tuple[int, int, int]:
    """Records read, inserted, and found equal."""
    stretches = outcome.stretches
    return (
        sum(one.read for one in stretches),
        sum(one.inserted for one in stretches),
        sum(one.equal for one in stretches),
    )
