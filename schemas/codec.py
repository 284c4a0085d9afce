"""Convert between Kafka's bytes and the records of `schemas.records`: the wire format and the worker's decoder.

`TransactionCodec.order` decodes a value: to a transaction's deciding part with its canonical bytes, or to the reason
why it is none. The functions for our own records come from `schemas.entries`.
"""

from binascii import unhexlify
from collections.abc import Callable
from typing import NamedTuple

from schemas.avro import IllegalAvro, Reader
from schemas.digest import digest
from schemas.entries import (
    DECODERS,
    HASH_BYTES,
    NO_HASH,
    EntryParts,
    chain,
    decode_balance,
    decode_entry,
    decode_snapshot,
    decode_transaction,
    encode_balance,
    encode_entry,
    encode_snapshot,
    encode_transaction,
    read_transaction,
    split_entry,
)
from schemas.records import Order, Reason, Rejected, Transaction
from schemas.rules import broken_rule
from schemas.usual import usual_order, usual_order_in_python, usual_reader
from schemas.writers import WriterSchema

__all__ = [
    "DECODERS",
    "HASH_BYTES",
    "HEADER_BYTES",
    "NO_HASH",
    "Decoded",
    "EntryParts",
    "TransactionCodec",
    "WriterSchema",
    "body_of",
    "chain",
    "content_digest",
    "decode_balance",
    "decode_entry",
    "decode_snapshot",
    "decode_transaction",
    "encode_balance",
    "encode_entry",
    "encode_snapshot",
    "encode_transaction",
    "frame",
    "not_a_transactions",
    "order_of",
    "split_entry",
]

#: Confluent's wire format: a zero byte, then the schema id in four bytes, big-endian.
HEADER_BYTES = 5
_new = tuple.__new__


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
    record's offset, and returns the producer's own schema, or None if the id does not count as a Transaction's. Without
    `compiled` it does everything in Python, and so does a fold that uses it: an audit must not run the code it checks.
    """

    def __init__(
        self, schema_id: int, writers: Callable[[int, int], WriterSchema | None], *, compiled: bool = True
    ) -> None:
        self.compiled = compiled
        #: The first bytes of values in the pipeline's schema.
        self.frame = frame(schema_id)
        self._usual = usual_reader(self.frame)
        #: The fast path of `order`; returns None for what it cannot judge.
        self.usual_order = usual_order(self.frame) if compiled else usual_order_in_python(self.frame)
        self._writers = writers

    def order(self, value: bytes | None, offset: int = 0) -> Order | Rejected:
        """The deciding part of a record's value; `decode` returns all of it. Raises what `writers` raises."""
        if value and (usual := self.usual_order(value)):
            return usual
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
            reader = Reader(body)
            transaction = read_transaction(reader)
            reader.end()
            return transaction
        schema_id = int.from_bytes(value[1:HEADER_BYTES], "big")
        writer = self._writers(schema_id, offset)
        if writer is None:
            raise IllegalAvro(not_a_transactions(schema_id))
        return writer.read(body)
