"""Our own records as Avro bodies: ledger entries, balances and snapshots, written and read back.

These functions read only what they wrote, canonically; damaged bytes raise ValueError, they are never
rejected. Bodies are without the five bytes of the wire format.
"""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from schemas.avro import Longs, Reader, long_bytes, long_of, longs, string_bytes
from schemas.digest import digest
from schemas.records import REASONS, TYPES, Balance, LedgerEntry, Snapshot, Transaction
from schemas.usual import usual_reader
from schemas.versions import SchemaName

HASH_BYTES = 32
#: The previous hash of a wallet's first entry.
NO_HASH = bytes(HASH_BYTES)

_new = tuple.__new__
_usual = usual_reader(b"")
#: The three kinds of record share this form: five numbers, then the hash.
_NUMBERS_AND_HASH = re.compile(rb"([\x80-\xff]{0,9}+[\0-\x7f])" * 5 + rb"(.{32})", re.DOTALL).match


class EntryParts(NamedTuple):
    """A LedgerEntry with the slice of its body that is the transaction, from which the content's digest is made."""

    transaction: Transaction
    transaction_body: bytes
    sequence: int
    balance: int
    recorded_ms: int
    source_partition: int
    source_offset: int
    hash: bytes


def encode_transaction(transaction: Transaction) -> bytes:
    """The canonical encoding: shortest varints, one metadata block, entries in their order."""
    parts = [
        string_bytes(transaction.transaction_id),
        string_bytes(transaction.wallet_id),
        long_bytes(transaction.type),
        long_bytes(transaction.amount),
        string_bytes(transaction.currency),
        long_bytes(transaction.occurred_us),
        b"\0" if transaction.group_id is None else b"\2" + string_bytes(transaction.group_id),
    ]
    if transaction.metadata:
        parts.append(long_bytes(len(transaction.metadata)))
        parts += [string_bytes(text) for entry in transaction.metadata for text in entry]
    parts.append(b"\0")
    return b"".join(parts)


def read_transaction(reader: Reader) -> Transaction:
    """Any legal encoding of a Transaction, whether its values obey the rules or not; raises IllegalAvro."""
    return Transaction(
        transaction_id=reader.string(),
        wallet_id=reader.string(),
        type=reader.index(len(TYPES)),
        amount=reader.long(),
        currency=reader.string(),
        occurred_us=reader.long(),
        group_id=reader.string() if reader.index(2) else None,
        metadata=tuple((reader.string(), reader.string()) for _ in reader.items()),
    )


def encode_entry(
    transaction_body: bytes,
    sequence: int,
    balance: int,
    recorded_ms: int,
    source_partition: int,
    source_offset: int,
    write: Longs = longs,
) -> bytes:
    """A LedgerEntry's body without its hash, which is last: hash it with `chain`, then append the hash."""
    return write(transaction_body, sequence, balance, recorded_ms, source_partition, source_offset)


def chain(previous_hash: bytes, entry: bytes) -> bytes:
    """The hash of an entry, given the hash of the one before and its body without hash."""
    return digest(previous_hash + entry)


def decode_transaction(body: bytes) -> Transaction:
    """Read a Transaction's body; raises ValueError for damage."""
    usual = _usual(body)
    if usual and usual[1] == len(body):
        return usual[0]
    reader = Reader(body)
    transaction = read_transaction(reader)
    reader.end()
    return transaction


def split_entry(body: bytes) -> EntryParts:
    """Read a LedgerEntry's body together with its transaction's bytes; raises ValueError for damage."""
    usual = _usual(body)
    if usual:
        transaction, at = usual
    else:
        reader = Reader(body)
        transaction, at = read_transaction(reader), reader.at
    numbers, end = _numbers_and_hash(body, at)
    _must_end(body, end)
    return EntryParts(transaction, body[:at], *numbers)


def decode_entry(body: bytes) -> LedgerEntry:
    """Read a LedgerEntry's body; raises ValueError for damage."""
    parts = split_entry(body)
    return _new(LedgerEntry, (parts[0], *parts[2:]))


def encode_balance(balance: Balance, write: Longs = longs) -> bytes:
    """A Balance's body."""
    wallet_id, currency, amount, sequence, recorded_ms, source_partition, source_offset, last_hash = balance
    owner = string_bytes(wallet_id) + string_bytes(currency)
    return write(owner, amount, sequence, recorded_ms, source_partition, source_offset) + last_hash


def decode_balance(body: bytes) -> Balance:
    """Read a Balance's body; raises ValueError for damage."""
    reader = Reader(body)
    wallet_id, currency = reader.string(), reader.string()
    numbers, end = _numbers_and_hash(body, reader.at)
    _must_end(body, end)
    return Balance(wallet_id, currency, *numbers)


def encode_snapshot(balance: Balance, reason: int, write: Longs = longs) -> bytes:
    """A Snapshot's body: the balance's, then the reason."""
    return encode_balance(balance, write) + long_bytes(reason)


def decode_snapshot(body: bytes) -> Snapshot:
    """Read a Snapshot's body; raises ValueError for damage."""
    reader = Reader(body)
    wallet_id, currency = reader.string(), reader.string()
    numbers, end = _numbers_and_hash(body, reader.at)
    reader = Reader(body, end)
    reason = reader.index(len(REASONS))
    reader.end()
    return Snapshot(wallet_id, currency, *numbers, reason)


#: The decoder of every released version, by schema and version: everything ever written stays readable.
DECODERS: Mapping[
    tuple[SchemaName, int], Callable[[bytes], Transaction | LedgerEntry | Balance | Snapshot]
] = {
    ("transaction", 1): decode_transaction,
    ("ledger_entry", 1): decode_entry,
    ("balance", 1): decode_balance,
    ("snapshot", 1): decode_snapshot,
}


def _numbers_and_hash(body: bytes, at: int) -> tuple[tuple[int, int, int, int, int, bytes], int]:
    """Three longs, source_partition, source_offset and the hash from byte `at` on, and where they end."""
    match = _NUMBERS_AND_HASH(body, at)
    if match is None:
        raise ValueError(f"a record of ours is damaged after byte {at}")
    a, b, c, d, e, last_hash = match.groups()
    return (long_of(a), long_of(b), long_of(c), long_of(d), long_of(e), last_hash), match.end()


def _must_end(body: bytes, end: int) -> None:
    if end != len(body):
        raise ValueError(f"a record of ours is damaged: {len(body) - end} bytes left over")
