"""Ledgers that tests feed sinks with, in bytes as a worker writes them; and sinks that run."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple
from uuid import UUID

from confluent_kafka import Consumer, Producer, TopicPartition

from config.settings import Settings
from schemas.codec import NO_HASH, chain, encode_entry, encode_snapshot, encode_transaction
from schemas.records import CREDIT, DEBIT, INTERVAL, TYPES, Balance, LedgerEntry, Transaction
from sinks.consumer import run
from sinks.observer import Observer
from sinks.postgres import questions
from topics.clients import librdkafka
from topics.incoming import Incoming
from topics.names import Topics

#: 2026-11-01T00:00:00Z, the first millisecond of a month.
NOVEMBER_MS = 1_793_491_200_000
DAY_MS = 86_400_000
PATIENCE_S = 60.0

LEDGER_FRAME = b"\0\0\0\0\2"
SNAPSHOT_FRAME = b"\0\0\0\0\4"


#: Partition, key, value and headers.
Record = tuple[int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]


class Written(NamedTuple):
    """An entry, and its Avro body with the hash."""

    entry: LedgerEntry
    body: bytes

    @property
    def balance(self) -> Balance:
        """The wallet's balance after it."""
        e = self.entry
        return Balance(
            e.transaction.wallet_id,
            e.transaction.currency,
            e.balance,
            e.sequence,
            e.recorded_ms,
            e.source_partition,
            e.source_offset,
            e.hash,
        )

    @property
    def row(self) -> tuple[object, ...]:
        """Its row in `transactions`."""
        e, t = self.entry, self.entry.transaction
        return (
            t.wallet_id,
            e.sequence,
            UUID(t.transaction_id),
            TYPES[t.type],
            t.amount,
            t.currency,
            t.occurred_at,
            t.group_id,
            dict(t.metadata),
            e.balance,
            e.recorded_at,
            e.source_partition,
            e.source_offset,
            e.hash,
            self.body[:-32],
        )


class Ledger:
    """One partition's ledger as it grows."""

    def __init__(self, partition: int = 0, recorded_ms: int = NOVEMBER_MS) -> None:
        self.partition = partition
        self.recorded_ms = recorded_ms
        self.written: list[Written] = []
        self._newest: dict[str, Balance] = {}

    def post(
        self,
        wallet_id: str,
        amount: int = 100,
        *,
        kind: int = CREDIT,
        recorded_ms: int | None = None,
        occurred_ms: int | None = None,
        group_id: str | None = None,
        metadata: tuple[tuple[str, str], ...] = (),
        currency: str = "EUR",
    ) -> Written:
        """Append one entry."""
        offset = len(self.written)
        self.recorded_ms = max(self.recorded_ms, recorded_ms or self.recorded_ms)
        occurred_ms = self.recorded_ms if occurred_ms is None else occurred_ms
        transaction = Transaction(
            str(UUID(int=(self.partition << 64) + offset + 1)),
            wallet_id,
            kind,
            amount,
            currency,
            occurred_ms * 1_000,
            group_id,
            metadata,
        )
        before = self._newest.get(wallet_id)
        balance = (before.balance if before else 0) + (amount if kind == CREDIT else -amount)
        sequence = before.sequence + 1 if before else 1
        place = (sequence, balance, self.recorded_ms, self.partition, offset)
        bare = encode_entry(encode_transaction(transaction), *place)
        own_hash = chain(before.hash if before else NO_HASH, bare)
        written = Written(LedgerEntry(transaction, *place, own_hash), bare + own_hash)
        self.written.append(written)
        self._newest[wallet_id] = written.balance
        return written

    def post_many(self, count: int, wallets: int = 10, *, step_ms: int = 1_000) -> "Ledger":
        """Append entries of every shape over some wallets."""
        for _ in range(count):
            number = len(self.written)
            self.recorded_ms += step_ms
            self.post(
                f"wallet-{self.partition}-{number % wallets}",
                1 + number,
                kind=DEBIT if number % 2 else CREDIT,
                group_id=f"transfer-{number}" if number % 3 == 0 else None,
                metadata=(("note", 'Café "au lait"\n\\ \U0001f600'), ("", "empty key"))
                if number % 5 == 0
                else (),
            )
        return self

    def snapshots(self, every: int) -> Iterator[tuple[str, bytes]]:
        """Key and body of an INTERVAL snapshot for every N-th entry of each wallet."""
        for written in self.written:
            if written.entry.sequence % every == 0:
                yield written.entry.transaction.wallet_id, encode_snapshot(written.balance, INTERVAL)


