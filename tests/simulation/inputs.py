"""Small nasty inputs of one partition, and what must have become of them, record by record."""

import random
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

from config.pipeline import Pipeline
from schemas.codec import TransactionCodec, encode_transaction, frame
from schemas.native.balances import encode_balance
from schemas.partitioner import partition_of
from schemas.records import CREDIT, DEBIT, Balance, Transaction
from schemas.versions import FIXED_IDS
from streams.batch import Derived
from streams.posting import Fold
from streams.store import BEFORE_TIME
from streams.wallet import Known
from tests.simulation.broker import Log, Stored
from tests.simulation.broker import Transaction as KafkaTransaction
from topics.source import Source

PARTITIONS, PARTITION = 4, 1
TOPIC = "simulated.transactions"
MAX_RECORD_BYTES = 1_024
#: Shortly before a midnight, UTC.
START_MS = 1_799_999_990_000
DAY_MS = 86_400_000
STEPS_MS = (0, 1, 1, 1_000, 20_000, DAY_MS, -30_000)

PIPELINE = Pipeline(1, PARTITIONS, 3, "reject", MAX_RECORD_BYTES, None, FIXED_IDS.transaction)
FRAME = frame(FIXED_IDS.transaction)
IDS = [f"0b0e7d3c-2f65-4c6f-9d5e-0000000000{number:02d}" for number in range(12)]
NAMES = [
    name
    for name in (f"wallet-{n}" for n in range(40))
    if partition_of(name.encode(), PARTITIONS) == PARTITION
]
ELSEWHERE = next(name for name in (f"wallet-{n}" for n in range(40)) if name not in NAMES)

#: A record as a consumer sees it: key, value, timestamp and headers.
Seen = tuple[bytes | None, bytes | None, int, tuple[tuple[str, str | bytes | None], ...]]


class Standing(NamedTuple):
    """What there must be when so many records were handled: lengths of three topics, and the table."""

    next_offset: int | None
    entries: int
    rejections: int
    snapshots: int
    balances: dict[bytes, Seen]


@dataclass
class Input:
    """A partition's input and what becomes of it; `after[n]` is how things stand after n records."""

    log: Log
    sources: list[Source]
    entries: list[Seen] = field(default_factory=list)
    rejections: list[Seen] = field(default_factory=list)
    snapshots: list[Seen] = field(default_factory=list)
    after: list[Standing] = field(default_factory=list)
    table: dict[bytes, Balance] = field(default_factory=dict)
    ids: dict[bytes, Known] = field(default_factory=dict)
    recorded_ms: int = BEFORE_TIME

    def balances(self, wallets: set[bytes]) -> dict[bytes, Balance]:
        """As `Past`: what the fold so far has come to."""
        return {wallet: self.table[wallet] for wallet in wallets if wallet in self.table}

    def known(self, ids: list[bytes]) -> dict[bytes, Known]:
        """As `Past`."""
        return {one: self.ids[one] for one in ids if one in self.ids}


@cache
def nasty(seed: int) -> Input:
    """A few dozen records, bad ones among them, with gaps where upstream's transactions ended."""
    dice = random.Random(seed)
    log, at_ms = Log(TOPIC), START_MS
    upstream = KafkaTransaction(commits=True)
    given_up = KafkaTransaction(commits=False)
    for _ in range(dice.randint(4, 18)):
        at_ms += dice.choice(STEPS_MS)
        match dice.randrange(8):
            case 0:
                log.append(_stored(dice, at_ms, given_up))
                log.append(Stored(0, marker=True, transaction=given_up))
            case 1:
                log.append(_stored(dice, at_ms, upstream))
                log.append(Stored(0, marker=True, transaction=upstream))
            case _:
                log.append(_stored(dice, at_ms, None))
    log.open.clear()
    return _folded(log)


