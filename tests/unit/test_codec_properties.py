"""The decoder against the audit's reader, which was written from the specification, and against fastavro."""

import json
import random
from collections.abc import Callable
from io import BytesIO
from typing import Any

import fastavro
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from audit import avro
from audit.contract import is_valid
from schemas import native
from schemas.codec import (
    Decoded,
    TransactionCodec,
    chain,
    decode_entry,
    decode_snapshot,
    encode_entry,
    encode_snapshot,
    encode_transaction,
    frame,
    order_of,
    split_entry,
)
from schemas.digest import new_sha256
from schemas.native.balances import decode_balance, encode_balance
from schemas.native.transactions import usual_reader
from schemas.records import TYPES, Balance, LedgerEntry, Order, Snapshot, Transaction
from schemas.versions import SchemaName, schema_text
from tests.effort import examples
from tests.unit.agreement import in_python
from tests.unit.transactions import (
    UUID,
    balances,
    damaged,
    hashes,
    ints,
    longs,
    loose_transactions,
    transactions,
    unusual_encodings,
)

HEADER = frame(1)
CODEC = TransactionCodec(1, lambda *_: None)

bodies = (
    transactions.map(encode_transaction)
    | transactions.flatmap(unusual_encodings)
    | loose_transactions.map(encode_transaction)
    | loose_transactions.flatmap(unusual_encodings)
)


def outcome(body: bytes) -> Decoded | str:
    """What the codec says of a body: the transaction with its canonical bytes, or the reason."""
    result = CODEC.decode(HEADER + body)
    return result if isinstance(result, Decoded) else str(result.reason)


def read_plainly(body: bytes) -> Decoded | str:
    """What the audit's slow reader says of it, which was written from the specification and shares no code."""
    try:
        read = avro.read_transaction(body)
    except avro.Undecodable:
        return "UNDECODABLE"
    return Decoded(Transaction(*read), avro.write_transaction(read)) if is_valid(read) else "INVALID"


def schema(name: SchemaName) -> Any:
    """Our schema as fastavro reads it, without logical types: it then returns the numbers."""
    text = schema_text(name).replace('"logicalType"', '"was"')
    return fastavro.parse_schema(json.loads(text))


def by_fastavro(name: SchemaName, body: bytes) -> Any:
    return fastavro.schemaless_reader(BytesIO(body), schema(name), None)


def for_fastavro(transaction: Transaction) -> dict[str, Any]:
    fields = transaction._asdict() | {"type": TYPES[transaction.type], "metadata": dict(transaction.metadata)}
    return fields | {"occurred_at": fields.pop("occurred_us")}


@settings(max_examples=examples(400))
@given(bodies | damaged(bodies) | st.binary(max_size=200))
@example(b"")
def test_the_decoder_and_the_audits_reader_agree_on_any_bytes(body: bytes) -> None:
    assert outcome(body) == read_plainly(body)


def assert_all_ways_agree(value: bytes) -> None:
    """The fast paths, to a whole transaction and to an order, give what the strict reader gives."""
    strictly = CODEC.decode_unusual(value)
    assert CODEC.decode(value) == strictly, value
    order = order_of(*strictly) if isinstance(strictly, Decoded) else strictly
    assert CODEC.order(value) == order, value
    with in_python():
        assert CODEC.order(value) == order, value


@settings(max_examples=examples(250))
@given(bodies | damaged(transactions.map(encode_transaction)))
def test_the_fast_path_and_the_strict_one_give_the_same(body: bytes) -> None:
    assert_all_ways_agree(HEADER + body)


@pytest.mark.parametrize("metadata", [(), (("key", "v"),), (("a", "v"), ("b", "w"))])
def test_the_usual_transaction_takes_the_short_way(metadata: tuple[tuple[str, str], ...]) -> None:
    usual = Transaction(UUID, "wallet-1", 1, 1_999, "EUR", 1_790_000_000_000_000, "group 7", metadata)
    unsorted = usual._replace(metadata=(("b", "v"), ("a", "w")))
    assert usual_reader(HEADER)(HEADER + encode_transaction(usual)) is not None
    if native.usual is not None:
        for one, is_usual in ((usual, True), (unsorted, False)):
            order = native.usual(HEADER, HEADER + encode_transaction(one), Order, new_sha256)
            assert (order is not None) == is_usual


def test_the_fast_path_and_the_strict_one_agree_on_changes_of_every_single_byte() -> None:
    # Fields of the usual shape, with printable bytes wherever a changed length could still find some.
    body = encode_transaction(
        Transaction(
            UUID, "alice 1", 1, 123_456, "EUR", 1_790_000_000_123_456, "group 7", (("key", "v"), ("l", "w"))
        )
    )
    for at in range(len(body)):
        # All 256 in `make test-full`; each run draws others.
        for byte in random.sample(range(256), min(examples(32), 256)):
            for value in (body[:at] + bytes([byte]) + body[at + 1 :], body[:at] + bytes([byte]) + body[at:]):
                assert_all_ways_agree(HEADER + value)


@given(st.data(), transactions)
def test_a_legal_encoding_becomes_the_canonical_one_and_fastavro_reads_it_the_same_way(
    data: st.DataObject, transaction: Transaction
) -> None:
    canonical = encode_transaction(transaction)
    for body in (canonical, data.draw(unusual_encodings(transaction))):
        assert CODEC.decode(HEADER + body) == Decoded(transaction, canonical)
        assert by_fastavro("transaction", body) == for_fastavro(transaction)


@given(transactions)
def test_what_is_written_is_what_fastavro_writes(transaction: Transaction) -> None:
    written = BytesIO()
    fastavro.schemaless_writer(written, schema("transaction"), for_fastavro(transaction))
    assert encode_transaction(transaction) == written.getvalue()


@given(transactions, longs, longs, longs, ints, longs, hashes)
def test_an_entry_round_trips_and_fastavro_reads_it(
    transaction: Transaction,
    sequence: int,
    balance: int,
    at: int,
    partition: int,
    offset: int,
    previous: bytes,
) -> None:
    transaction_body = encode_transaction(transaction)
    numbers = (sequence, balance, at, partition, offset)
    unhashed = encode_entry(transaction_body, *numbers)
    entry_hash = chain(previous, unhashed)
    body = unhashed + entry_hash

    assert decode_entry(body) == LedgerEntry(transaction, *numbers, entry_hash)
    assert split_entry(body) == (transaction, transaction_body, *numbers, entry_hash)
    assert list(by_fastavro("ledger_entry", body).values())[1:] == [*numbers, entry_hash]


@given(balances, st.sampled_from([0, 1, 2]))
def test_balances_and_snapshots_round_trip_and_fastavro_reads_them(balance: Balance, reason: int) -> None:
    body = encode_balance(balance)
    assert decode_balance(body) == balance
    assert tuple(by_fastavro("balance", body).values()) == balance

    snapshot = encode_snapshot(balance, reason)
    assert decode_snapshot(snapshot) == Snapshot(*balance, reason)
    assert tuple(by_fastavro("snapshot", snapshot).values())[:8] == balance


@given(st.sampled_from([decode_entry, decode_balance, decode_snapshot, split_entry]), st.binary(max_size=150))
def test_damage_to_our_own_records_is_a_value_error(decode: Callable[[bytes], object], body: bytes) -> None:
    try:
        decode(body)
    except ValueError:
        return
    # Whatever else is raised fails the test; what is read had to have all of its hash.
    assert len(body) >= 32
