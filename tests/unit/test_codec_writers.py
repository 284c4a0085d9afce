"""Transactions written with a producer's own schema."""

import json
from io import BytesIO
from typing import Any

import fastavro
import pytest

from schemas.codec import Decoded, TransactionCodec, encode_transaction, frame
from schemas.native.varints import long_bytes
from schemas.records import Reason, Rejected, Transaction
from schemas.versions import schema_text
from schemas.writers import DEPTH, NotATransaction, WriterSchema
from tests.unit.transactions import UUID, block, encoded_until_metadata, overlong, text

GOOD = Transaction(UUID, "alice", 1, 1_250, "EUR", 1_790_000_000_000_000)
FULL = GOOD._replace(group_id="g", metadata=(("b", "2"), ("a", "1")))


def schema(*, without: tuple[str, ...] = (), extra: Any = (), **types: Any) -> Any:
    """Our schema in a producer's hands: fields left out, put in front, or of another type."""
    made = json.loads(schema_text("transaction", 1))
    fields = [{**field, "type": types.get(field["name"], field["type"])} for field in made["fields"]]
    made["fields"] = [*extra, *(field for field in fields if field["name"] not in without)]
    return made


def decode(writer: Any, body: bytes) -> Decoded | Rejected:
    registered = WriterSchema(json.dumps(writer))
    return TransactionCodec(1, lambda schema_id, _: {9: registered}.get(schema_id)).decode(frame(9) + body)


def reason_of(answer: Decoded | Rejected) -> Reason | None:
    return answer.reason if isinstance(answer, Rejected) else None


def written(writer: Any, **fields: Any) -> bytes:
    """A body by fastavro, of GOOD with these fields."""
    record = GOOD._asdict() | {"type": "DEBIT", "occurred_at": GOOD.occurred_us, "metadata": {}} | fields
    parsed = fastavro.parse_schema(json.loads(json.dumps(writer).replace('"logicalType"', '"was"')))
    body = BytesIO()
    fastavro.schemaless_writer(body, parsed, record)
    return body.getvalue()


def test_our_own_schema_under_another_id_reads_the_same() -> None:
    body = encode_transaction(FULL)
    assert decode(schema(), body) == Decoded(FULL, body)


def test_a_schema_without_the_last_two_fields_reads_their_defaults() -> None:
    short = schema(without=("group_id", "metadata"))
    assert decode(short, written(short)) == Decoded(GOOD, encode_transaction(GOOD))


def test_fields_in_another_order_and_unknown_ones_are_resolved() -> None:
    other = schema(extra=[{"name": "branch", "type": {"type": "array", "items": ["null", "double"]}}])
    other["fields"].reverse()
    assert decode(other, written(other, branch=[None, 1.5])) == Decoded(GOOD, encode_transaction(GOOD))


def test_a_record_may_have_another_namespace() -> None:
    assert isinstance(decode(schema() | {"namespace": "com.example"}, encode_transaction(GOOD)), Decoded)


@pytest.mark.parametrize(
    ("types", "fields"),
    [
        ({"amount": "int"}, {}),
        ({"wallet_id": "bytes"}, {"wallet_id": b"alice"}),
        ({"wallet_id": ["null", "string"]}, {}),
        ({"type": {"type": "enum", "name": "TransactionType", "symbols": ["X", "DEBIT"]}}, {}),
        ({"occurred_at": "long"}, {}),
        (
            {"occurred_at": {"type": "long", "logicalType": "timestamp-millis"}},
            {"occurred_at": 1_790_000_000_000},
        ),
        (
            {"occurred_at": ["null", {"type": "long", "logicalType": "timestamp-millis"}]},
            {"occurred_at": 1_790_000_000_000},
        ),
        ({"metadata": ["null", {"type": "map", "values": "string"}]}, {}),
    ],
)
def test_types_that_can_be_resolved_are(types: dict[str, Any], fields: dict[str, Any]) -> None:
    other = schema(**types)
    assert decode(other, written(other, **fields)) == Decoded(GOOD, encode_transaction(GOOD))


@pytest.mark.parametrize(
    ("types", "fields"),
    [
        ({"wallet_id": "bytes"}, {"wallet_id": b"\xff"}),
        ({"wallet_id": ["null", "string"]}, {"wallet_id": None}),
        ({"type": {"type": "enum", "name": "TransactionType", "symbols": ["DEBIT", "X"]}}, {"type": "X"}),
        ({"amount": "double"}, {"amount": 1.5}),
        ({"metadata": ["null", {"type": "map", "values": "string"}]}, {"metadata": None}),
    ],
)
def test_a_value_that_cannot_be_resolved_is_undecodable(
    types: dict[str, Any], fields: dict[str, Any]
) -> None:
    other = schema(**types)
    answer = decode(other, written(other, **fields))
    assert answer == Rejected(Reason.UNDECODABLE, "its schema's value cannot be read as a Transaction")


