"""A plain, slow reader and writer of the schemas: fields one after the other, in the order of the schema.

It deliberately shares no code with the pipeline: if both agree on nasty bytes, both are likely right.
"""

from collections.abc import Iterator
from typing import NamedTuple

from audit.contract import Balance, Transaction


class Entry(NamedTuple):
    """A ledger entry: its transaction, the five numbers behind it, and its hash."""

    transaction: Transaction
    sequence: int
    balance: int
    recorded_ms: int
    source_partition: int
    source_offset: int
    hash: bytes


class Snapshot(NamedTuple):
    """A balance brought forward; `reason` is the enum's index."""

    wallet_id: str
    currency: str
    balance: int
    sequence: int
    recorded_ms: int
    source_partition: int
    source_offset: int
    hash: bytes
    reason: int


class Undecodable(Exception):  # noqa: N818 - it names the outcome, which is no error of ours
    """These bytes are not legal Avro of this schema."""


class Reader:
    """Reads Avro primitives from bytes, strictly."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.at = 0
        #: Items that array and map blocks may still announce: no body has more items than bytes.
        self._items_left = len(body)

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        if count < 0 or self.at + count > len(self._body):
            raise Undecodable(f"{count} bytes wanted at {self.at} of {len(self._body)}")
        self.at += count
        return self._body[self.at - count : self.at]

    def long(self) -> int:
        """A zigzag varint of at most 64 bits; longer than needed is legal."""
        unsigned = 0
        for place in range(10):
            byte = self.take(1)[0]
            if place == 9 and byte > 1:
                raise Undecodable("a varint has more than 64 bits")
            unsigned |= (byte & 0x7F) << (7 * place)
            if byte < 0x80:
                return (unsigned >> 1) ^ -(unsigned & 1)
        raise Undecodable("a varint has more than 64 bits")

    def string(self) -> str:
        """A string of legal UTF-8."""
        try:
            return self.take(self.long()).decode("utf-8")
        except UnicodeDecodeError:
            raise Undecodable("a string is not UTF-8") from None

    def index(self, choices: int) -> int:
        """The index of an enum or of a union."""
        chosen = self.long()
        if not 0 <= chosen < choices:
            raise Undecodable(f"index {chosen} of {choices}")
        return chosen

    def items(self) -> Iterator[None]:
        """Each item of an array or a map, block after block, to be read by who asks for the next one."""
        while (count := self.long()) != 0:
            size = self.long() if count < 0 else None
            begin = self.at
            self._items_left -= abs(count)
            if self._items_left < 0:
                raise Undecodable(f"{count} items announced, more than the bytes can hold")
            for _ in range(abs(count)):
                yield
            if size is not None and self.at - begin != size:
                raise Undecodable(f"a block says {size} bytes and has {self.at - begin}")

    def end(self) -> None:
        """Raise Undecodable if bytes are left over."""
        if self.at != len(self._body):
            raise Undecodable(f"{len(self._body) - self.at} bytes left over")


def _transaction(reader: Reader) -> Transaction:
    return Transaction(
        transaction_id=reader.string(),
        wallet_id=reader.string(),
        type=reader.index(2),
        amount=reader.long(),
        currency=reader.string(),
        occurred_us=reader.long(),
        group_id=reader.string() if reader.index(2) == 1 else None,
        metadata=tuple((reader.string(), reader.string()) for _ in reader.items()),
    )


def _balance(reader: Reader) -> Balance:
    return Balance(
        wallet_id=reader.string(),
        currency=reader.string(),
        balance=reader.long(),
        sequence=reader.long(),
        recorded_ms=reader.long(),
        source_partition=reader.long(),
        source_offset=reader.long(),
        hash=reader.take(32),
    )


def read_transaction(body: bytes) -> Transaction:
    """A Transaction from its Avro body; raises Undecodable."""
    reader = Reader(body)
    transaction = _transaction(reader)
    reader.end()
    return transaction


def read_entry(body: bytes) -> Entry:
    """A LedgerEntry from its Avro body; raises Undecodable."""
    reader = Reader(body)
    transaction = _transaction(reader)
    entry = Entry(
        transaction,
        sequence=reader.long(),
        balance=reader.long(),
        recorded_ms=reader.long(),
        source_partition=reader.long(),
        source_offset=reader.long(),
        hash=reader.take(32),
    )
    reader.end()
    return entry


def read_balance(body: bytes) -> Balance:
    """A Balance from its Avro body; raises Undecodable."""
    reader = Reader(body)
    balance = _balance(reader)
    reader.end()
    return balance


def read_snapshot(body: bytes) -> Snapshot:
    """A Snapshot from its Avro body; raises Undecodable."""
    reader = Reader(body)
    snapshot = Snapshot(*_balance(reader), reader.index(3))
    reader.end()
    return snapshot


def long(value: int) -> bytes:
    """A zigzag varint, the shortest."""
    unsigned = (value << 1) ^ (value >> 63)
    written = bytearray()
    while unsigned > 0x7F:
        written.append(unsigned & 0x7F | 0x80)
        unsigned >>= 7
    written.append(unsigned)
    return bytes(written)


def string(value: str) -> bytes:
    """A string with its length in bytes before it."""
    encoded = value.encode("utf-8")
    return long(len(encoded)) + encoded


def write_transaction(transaction: Transaction) -> bytes:
    """The canonical Avro body of a Transaction."""
    pairs = b"".join(string(name) + string(value) for name, value in transaction.metadata)
    group = long(0) if transaction.group_id is None else long(1) + string(transaction.group_id)
    return b"".join(
        [
            string(transaction.transaction_id),
            string(transaction.wallet_id),
            long(transaction.type),
            long(transaction.amount),
            string(transaction.currency),
            long(transaction.occurred_us),
            group,
            long(len(transaction.metadata)) + pairs + long(0) if pairs else long(0),
        ]
    )


def write_balance(balance: Balance) -> bytes:
    """The canonical Avro body of a Balance."""
    numbers = (
        balance.balance,
        balance.sequence,
        balance.recorded_ms,
        balance.source_partition,
        balance.source_offset,
    )
    return string(balance.wallet_id) + string(balance.currency) + b"".join(map(long, numbers)) + balance.hash
