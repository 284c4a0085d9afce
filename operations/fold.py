"""The pipeline once more, slow and obvious: what the records of a partition must have become.

Written from DESIGN sections 3, 4 and 6 alone, with dicts and plain loops. It shares nothing with `streams`
but the shape of the records, so `wallet demo` and the tests can hold the real one against it.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from confluent_kafka import murmur2

from config.pipeline import Pipeline
from operations import plain_avro
from operations.plain_avro import Undecodable
from schemas.records import DEBIT, Balance, Reason, Transaction

Headers = Sequence[tuple[str, bytes | None]]

DAY_MS = 86_400_000
#: Microseconds of 0001-01-01T00:00:00Z and of the last one of the year 9999.
FIRST_US, LAST_US = -62_135_596_800_000_000, 253_402_300_799_999_999
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_CURRENCY = re.compile(r"[A-Z]{3}")


class Incoming(NamedTuple):
    """One record of the input topic as a read-committed consumer sees it."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class Entry(NamedTuple):
    """The record was accepted; `body` is the Avro body of its LedgerEntry, hash and all."""

    balance: Balance
    body: bytes
    snapshots: int


class Refusal(NamedTuple):
    """The record was rejected."""

    reason: Reason


class _Posted(NamedTuple):
    """A transaction that a wallet has posted: what it said, and when it was recorded."""

    content: Transaction
    recorded_ms: int


@dataclass
class Fold:
    """All that one pipeline knows; `step` takes a partition's records in the order of their offsets."""

    pipeline: Pipeline
    schema_ids: frozenset[int]
    balances: dict[str, Balance] = field(default_factory=dict)
    _posted: dict[tuple[str, str], _Posted] = field(default_factory=dict)
    _recorded_ms: dict[int, int] = field(default_factory=dict)

    def step(self, record: Incoming) -> Entry | Refusal:
        """What this record becomes, with everything before it known."""
        read = self._read(record)
        if isinstance(read, Reason):
            return Refusal(read)
        recorded_ms = max(record.timestamp_ms, self._recorded_ms.get(record.partition, record.timestamp_ms))
        refused = self._refused(read, recorded_ms)
        return Refusal(refused) if refused else self._post(read, record, recorded_ms)

    def _read(self, record: Incoming) -> Transaction | Reason:
        """TOO_LARGE, UNDECODABLE, INVALID and MISROUTED, in this order."""
        if size(record) > self.pipeline.max_record_bytes:
            return Reason.TOO_LARGE
        value = record.value or b""
        if len(value) < 5 or value[0] != 0 or int.from_bytes(value[1:5], "big") not in self.schema_ids:
            return Reason.UNDECODABLE
        try:
            transaction = plain_avro.read_transaction(value[5:])
        except Undecodable:
            return Reason.UNDECODABLE
        if not is_valid(transaction):
            return Reason.INVALID
        key = transaction.wallet_id.encode("utf-8")
        if record.key != key or murmur2(key, self.pipeline.partitions) != record.partition:
            return Reason.MISROUTED
        return transaction

    def _refused(self, transaction: Transaction, recorded_ms: int) -> Reason | None:
        """The reasons that depend on what the wallet has posted, in their order."""
        before = self._posted.get((transaction.wallet_id, transaction.transaction_id))
        if before and not self._forgotten(before, recorded_ms):
            same = before.content == _content(transaction)
            return Reason.DUPLICATE if same else Reason.CONFLICT
        wallet = self.balances.get(transaction.wallet_id)
        if wallet and wallet.currency != transaction.currency:
            return Reason.CURRENCY_MISMATCH
        after = (wallet.balance if wallet else 0) + _signed(transaction)
        if not -(2**63) <= after < 2**63:
            return Reason.OVERFLOW
        if transaction.type == DEBIT and after < 0 and self.pipeline.overdraft == "reject":
            return Reason.INSUFFICIENT_FUNDS
        return None

    def _forgotten(self, before: _Posted, recorded_ms: int) -> bool:
        days = self.pipeline.id_window_days
        return days is not None and recorded_ms - before.recorded_ms > days * DAY_MS

    def _post(self, transaction: Transaction, record: Incoming, recorded_ms: int) -> Entry:
        before = self.balances.get(transaction.wallet_id)
        sequence = before.sequence + 1 if before else 1
        balance = (before.balance if before else 0) + _signed(transaction)
        entry = plain_avro.write_transaction(transaction) + b"".join(
            plain_avro.long(number)
            for number in (sequence, balance, recorded_ms, record.partition, record.offset)
        )
        digest = hashlib.sha256((before.hash if before else bytes(32)) + entry).digest()
        after = Balance(
            wallet_id=transaction.wallet_id,
            currency=transaction.currency,
            balance=balance,
            sequence=sequence,
            recorded_ms=recorded_ms,
            source_partition=record.partition,
            source_offset=record.offset,
            hash=digest,
        )
        self.balances[transaction.wallet_id] = after
        self._posted[transaction.wallet_id, transaction.transaction_id] = _Posted(
            _content(transaction), recorded_ms
        )
        self._recorded_ms[record.partition] = recorded_ms
        return Entry(after, entry + digest, self._snapshots(before, after))

    def _snapshots(self, before: Balance | None, after: Balance) -> int:
        """How many snapshots this entry causes: the close of an earlier day, and the N-th entry."""
        every = self.pipeline.snapshot_every
        later_day = before is not None and after.recorded_ms // DAY_MS > before.recorded_ms // DAY_MS
        period = before is not None and later_day and before.sequence % every != 0
        return int(period) + int(after.sequence % every == 0)


def size(record: Incoming) -> int:
    """Key, value, header names and header values, in bytes."""
    parts = [record.key, record.value]
    for name, value in record.headers:
        parts += [name.encode("utf-8"), value]
    return sum(len(part) for part in parts if part is not None)


def is_valid(transaction: Transaction) -> bool:
    """Whether a decoded transaction keeps the rules of the schema's fields (DESIGN section 4)."""
    group = transaction.group_id
    names = [name for name, _ in transaction.metadata]
    strings = [transaction.wallet_id, group or "", *names, *(value for _, value in transaction.metadata)]
    return (
        _UUID.fullmatch(transaction.transaction_id) is not None
        and 1 <= len(transaction.wallet_id) <= 128
        and transaction.amount > 0
        and _CURRENCY.fullmatch(transaction.currency) is not None
        and FIRST_US <= transaction.occurred_us <= LAST_US
        and (group is None or 1 <= len(group) <= 128)
        and len(names) == len(set(names))
        and not any("\0" in text for text in strings)
    )


def _signed(transaction: Transaction) -> int:
    return -transaction.amount if transaction.type == DEBIT else transaction.amount


def _content(transaction: Transaction) -> Transaction:
    """What DUPLICATE and CONFLICT compare: everything, the order of the metadata aside."""
    return transaction._replace(metadata=tuple(sorted(transaction.metadata)))
