"""Everything a pipeline wrote, held against the independent fold of its input (audit/fold.py)."""

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import TypeVar

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from audit import avro
from audit.contract import Balance, Contract, Reason
from audit.fold import Fold
from config.clients import looking
from config.cluster import offsets, quiet_admin, read_pipeline
from config.consuming import consume, ready
from config.errors import NotReachable, Refused, Stopped
from config.settings import Settings
from config.topics import Topics
from schemas.registry import FIXED_IDS
from sinks import audit, postgres
from topics.source import Source

K = TypeVar("K")
T = TypeVar("T")

#: Reading a topic is an error when no record comes for so many seconds.
SILENCE_S = 30.0
BATCH = 2_000
OUR_HEADERS = 6


@dataclass(frozen=True)
class Check:
    """One question, how many answers were right of how many, and the first that was not."""

    question: str
    right: int
    of: int
    first_wrong: str = ""

    @property
    def passed(self) -> bool:
        """Whether all were right and none was missing or too many."""
        return self.right == self.of and not self.first_wrong


@dataclass
class Expected:
    """What the fold says that must be found, by partition and in the order of the source's offsets."""

    records: int = 0
    entries: dict[int, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    refusals: dict[int, list[tuple[Reason, Source]]] = field(default_factory=lambda: defaultdict(list))
    balances: dict[str, Balance] = field(default_factory=dict)
    snapshots: int = 0

    @property
    def posted(self) -> int:
        """How many records became entries."""
        return sum(len(bodies) for bodies in self.entries.values())

    @property
    def reasons(self) -> Counter[Reason]:
        """How many records were rejected for each reason."""
        return Counter(reason for refusals in self.refusals.values() for reason, _ in refusals)


def expect(settings: Settings, stop: Event) -> Expected:
    """Fold the whole input topic; raises Stopped when `stop` is set before the end."""
    pipeline = read_pipeline(settings)
    if pipeline is None:
        raise Refused(f"the pipeline {settings.prefix!r} has no record: run `wallet init`")
    topic = Topics.of(settings).transactions
    fold = Fold(Contract.of(topic, pipeline, FIXED_IDS))
    expected = Expected(balances=fold.balances)
    for message in read_all(settings, topic, pipeline.partitions):
        if stop.is_set():
            raise Stopped("the fold of the input was stopped")
        record, partition = incoming(message), message.partition() or 0
        outcome = fold.step(partition, record)
        expected.records += 1
        if not isinstance(outcome, Reason):
            expected.entries[partition].append(outcome.body)
            expected.snapshots += len(outcome.snapshots)
        else:
            if outcome is Reason.TOO_LARGE:  # its bytes are in no rejection
                record = record._replace(key=None, value=None, headers=())
            expected.refusals[partition].append((outcome, record))
    return expected


def incoming(message: Message) -> Source:
    """A consumed message as the fold takes it."""
    return Source(
        message.offset() or 0,
        message.timestamp()[1],
        message.key(),
        message.value(),
        tuple(_headers(message)),
    )


def check_topics(settings: Settings, expected: Expected) -> list[Check]:
    """Ledger and rejections record by record, every newest balance, the number of snapshots."""
    names = Topics.of(settings)
    partitions = settings.partitions
    ledger: dict[int, list[bytes]] = defaultdict(list)
    for message in read_all(settings, names.ledger, partitions):
        ledger[message.partition() or 0].append((message.value() or b"")[5:])
    rejections: dict[int, list[Message]] = defaultdict(list)
    for message in read_all(settings, names.rejections, partitions):
        rejections[message.partition() or 0].append(message)
    newest = {
        (message.key() or b"").decode(): avro.read_balance((message.value() or b"")[5:])
        for message in read_all(settings, names.balances, partitions)
    }
    snapshots = sum(1 for _ in read_all(settings, names.snapshots, partitions))
    found = sum(len(records) for topic in (ledger, rejections) for records in topic.values())
    return [
        Check("records with exactly one outcome", found, expected.records),
        _compared("ledger entries, byte by byte", _flat(ledger), _flat(expected.entries)),
        _compared(
            "rejections, reason and bytes",
            {at: _as_rejected(message) for at, message in _flat(rejections).items()},
            {at: _as_expected(*refusal) for at, refusal in _flat(expected.refusals).items()},
        ),
        _compared("balances in the topic, hash and all", newest, expected.balances),
        Check("snapshots in the topic", snapshots, expected.snapshots),
    ]


def check_postgres(settings: Settings, expected: Expected) -> list[Check]:
    """Every wallet's newest row and `wallet_balance`, the rows of each table, the rejections by reason."""
    rows = postgres.counts(settings)
    wanted = {
        "wallets": len(expected.balances),
        "transactions": expected.posted,
        "transaction_snapshots": expected.snapshots,
        "rejections": sum(expected.reasons.values()),
    }
    newest = {
        entry.wallet_id: (entry.currency, entry.balance, entry.sequence, entry.hash, entry.function_balance)
        for entry in audit.newest_entries(settings)
    }
    balances = {
        wallet_id: (balance.currency, balance.balance, balance.sequence, balance.hash, balance.balance)
        for wallet_id, balance in expected.balances.items()
    }
    reasons = {str(reason): count for reason, count in expected.reasons.items()}
    return [
        _compared("balances in Postgres, hash and all", newest, balances),
        *(Check(f"rows in {table}", rows[table], count) for table, count in wanted.items()),
        _compared("rejections in Postgres by reason", postgres.rejections_by_reason(settings), reasons),
    ]


def read_all(settings: Settings, topic: str, partitions: int) -> Iterator[Message]:
    """Every record of a topic that is committed now, each partition in its order."""
    # By librdkafka, also of the input: this shares nothing with what it checks.
    upstreams = Topics.of(settings).is_upstreams(topic)
    reader = Consumer(
        looking(
            settings,
            f"{settings.prefix}.check",
            fetch_wait_max_ms=10,
            **ready(upstreams=upstreams),
        )
    )
    begins = offsets(quiet_admin(settings), {topic: partitions})
    unread = {partition for (_, partition), at in begins.items() if at.end > at.begin}
    try:
        reader.assign([TopicPartition(topic, at, begins[topic, at].begin) for at in unread])
        heard_at = time.monotonic()
        while unread:
            for message in consume(reader, BATCH, 0.5, upstreams=upstreams):
                heard_at = time.monotonic()
                error = message.error()
                if error is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:
                    unread.discard(message.partition() or 0)
                else:
                    raise NotReachable(f"{topic} could not be read: {error.str()}")
            if time.monotonic() - heard_at > SILENCE_S:
                raise NotReachable(f"{topic} could not be read: nothing came for {SILENCE_S:g} s")
    finally:
        reader.close()


Rejection = tuple[str, int, bytes | None, bytes | None, tuple[tuple[str, bytes | None], ...]]


def _as_rejected(message: Message) -> Rejection:
    """What a rejection says: our headers are the last six, whatever upstream called its own."""
    headers = _headers(message)
    ours = {name: (value or b"").decode() for name, value in headers[-OUR_HEADERS:]}
    return (
        ours.get("rejection.reason", ""),
        int(ours.get("rejection.offset", "-1")),
        message.key(),
        message.value(),
        tuple(headers[:-OUR_HEADERS]),
    )


def _as_expected(reason: Reason, record: Source) -> Rejection:
    return (reason, record.offset, record.key, record.value, tuple(record.headers))


def _headers(message: Message) -> list[tuple[str, bytes | None]]:
    found = message.headers() or []
    pairs = found.items() if isinstance(found, dict) else found
    return [(name, value.encode() if isinstance(value, str) else value) for name, value in pairs]


def _flat(by_partition: Mapping[int, Sequence[T]]) -> dict[tuple[int, int], T]:
    return {
        (partition, number): each
        for partition, records in by_partition.items()
        for number, each in enumerate(records)
    }


def _compared(question: str, found: Mapping[K, object], wanted: Mapping[K, object]) -> Check:
    wrong = [at for at in found.keys() | wanted.keys() if found.get(at) != wanted.get(at)]
    first = f"{wrong[0]}: found {found.get(wrong[0])!r}, must be {wanted.get(wrong[0])!r}" if wrong else ""
    return Check(question, len(found.keys() | wanted.keys()) - len(wrong), len(wanted), first[:400])
