"""The records of the ledger and their Avro bodies. Amounts are whole minor units, times are aware UTC."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Literal

#: A value is a zero, the schema's id in four bytes, and the body (Confluent's wire format).
FRAME_BYTES, HASH_BYTES = 5, 32
NO_HASH = bytes(HASH_BYTES)
LARGEST, CHARACTERS = 2**63 - 1, 128
TYPES: tuple[Literal["CREDIT", "DEBIT"], ...] = ("CREDIT", "DEBIT")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_CURRENCY = re.compile(r"[A-Z]{3}")


class Undecodable(ValueError):  # noqa: N818 - the name is the message
    """These bytes are no record of the ledger."""


@dataclass(frozen=True, kw_only=True)
class Transaction:
    """A credit or debit of a wallet. `amount` is above zero; `metadata` keeps its order."""

    transaction_id: str
    wallet_id: str
    type: Literal["CREDIT", "DEBIT"]
    amount: int
    currency: str
    occurred_at: datetime
    group_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    def broken_rule(self) -> str | None:
        """The rule that the ledger would reject it for as INVALID; None where it keeps them all."""
        texts = [self.wallet_id, self.group_id or "", *self.metadata, *self.metadata.values()]
        rules = (
            (_UUID.fullmatch(self.transaction_id), "transaction_id must be a UUID in lower case"),
            (1 <= len(self.wallet_id) <= CHARACTERS, "wallet_id must have 1 to 128 characters"),
            (self.type in TYPES, "type must be CREDIT or DEBIT"),
            (
                type(self.amount) is int and 0 < self.amount <= LARGEST,
                "amount must be 1 to 2**63 - 1 minor units",
            ),
            (_CURRENCY.fullmatch(self.currency), "currency must be three capital letters"),
            (self.occurred_at.tzinfo, "occurred_at must have a time zone"),
            (
                self.group_id is None or 1 <= len(self.group_id) <= CHARACTERS,
                "group_id must have 1 to 128 characters",
            ),
            (not any("\0" in text for text in texts), "no text may hold U+0000"),
        )
        return next((rule for kept, rule in rules if not kept), None)

    def encode(self) -> bytes:
        """Its Avro body."""
        pairs = b"".join(_string(name) + _string(value) for name, value in self.metadata.items())
        return b"".join(
            [
                _string(self.transaction_id),
                _string(self.wallet_id),
                _long(TYPES.index(self.type)),
                _long(self.amount),
                _string(self.currency),
                _long((self.occurred_at - _EPOCH) // timedelta(microseconds=1)),
                _long(0) if self.group_id is None else _long(1) + _string(self.group_id),
                _long(len(self.metadata)) + pairs + _long(0) if pairs else _long(0),
            ]
        )


@dataclass(frozen=True, kw_only=True)
class Balance:
    """A wallet's balance after its entry `sequence`, which came from this partition and offset of the input."""

    wallet_id: str
    currency: str
    balance: int
    sequence: int
    recorded_at: datetime
    source_partition: int
    source_offset: int
    hash: bytes


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A transaction in its place: the wallet's `sequence`, and the balance after it. `body` is what `hash` covers."""

    transaction: Transaction
    sequence: int
    balance: int
    recorded_at: datetime
    source_partition: int
    source_offset: int
    hash: bytes
    body: bytes = field(repr=False)

    def follows(self, previous: bytes) -> bool:
        """Whether its hash follows from the wallet's hash before it, 32 zero bytes for sequence 1."""
        return sha256(previous + self.body).digest() == self.hash


def read_entry(value: bytes) -> Entry:
    """A record's value of the topic `ledger`; raises Undecodable."""
    reader = _Reader(value, FRAME_BYTES)
    transaction = Transaction(
        transaction_id=reader.string(),
        wallet_id=reader.string(),
        type=TYPES[reader.index(2)],
        amount=reader.long(),
        currency=reader.string(),
        occurred_at=reader.time(1),
        group_id=reader.string() if reader.index(2) else None,
        metadata=reader.string_map(),
    )
    entry = Entry(
        transaction=transaction,
        sequence=reader.long(),
        balance=reader.long(),
        recorded_at=reader.time(1_000),
        source_partition=reader.long(),
        source_offset=reader.long(),
        hash=reader.take(HASH_BYTES),
        body=value[FRAME_BYTES:-HASH_BYTES],
    )
    reader.end()
    return entry


def read_balance(value: bytes) -> Balance:
    """A record's value of the topic `balances`; raises Undecodable."""
    reader = _Reader(value, FRAME_BYTES)
    balance = Balance(
        wallet_id=reader.string(),
        currency=reader.string(),
        balance=reader.long(),
        sequence=reader.long(),
        recorded_at=reader.time(1_000),
        source_partition=reader.long(),
        source_offset=reader.long(),
        hash=reader.take(HASH_BYTES),
    )
    reader.end()
    return balance


def _long(value: int) -> bytes:
    """A zigzag varint."""
    unsigned = (value << 1) ^ (value >> 63)
    written = bytearray()
    while unsigned > 0x7F:
        written.append(unsigned & 0x7F | 0x80)
        unsigned >>= 7
    written.append(unsigned)
    return bytes(written)


def _string(value: str) -> bytes:
    encoded = value.encode()
    return _long(len(encoded)) + encoded


class _Reader:
    """Reads Avro, one field after the other."""

    def __init__(self, value: bytes, at: int) -> None:
        self._value, self._at = value, at

    def take(self, count: int) -> bytes:
        end = self._at + count
        if count < 0 or end > len(self._value):
            raise Undecodable(f"{count} bytes wanted at {self._at} of {len(self._value)}")
        taken, self._at = self._value[self._at : end], end
        return taken

    def long(self) -> int:
        unsigned = 0
        for shift in range(0, 70, 7):
            octet = self.take(1)[0]
            unsigned |= (octet & 0x7F) << shift
            if octet < 0x80:
                return (unsigned >> 1) ^ -(unsigned & 1)
        raise Undecodable("a number of more than 64 bits")

    def index(self, choices: int) -> int:
        chosen = self.long()
        if not 0 <= chosen < choices:
            raise Undecodable(f"index {chosen} of {choices}")
        return chosen

    def string(self) -> str:
        try:
            return self.take(self.long()).decode()
        except UnicodeDecodeError:
            raise Undecodable("a string is not UTF-8") from None

    def time(self, unit_us: int) -> datetime:
        try:
            return _EPOCH + timedelta(microseconds=self.long() * unit_us)
        except OverflowError:
            raise Undecodable("a time beyond the year 9999") from None

    def string_map(self) -> dict[str, str]:
        pairs: dict[str, str] = {}
        while count := self.long():
            if count < 0:
                self.long()  # the size of the block
            for _ in range(min(abs(count), len(self._value))):
                name = self.string()
                pairs[name] = self.string()
        return pairs

    def end(self) -> None:
        if self._at != len(self._value):
            raise Undecodable(f"{len(self._value) - self._at} bytes left over")
