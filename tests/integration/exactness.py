"""The check of exactness: every record of the derived topics held against the independent fold of the input.

Bytes, keys, partitions, timestamps, headers and order are compared, read-committed, as every consumer of
ours reads.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

from confluent_kafka import TIMESTAMP_CREATE_TIME, Message

from audit.contract import FIRST_MS, Contract, Reason
from audit.fold import Fold, Posted
from config.settings import Settings
from schemas.codec import HEADER_BYTES, decode_entry, encode_snapshot, frame
from schemas.native.balances import encode_balance
from schemas.records import Balance
from schemas.registry import schema_ids
from schemas.versions import SchemaIds
from tests.reading import incoming, read_all
from topics.cluster import read_pipeline
from topics.names import Topics
from topics.source import Source

#: Stands for `rejection.detail`, whose words are for people.
ANY_DETAIL = b"(a detail)"

Headers = tuple[tuple[str, bytes | None], ...]


class Published(NamedTuple):
    """A record as a consumer of a derived topic sees it."""

    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    headers: Headers = ()


@dataclass
class Expected:
    """What must be found, by partition and in its order; balances by the source offset they come from."""

    records: int = 0
    ledger: dict[int, list[Published]] = field(default_factory=lambda: defaultdict(list))
    rejections: dict[int, list[Published]] = field(default_factory=lambda: defaultdict(list))
    snapshots: dict[int, list[Published]] = field(default_factory=lambda: defaultdict(list))
    balances: dict[tuple[int, int], Published] = field(default_factory=dict)
    newest: dict[bytes, Published] = field(default_factory=dict)
    reasons: set[Reason] = field(default_factory=set)


def expected(settings: Settings) -> Expected:
    """Fold the whole input, read-committed."""
    pipeline = read_pipeline(settings)
    assert pipeline is not None
    topic = Topics.of(settings).transactions
    ids = schema_ids(settings)
    fold, wanted = Fold(Contract.of(topic, pipeline, ids)), Expected()
    for message in read_all(settings, topic, settings.partitions):
        record, at = incoming(message), message.partition() or 0
        wanted.records += 1
        outcome = fold.step(at, record)
        if isinstance(outcome, Posted):
            _expect_entry(wanted, at, outcome, ids)
        else:
            wanted.reasons.add(outcome)
            wanted.rejections[at].append(_rejection(topic, at, record, outcome))
    return wanted


def _expect_entry(wanted: Expected, at: int, entry: Posted, ids: SchemaIds) -> None:
    after = entry.balance
    key = after.wallet_id.encode()
    wanted.ledger[at].append(Published(key, frame(ids.ledger_entry) + entry.body, after.recorded_ms))
    changed = Published(key, frame(ids.balance) + encode_balance(Balance(*after)), after.recorded_ms)
    wanted.balances[at, after.source_offset] = wanted.newest[key] = changed
    for balance, reason in entry.snapshots:
        value = frame(ids.snapshot) + encode_snapshot(Balance(*balance), reason)
        wanted.snapshots[at].append(Published(key, value, balance.recorded_ms))


def _rejection(topic: str, at: int, record: Source, reason: Reason) -> Published:
    at_ms = max(record.timestamp_ms, FIRST_MS)
    ours: Headers = (
        ("rejection.reason", reason.encode()),
        ("rejection.detail", ANY_DETAIL),
        ("rejection.topic", topic.encode()),
        ("rejection.partition", str(at).encode()),
        ("rejection.offset", str(record.offset).encode()),
        ("rejection.at", str(at_ms).encode()),
    )
    if reason is Reason.TOO_LARGE:
        return Published(None, None, at_ms, ours)
    return Published(record.key, record.value, at_ms, (*record.headers, *ours))


def found(settings: Settings, topic: str) -> dict[int, list[Published]]:
    """Every committed record of a derived topic, each under the time its producer gave it."""
    by_partition: dict[int, list[Published]] = defaultdict(list)
    for message in read_all(settings, topic, settings.partitions):
        by_partition[message.partition() or 0].append(_published(message))
    return by_partition


def _published(message: Message) -> Published:
    kind, timestamp_ms = message.timestamp()
    assert kind == TIMESTAMP_CREATE_TIME
    return Published(message.key(), message.value(), timestamp_ms, tuple(incoming(message).headers))


def without_detail(rejection: Published) -> Published:
    """A rejection with its detail, which is checked to be legible, replaced by a mark."""
    ours = dict(rejection.headers[-6:])
    detail = (ours.get("rejection.detail") or b"").decode("ascii")
    assert detail
    assert detail.isprintable()
    ours["rejection.detail"] = ANY_DETAIL
    return rejection._replace(headers=(*rejection.headers[:-6], *ours.items()))


def source_of(outcome: Published) -> int:
    """The source offset that a record of `ledger` or `rejections` names."""
    if outcome.headers and outcome.headers[-2][0] == "rejection.offset":
        return int(outcome.headers[-2][1] or b"")
    return decode_entry((outcome.value or b"")[HEADER_BYTES:]).source_offset


def assert_exact(settings: Settings) -> Expected:
    """Everything in the derived topics is what the fold of the input says, nothing missing, nothing twice."""
    wanted, names = expected(settings), Topics.of(settings)
    ledger, rejections = found(settings, names.ledger), found(settings, names.rejections)
    for at in range(settings.partitions):
        _same(f"{names.ledger}[{at}]", ledger[at], wanted.ledger[at])
        _same(f"{names.rejections}[{at}]", [*map(without_detail, rejections[at])], wanted.rejections[at])
    outcomes = sum(len(some) for topic in (ledger, rejections) for some in topic.values())
    assert outcomes == wanted.records, "the conservation law"
    snapshots = found(settings, names.snapshots)
    for at in range(settings.partitions):
        _same(f"{names.snapshots}[{at}]", snapshots[at], wanted.snapshots[at])
    _check_balances(settings, names.balances, wanted)
    return wanted


def _check_balances(settings: Settings, topic: str, wanted: Expected) -> None:
    """Each record of the changelog is a balance that was the newest once, and the last ones still are."""
    newest: dict[bytes, Published] = {}
    once = {(at, published) for (at, _), published in wanted.balances.items()}
    for at, balances in found(settings, topic).items():
        for balance in balances:
            assert (at, balance) in once, f"{topic}[{at}] holds {balance}, which never was a balance"
            newest[balance.key or b""] = balance
    assert newest == wanted.newest


def _same(where: str, there: list[Published], wanted: list[Published]) -> None:
    """Equal lists, or a message about the first difference, which for thousands pytest would search long."""
    for number, (one, other) in enumerate(zip(there, wanted, strict=False)):
        assert one == other, f"{where}, record {number}"
    assert len(there) == len(wanted), f"{where}: number of records"
