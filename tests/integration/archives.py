"""What the archive's tests share: ledgers with old dates in topic and tables, and what comes of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from threading import Event

import numpy as np
from confluent_kafka import Producer

from audit.avro import read_entry
from audit.report import Difference
from audit.seals import MonthSpans, Seals
from config.settings import Settings
from operations.setup.init import initialise
from schemas.codec import encode_snapshot
from schemas.records import PERIOD
from sinks import postgres
from sinks.archive.work import Archive, Moved, Sealed, Waiting
from sinks.postgres import Connection
from tests.integration.tables import write
from tests.ledgers import DAY_MS, LEDGER_FRAME, PATIENCE_S, SNAPSHOT_FRAME, Ledger, wait_until
from tests.reading import read_all
from topics.clients import librdkafka
from topics.incoming import Incoming
from topics.names import Topics


def month(ago: int) -> date:
    """The first day of the month that was so many months ago, UTC."""
    today = datetime.now(UTC)
    years, months = divmod(today.year * 12 + today.month - 1 - ago, 12)
    return date(years, months + 1, 1)


def first_ms(month: date) -> int:
    """Its first millisecond."""
    return (month - date(1970, 1, 1)).days * DAY_MS


#: Two months that are due, then two without entries, then one that is not due on any day of this month.
FIRST, SECOND, EMPTY, RECENT = month(6), month(5), month(4), month(2)
FIRST_MS, SECOND_MS, RECENT_MS = (first_ms(one) for one in (FIRST, SECOND, RECENT))

PARTITIONS = 2


def table(month: date) -> str:
    """The table of a month's entries."""
    return f"transactions_{month:%Y_%m}"


def name(month: date) -> str:
    """A month as people write it."""
    return f"{month:%Y-%m}"


def two_months(partition: int, wallets: int = 7) -> Ledger:
    """90 entries: 40 of FIRST, 40 of SECOND, 10 of RECENT. Two of the wallets end in FIRST, one more in SECOND."""
    ledger = Ledger(partition, FIRST_MS)
    ledger.post_many(40, wallets, step_ms=DAY_MS // 2)
    ledger.recorded_ms = SECOND_MS
    ledger.post_many(40, wallets - 2, step_ms=DAY_MS // 2)
    ledger.recorded_ms = RECENT_MS
    return ledger.post_many(10, wallets - 3, step_ms=DAY_MS // 2)


def publish_dated(settings: Settings, *ledgers: Ledger, start: int = 0, transactions_of: int = 0) -> None:
    """Write ledgers to their topic, each entry with the time that it was recorded at, as a worker does.

    `transactions_of`: in Kafka transactions of so many entries, each of which leaves a mark in the log.
    """
    marked = {"transactional.id": f"{settings.prefix}-test"} if transactions_of else {}
    producer = Producer(librdkafka(settings) | marked)
    if transactions_of:
        producer.init_transactions(PATIENCE_S)
    for ledger in ledgers:
        for number, written in enumerate(ledger.written[start:], start=1):
            entry = written.entry
            if transactions_of and number % transactions_of == 1:
                producer.begin_transaction()
            producer.produce(
                Topics.of(settings).ledger,
                LEDGER_FRAME + written.body,
                entry.transaction.wallet_id.encode(),
                ledger.partition,
                timestamp=entry.recorded_ms,
            )
            producer.poll(0)
            if transactions_of and number % transactions_of == 0:
                producer.commit_transaction(PATIENCE_S)
    assert producer.flush(PATIENCE_S) == 0


def publish_snapshot(settings: Settings, ledger: Ledger) -> None:
    """Write a PERIOD snapshot of a ledger's newest entry."""
    newest = ledger.written[-1]
    producer = Producer(librdkafka(settings))
    producer.produce(
        Topics.of(settings).snapshots,
        SNAPSHOT_FRAME + encode_snapshot(newest.balance, PERIOD),
        newest.entry.transaction.wallet_id.encode(),
        ledger.partition,
        timestamp=newest.entry.recorded_ms,
    )
    assert producer.flush(PATIENCE_S) == 0


def enter(settings: Settings, *ledgers: Ledger) -> None:
    """Bring ledgers into the tables, and the ledger sink's positions behind them, without running it."""
    write(settings, *ledgers)
    with postgres.connect(settings, postgres.WRITER) as writer:
        for ledger in ledgers:
            count = len(ledger.written)
            writer.execute(
                "INSERT INTO sink_positions (sink, topic, partition, next_offset, high_offset, owner)"
                " VALUES ('ledger', %s, %s, %s, %s, 'nobody')",
                [Topics.of(settings).ledger, ledger.partition, count, count],
            )


@contextmanager
def archiving(settings: Settings) -> Iterator[Archive]:
    """A session that has the lock, once whoever has it lets it go."""
    with Archive(settings, "test", Incoming) as archive:
        wait_until(archive.is_ours, "the lock is ours")
        yield archive


def work(settings: Settings, only: date | None = None) -> tuple[list[Sealed], list[Moved], Waiting | None]:
    """Seal and move what is due."""
    with archiving(settings) as archive:
        return archive.work(lambda _month, _size: lambda _done: None, Event(), only)


def seal_differences(settings: Settings, connection: Connection) -> list[Difference]:
    """What an audit of all partitions tells of the seals, beside a ledger that is as it must be."""
    seals, places = Seals(), MonthSpans()
    told = [*seals.differences(connection)]
    for message in read_all(settings, Topics.of(settings).ledger, settings.partitions):
        entry = read_entry((message.value() or b"")[len(LEDGER_FRAME) :])
        places.add(message.partition() or 0, np.array([entry.recorded_ms]), np.array([message.offset() or 0]))
    return [*told, *seals.beside_ledger(places)]


def reasons(settings: Settings, month: date) -> list[str]:
    """Why a month is not complete."""
    with Archive(settings, "test", Incoming) as archive:
        (found,) = (one for one in archive.months() if one.first == month)
        return [*archive.completeness(found).reasons]


def pipeline_with(settings: Settings, *ledgers: Ledger, transactions_of: int = 0) -> Settings:
    """A pipeline whose ledger topic and tables hold these, one in each partition."""
    settings = settings.model_copy(update={"partitions": len(ledgers)})
    initialise(settings)
    publish_dated(settings, *ledgers, transactions_of=transactions_of)
    enter(settings, *ledgers)
    return settings