def publish_entries(settings: Settings, *ledgers: Ledger, start: int = 0) -> None:
    """Write ledgers, from their entry `start` on, to the ledger topic."""
    records: Iterable[Record] = (
        (ledger.partition, written.entry.transaction.wallet_id.encode(), LEDGER_FRAME + written.body, [])
        for ledger in ledgers
        for written in ledger.written[start:]
    )
    publish(settings, Topics.of(settings).ledger, records)


def publish(
    settings: Settings,
    topic: str,
    records: Iterable[Record],
) -> None:
    """Write (partition, key, value, headers) to a topic."""
    producer = Producer(librdkafka(settings))
    for partition, key, value, headers in records:
        producer.produce(topic, value, key, partition, headers=headers)  # type: ignore[arg-type] # None is fine
        producer.poll(0)
    assert producer.flush(PATIENCE_S) == 0


def ends(settings: Settings, topic: str) -> dict[int, int]:
    """One past the last offset of each partition."""
    consumer = Consumer(librdkafka(settings, group_id="ends"))
    try:
        return {
            number: consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=PATIENCE_S)[1]
            for number in range(settings.partitions)
        }
    finally:
        consumer.close()


def stands(settings: Settings, sink: str) -> dict[int, int]:
    """next_offset of each partition of a sink."""
    return {
        place.partition: place.next_offset for place in questions.positions(settings) if place.sink == sink
    }


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Look until it is so, for a bounded time."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.05)


class Waits(Observer):
    """Remembers what sinks said that they wait for, and does something about it."""

    def __init__(self, then: Callable[[], object] = lambda: None) -> None:
        self.sinks: set[str] = set()
        self.reasons: list[str] = []
        self._then = then

    def waiting(self, sink: str, reason: str) -> None:
        """Called by a sink."""
        assert sink
        assert reason
        self.sinks.add(sink)
        self.reasons.append(reason)
        self._then()


class RunningSinks:
    """Sinks in a thread of the test's process."""

    def __init__(self, settings: Settings, names: Sequence[str], observer: Observer | None) -> None:
        self._settings = settings
        self._names = names
        self.stop = threading.Event()
        self.failure: BaseException | None = None
        self.thread = threading.Thread(target=self._run, args=(observer,))

    def _run(self, observer: Observer | None) -> None:
        try:
            run(self._settings, self._names, self.stop, Incoming, observer)
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.failure = error

    def wait_until_caught_up(self) -> None:
        """Return when every position is at its topic's end; raises what ended the sinks before."""
        for name in self._names:
            topic = f"{self._settings.prefix}.{name}"
            wait_until(
                lambda name=name, topic=topic: (  # type: ignore[misc]
                    not self.thread.is_alive() or stands(self._settings, name) == ends(self._settings, topic)
                ),
                f"{name} has read its topic",
            )
        if self.failure:
            raise self.failure

    def wait_until_ended(self) -> BaseException | None:
        """Return what ended the sinks by themselves."""
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive(), "the sinks go on"
        return self.failure


@contextmanager
def running(settings: Settings, *names: str, observer: Observer | None = None) -> Iterator[RunningSinks]:
    """Sinks that run until the block ends."""
    sinks = RunningSinks(settings, names, observer)
    sinks.thread.start()
    try:
        yield sinks
    finally:
        sinks.stop.set()
        sinks.thread.join(PATIENCE_S)
        assert not sinks.thread.is_alive(), "the sinks do not stop"


def drain(settings: Settings, *names: str) -> None:
    """Run sinks until they have read their topics; raises what ended them before that."""
    with running(settings, *names) as sinks:
        sinks.wait_until_caught_up()
    if sinks.failure:
        raise sinks.failure