@cache
def small() -> Input:
    """Four records for the exhaustive schedules: two entries, a duplicate, and one that closes a day."""
    log = Log(TOPIC)
    first = Transaction(IDS[0], NAMES[0], CREDIT, 100, "EUR", 10**15)
    for at_ms, one in (
        (START_MS, first),
        (START_MS, first._replace(transaction_id=IDS[1], type=DEBIT)),
        (START_MS, first),
        (START_MS + DAY_MS, first._replace(transaction_id=IDS[2])),
    ):
        log.append(Stored(0, one.wallet_id.encode(), FRAME + encode_transaction(one), at_ms))
    return _folded(log)


@cache
def mixed() -> Input:
    """Eight records of which any two or four in a row are another mixture of entries, rejections and snapshots."""
    log = Log(TOPIC)
    first = Transaction(IDS[0], NAMES[0], CREDIT, 100, "EUR", 10**15)
    other = first._replace(wallet_id=NAMES[1])
    for at_ms, one in (
        (START_MS, first),
        (START_MS, first),
        (START_MS, first._replace(transaction_id=IDS[1])),
        (START_MS, first._replace(transaction_id=IDS[2])),
        (START_MS, first),
        (START_MS, other),
        (START_MS + DAY_MS, other._replace(transaction_id=IDS[3])),
        (START_MS + DAY_MS, first),
    ):
        log.append(Stored(0, one.wallet_id.encode(), FRAME + encode_transaction(one), at_ms))
    return _folded(log)


def _stored(dice: random.Random, at_ms: int, transaction: KafkaTransaction | None) -> Stored:
    posted = Transaction(
        dice.choice(IDS),
        dice.choice(NAMES[:3]),
        dice.choice((CREDIT, CREDIT, DEBIT)),
        dice.choice((1, 5, 100)),
        dice.choice(("EUR",) * 9 + ("USD",)),
        10**15,
        None,
        dice.choice(((), (), (("a", "1"), ("b", "2")))),
    )
    key: bytes | None = posted.wallet_id.encode()
    value: bytes | None = FRAME + encode_transaction(posted)
    headers: tuple[tuple[str, bytes | None], ...] = ()
    match dice.randrange(16):
        case 0:
            value = dice.choice((None, b"", FRAME, FRAME + bytes(9), bytes(MAX_RECORD_BYTES)))
        case 1:
            key, headers = dice.choice((None, b"x", ELSEWHERE.encode())), (("rejection.offset", b"7"),)
        case 2:
            value = FRAME + encode_transaction(posted._replace(amount=0))
    return Stored(0, key, value, at_ms, headers, transaction)


def _folded(log: Log) -> Input:
    """Fold the input by the pure code, one record at a time."""
    given = Input(log, [as_source(one) for one in log.visible()])
    codec = TransactionCodec(FIXED_IDS.transaction, lambda *_: None)
    fold = Fold(TOPIC, PARTITION, PIPELINE, codec, FIXED_IDS, given)
    given.after.append(Standing(None, 0, 0, 0, {}))
    for source in given.sources:
        out = fold.outputs([source], source.offset, given.recorded_ms)
        given.entries += map(_seen, out.entries)
        given.rejections += map(_seen, out.rejections)
        given.snapshots += map(_seen, out.snapshots)
        given.table |= out.balances
        given.ids |= out.new_ids
        given.recorded_ms = out.recorded_ms
        balances = given.after[-1].balances | {
            wallet: (wallet, fold.balance_frame + encode_balance(one), one.recorded_ms, ())
            for wallet, one in out.balances.items()
        }
        given.after.append(
            Standing(
                source.offset + 1, len(given.entries), len(given.rejections), len(given.snapshots), balances
            )
        )
    return given


def as_source(one: Stored) -> Source:
    """A stored record as the worker's transport delivers it."""
    headers = tuple((name, value) for name, value in one.headers if not isinstance(value, str))
    return Source(one.offset, one.timestamp_ms, one.key, one.value, headers)


def as_seen(one: Stored) -> Seen:
    """A stored record as a consumer sees it."""
    return one.key, one.value, one.timestamp_ms, one.headers


def _seen(one: Derived) -> Seen:
    return one.key, one.value, one.timestamp_ms, tuple(one.headers or ())