LEGAL = {
    "overlong numbers": encoded_until_metadata(FULL, lambda n: overlong(n, 9))
    + block([*FULL.metadata])
    + b"\0",
    "a block with its size": encoded_until_metadata(FULL) + block([*FULL.metadata], sized=True) + b"\0",
}
ILLEGAL = {
    "bytes left over": encode_transaction(FULL) + b"\0",
    "cut off": encode_transaction(FULL)[:-1],
    "an enum index out of range": encode_transaction(FULL._replace(type=2)),
    "a negative enum index": encode_transaction(FULL._replace(type=-1)),
    "a wrong block size": encoded_until_metadata(FULL)
    + b"\1"
    + long_bytes(9)
    + text("k")
    + text("v")
    + b"\0",
    "a count that cannot fit": encoded_until_metadata(FULL) + long_bytes(2**62),
    "a number beyond 64 bits": b"\xff" * 9 + b"\2",
    "not UTF-8": encode_transaction(FULL).replace(b"alice", b"al\xffce"),
}


@pytest.mark.parametrize("body", LEGAL.values(), ids=LEGAL.keys())
def test_legal_but_unusual_bytes_are_read_by_their_schema(body: bytes) -> None:
    assert decode(schema(), body) == Decoded(FULL, encode_transaction(FULL))


@pytest.mark.parametrize("body", ILLEGAL.values(), ids=ILLEGAL.keys())
def test_illegal_bytes_are_undecodable_whatever_fastavro_accepts(body: bytes) -> None:
    assert reason_of(decode(schema(), body)) is Reason.UNDECODABLE


@pytest.mark.parametrize(
    ("type_of_extra", "bytes_of_extra"),
    [
        ("boolean", b"\2"),
        ("int", long_bytes(2**31)),
        ("string", b"\2\xff"),
        ("float", b""),
        ({"type": "fixed", "name": "F", "size": 200}, b""),
        ({"type": "array", "items": "null"}, long_bytes(2**60) + b"\0"),
        ({"type": "array", "items": "null"}, (long_bytes(150) * 60) + b"\0"),
    ],
)
def test_a_field_that_we_do_not_know_must_be_legal_too(type_of_extra: Any, bytes_of_extra: bytes) -> None:
    other = schema(extra=[{"name": "extra", "type": type_of_extra}])
    assert reason_of(decode(other, bytes_of_extra + encode_transaction(GOOD))) is Reason.UNDECODABLE


@pytest.mark.parametrize(("depth", "fits"), [(DEPTH, True), (DEPTH + 1, False)])
def test_a_schema_that_contains_itself_is_read_to_a_fixed_depth(depth: int, fits: bool) -> None:
    node = {"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "Node"]}]}
    other = schema(extra=[{"name": "extra", "type": node}])
    answer = decode(other, b"\2" * (depth - 1) + b"\0" + encode_transaction(GOOD))
    assert isinstance(answer, Decoded) is fits


def test_a_transaction_may_hold_transactions() -> None:
    other = schema(extra=[{"name": "corrects", "type": ["null", "wallet.Transaction"]}])
    within = b"\2\0" + encode_transaction(GOOD)
    assert decode(other, within + encode_transaction(FULL)) == Decoded(FULL, encode_transaction(FULL))
    assert reason_of(decode(other, within)) is Reason.UNDECODABLE


def test_a_metadata_key_that_comes_twice_is_invalid() -> None:
    body = encode_transaction(GOOD._replace(metadata=(("k", "1"), ("l", "2"), ("k", "3"))))
    assert decode(schema(), body) == Rejected(Reason.INVALID, "metadata has the key 'k' twice")


def test_a_millisecond_beyond_year_9999_is_invalid_and_no_crash() -> None:
    other = schema(occurred_at={"type": "long", "logicalType": "timestamp-millis"})
    assert reason_of(decode(other, written(other, occurred_at=2**63 - 1))) is Reason.INVALID


@pytest.mark.parametrize(
    "written_schema",
    [
        "",
        "null",
        "[]",
        '"string"',
        '{"type": "string"}',
        '{"type": "record", "name": "Transaction", "fields": []}',
        '{"type": "record", "name": "Transaction", "fields": [{"name": "x", "type": "nowhere.Known"}]}',
        json.dumps(schema(without=("amount",))),
        json.dumps(schema(occurred_at={"type": "long", "logicalType": "timestamp-nanos"})),
        json.dumps([schema()]),
        "[" * 100_000,
    ],
)
def test_a_schema_that_cannot_be_a_transactions_is_told(written_schema: str) -> None:
    with pytest.raises(NotATransaction):
        WriterSchema(written_schema)
