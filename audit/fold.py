"""A second implementation of the pipeline, slow and obvious: what the records of a partition must have become.

Written from the contract alone, with dicts and plain loops, for `wallet demo` and the tests to compare the real one
with. An audit uses it for the rare records that its columns do not judge, starting from a certified balance.
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree
from typing import Any, NamedTuple, Protocol

from confluent_kafka import murmur2
from rocksdict import Rdict

from audit import avro
from audit.avro import Undecodable
from audit.contract import (
    DAY_MS,
    DEBIT,
    FIRST_MS,
    FRAME_BYTES,
    INTERVAL,
    LARGEST,
    MOST_HEADERS,
    NO_HASH,
    PERIOD,
    SMALLEST,
    Balance,
    Contract,
    Reason,
    Transaction,
    frame,
    is_valid,
)
from audit.foreign import Writer
from topics.source import Source, Unkept

FOLDER = "unwitnessed"


class Posted(NamedTuple):
    """The record was accepted: its wallet's new balance, the body of its entry, and the snapshots it causes."""

    balance: Balance
    body: bytes
    snapshots: tuple[tuple[Balance, int], ...]


def read(contract: Contract, partition: int, record: Source) -> Transaction | Reason:
    """The transaction of a record, or the reason for its rejection that the record alone decides."""
    if is_too_large(contract, record):
        return Reason.TOO_LARGE
    transaction = _decoded(contract, partition, record)
    if transaction is None:
        return Reason.UNDECODABLE
    if not is_valid(transaction):
        return Reason.INVALID
    key = transaction.wallet_id.encode("utf-8")
    if record.key != key or murmur2(key, contract.partitions) != partition:
        return Reason.MISROUTED
    return transaction


def is_too_large(contract: Contract, record: Source) -> bool:
    """Whether key, value and headers are more than a record of this pipeline may be.

    For a record that the reader has discarded for its size, the sizes are known.
    """
    if isinstance(record, Unkept):
        measured, count = record.sizes.total, record.sizes.headers
    else:
        headers = [len(name.encode()) + len(value or b"") for name, value in record.headers]
        measured, count = len(record.key or b"") + len(record.value or b"") + sum(headers), len(headers)
    return measured > contract.max_record_bytes or count > MOST_HEADERS


def _decoded(contract: Contract, partition: int, record: Source) -> Transaction | None:
    value = record.value or b""
    if len(value) < FRAME_BYTES or value[0] != 0:
        return None
    schema_id, body = int.from_bytes(value[1:FRAME_BYTES], "big"), value[FRAME_BYTES:]
    try:
        if schema_id == contract.transaction_schema_id:
            return avro.read_transaction(body)
        text = contract.writer(partition, schema_id, record.offset)
        return None if text is None else Writer.of(text).read(body)
    except Undecodable:
        return None


def post(
    contract: Contract,
    before: Balance | None,
    transaction: Transaction,
    partition: int,
    offset: int,
    recorded_ms: int,
) -> Posted | Reason:
    """What a transaction does to its wallet, unless its id was posted before, which is asked elsewhere."""
    if before and before.currency != transaction.currency:
        return Reason.CURRENCY_MISMATCH
    balance = (before.balance if before else 0) + transaction.signed
    if not SMALLEST <= balance <= LARGEST:
        return Reason.OVERFLOW
    if transaction.type == DEBIT and balance < 0 and not contract.overdraft_allowed:
        return Reason.INSUFFICIENT_FUNDS
    sequence = before.sequence + 1 if before else 1
    numbers = (sequence, balance, recorded_ms, partition, offset)
    body = avro.write_transaction(transaction) + b"".join(map(avro.long, numbers))
    link = hashlib.sha256((before.hash if before else NO_HASH) + body).digest()
    after = Balance(
        transaction.wallet_id, transaction.currency, balance, *numbers[:1], *numbers[2:], hash=link
    )
    return Posted(after, body + link, snapshots(contract, before, after))


def snapshots(contract: Contract, before: Balance | None, after: Balance) -> tuple[tuple[Balance, int], ...]:
    """What an entry brings forward: the close of an earlier day, and every N-th entry."""
    due: tuple[tuple[Balance, int], ...] = ()
    if (
        before
        and after.recorded_ms // DAY_MS > before.recorded_ms // DAY_MS
        and before.sequence % contract.snapshot_every
    ):
        due = ((before, PERIOD),)
    return (*due, (after, INTERVAL)) if after.sequence % contract.snapshot_every == 0 else due


def content(transaction: Transaction) -> Transaction:
    """What DUPLICATE and CONFLICT compare: everything, the order of the metadata aside."""
    return transaction._replace(metadata=tuple(sorted(transaction.metadata)))


class Known(NamedTuple):
    """A transaction that a wallet has posted: what it said, and when it was recorded."""

    content: Transaction
    recorded_ms: int


class Ids(Protocol):
    """What was posted, by wallet and id; may be on disk."""

    def get(self, key: str, default: None = None, /) -> Any:
        """A Known, None where there is none."""

    def __setitem__(self, key: str, known: Known, /) -> None:
        """Remember what was posted."""


@dataclass
class Fold:
    """The state of one pipeline; give `step` each partition's records in the order of their offsets."""

    contract: Contract
    balances: dict[str, Balance] = field(default_factory=dict)
    posted: Ids = field(default_factory=dict[str, Known])
    _recorded_ms: dict[int, int] = field(default_factory=dict)

    def step(self, partition: int, record: Source) -> Posted | Reason:
        """What this record becomes, with everything before it known."""
        transaction = read(self.contract, partition, record)
        if isinstance(transaction, Reason):
            return transaction
        recorded_ms = max(record.timestamp_ms, self._recorded_ms.get(partition, FIRST_MS))
        name = f"{transaction.wallet_id}\0{transaction.transaction_id}"
        known: Known | None = self.posted.get(name)
        if known and not self._forgotten(known, recorded_ms):
            return Reason.DUPLICATE if known.content == content(transaction) else Reason.CONFLICT
        before = self.balances.get(transaction.wallet_id)
        outcome = post(self.contract, before, transaction, partition, record.offset, recorded_ms)
        if isinstance(outcome, Posted):
            self.balances[transaction.wallet_id] = outcome.balance
            self.posted[name] = Known(content(transaction), recorded_ms)
            self._recorded_ms[partition] = recorded_ms
        return outcome

    def _forgotten(self, known: Known, recorded_ms: int) -> bool:
        window_ms = self.contract.id_window_ms
        return window_ms is not None and recorded_ms - known.recorded_ms > window_ms


class Unwitnessed:
    """Entries that retention has deleted, recomputed from the input; give it every record of a partition.

    There is nothing to check them against, but later entries follow from them. The ids are on disk.
    """

    def __init__(self, contract: Contract, partition: int, folder: Path) -> None:
        self._partition = partition
        self._frame = frame(contract.entry_schema_id)
        self._path = folder / FOLDER
        self._ids = Rdict(str(self._path))
        self._fold = Fold(contract, posted=self._ids)

    def outcome(self, record: Source) -> Source | Reason:
        """The entry that a record became, or why it was rejected."""
        outcome = self._fold.step(self._partition, record)
        if isinstance(outcome, Reason):
            return outcome
        balance = outcome.balance
        key = balance.wallet_id.encode()
        return Source(-1, balance.recorded_ms, key, self._frame + outcome.body, ())

    def close(self) -> None:
        """Forget what is on disk."""
        self._ids.close()
        rmtree(self._path)
