"""Convert between bytes and the records of `schemas.records`: the wire format, and Avro bodies without it.

`TransactionCodec.order` decodes a value from upstream: to a transaction's deciding part with its canonical bytes, or to
the reason why it is none. The functions for our own records read only what they wrote, canonically; damaged bytes raise
ValueError, they are never rejected.
"""

from binascii import unhexlify
from collections.abc import Callable, Mapping
from typing import NamedTuple, cast

from schemas import native
from schemas.avro import IllegalAvro, Reader, string_bytes
from schemas.digest import digest, new_sha256
from schemas.native.balances import decode_balance, encode_balance, must_end, numbers_and_hash
from schemas.native.transactions import usual_reader
from schemas.native.varints import long_bytes, longs
from schemas.records import (
    REASONS,
    TYPES,
    Balance,
    LedgerEntry,
    Order,
    Reason,
    Rejected,
    Snapshot,
    Transaction,
)
from schemas.rules import broken_rule
from schemas.versions import SchemaName
from schemas.writers import WriterSchema

#: Confluent's wire format: a zero byte, then the schema id in four bytes, big-endian.
HEADER_BYTES = 5
HASH_BYTES = 32
#: The previous hash of a wallet's first entry.
NO_HASH = bytes(HASH_BYTES)

_new = tuple.__new__
_usual = usual_reader(b"")


def frame(schema_id: int) -> bytes:
    """The five bytes in front of every body written with this schema."""
    return b"\0" + schema_id.to_bytes(4, "big")


def body_of(value: bytes, schema_id: int) -> bytes:
    """The body of a value of our own topics; raises ValueError if another schema wrote it."""
    if not value.startswith(frame(schema_id)):
        raise ValueError(
            f"the value starts with {value[:HEADER_BYTES].hex()}, not with schema id {schema_id}"
        )
    return value[HEADER_BYTES:]


# -- our own records


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
) -> bytes:
    """A LedgerEntry's body without its hash, which is last: hash it with `chain`, then append the hash."""
    return longs(transaction_body, sequence, balance, recorded_ms, source_partition, source_offset)


def chain(previous_hash: bytes, entry: bytes) -> bytes:
    """The hash of an entry, given the hash of the one before and its body without hash."""
    return digest(previous_hash + entry)


def decode_transaction(body: bytes) -> Transaction:
    """Read a Transaction's body; raises ValueError for damage."""
    usual = _usual(body)
    if usual and usual[1] == len(body):
        return usual[0]
    return _read_strictly(body)


def _read_strictly(body: bytes) -> Transaction:
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
    numbers, end = numbers_and_hash(body, at)
    must_end(body, end)
    return EntryParts(transaction, body[:at], *numbers)


def decode_entry(body: bytes) -> LedgerEntry:
    """Read a LedgerEntry's body; raises ValueError for damage."""
    parts = split_entry(body)
    return _new(LedgerEntry, (parts[0], *parts[2:]))


def encode_snapshot(balance: Balance, reason: int) -> bytes:
    """A Snapshot's body: the balance's, then the reason."""
    return encode_balance(balance) + long_bytes(reason)


def decode_snapshot(body: bytes) -> Snapshot:
    """Read a Snapshot's body; raises ValueError for damage."""
    reader = Reader(body)
    wallet_id, currency = reader.string(), reader.string()
    numbers, end = numbers_and_hash(body, reader.at)
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


# -- what upstream sends


def not_a_transactions(schema_id: int) -> str:
    """The detail of a rejection for an id that does not count."""
    return f"schema id {schema_id} is not a Transaction's"


def content_digest(body: bytes, transaction: Transaction) -> bytes:
    """What two records with one transaction id must share to be duplicates: SHA-256 of the canonical bytes
    with metadata sorted by key. `body` is the canonical encoding of `transaction`.
    """
    if len(transaction.metadata) > 1:
        in_order = tuple(sorted(transaction.metadata))
        if in_order != transaction.metadata:
            body = encode_transaction(transaction._replace(metadata=in_order))
    return digest(body)


def order_of(transaction: Transaction, body: bytes) -> Order:
    """The part of a valid transaction that decides; `body` is its canonical encoding."""
    return Order(
        unhexlify(transaction.transaction_id.replace("-", "")),
        transaction.wallet_id.encode(),
        transaction.type,
        transaction.amount,
        transaction.currency,
        body,
        content_digest(body, transaction),
    )


class Decoded(NamedTuple):
    """A valid transaction, and its canonical encoding with the pipeline's schema."""

    transaction: Transaction
    body: bytes


class TransactionCodec:
    """Decodes values of the transactions topic, judging UNDECODABLE and INVALID (DESIGN section 4).

    `schema_id` is the pipeline's schema, version 1 of Transaction. `writers` is asked about every other id, with the
    record's offset, and returns the producer's own schema, or None if the id does not count as a Transaction's.
    """

    def __init__(self, schema_id: int, writers: Callable[[int, int], WriterSchema | None]) -> None:
        #: The first bytes of values in the pipeline's schema.
        self.frame = frame(schema_id)
        self._usual = usual_reader(self.frame)
        self._writers = writers

    def order(self, value: bytes | None, offset: int = 0) -> Order | Rejected:
        """The deciding part of a record's value; `decode` returns all of it. Raises what `writers` raises."""
        if value and native.usual and (order := native.usual(self.frame, value, Order, new_sha256)):
            return cast("Order", order)
        decoded = self.decode(value, offset)
        return decoded if isinstance(decoded, Rejected) else order_of(*decoded)

    def decode(self, value: bytes | None, offset: int = 0) -> Decoded | Rejected:
        """The value of the record at this source offset, decoded. Raises only what `writers` raises."""
        if value:
            usual = self._usual(value)
            if usual and usual[1] == len(value):
                return _new(Decoded, (usual[0], value[HEADER_BYTES:]))
        return self.decode_unusual(value, offset)

    def decode_unusual(self, value: bytes | None, offset: int = 0) -> Decoded | Rejected:
        """The same answers by the strict reader, for any value."""
        if not value:
            return Rejected.because(Reason.UNDECODABLE, "no value")
        if len(value) < HEADER_BYTES or value[0] != 0:
            start = value[:HEADER_BYTES].hex()
            return Rejected.because(Reason.UNDECODABLE, f"not the wire format: the value starts with {start}")
        try:
            transaction = self._read(value, offset)
        except IllegalAvro as error:
            return Rejected.because(Reason.UNDECODABLE, str(error))
        if broken := broken_rule(transaction):
            return Rejected.because(Reason.INVALID, broken)
        return Decoded(transaction, encode_transaction(transaction))

    def _read(self, value: bytes, offset: int) -> Transaction:
        body = value[HEADER_BYTES:]
        if value.startswith(self.frame):
            return _read_strictly(body)
        schema_id = int.from_bytes(value[1:HEADER_BYTES], "big")
        writer = self._writers(schema_id, offset)
        if writer is None:
            raise IllegalAvro(not_a_transactions(schema_id))
        return writer.read(body)
