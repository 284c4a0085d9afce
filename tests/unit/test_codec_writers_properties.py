"""Any schema that a registry may hold, and any bytes under it: a transaction or a named reason, nothing else."""

import json
from contextlib import suppress
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from schemas.avro import IllegalAvro
from schemas.codec import encode_transaction
from schemas.records import Transaction
from schemas.writers import NotATransaction, WriterSchema
from tests.unit.test_codec_writers import FULL, GOOD, schema, written

NODE = {"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "Node"]}]}
EXTRA = [
    {"name": "deep", "type": NODE},
    {"name": "many", "type": {"type": "array", "items": ["null", "double", "bytes"]}},
    {"name": "map", "type": {"type": "map", "values": {"type": "map", "values": "int"}}},
    {"name": "flag", "type": "boolean"},
    {"name": "fixed", "type": {"type": "fixed", "name": "Four", "size": 4}},
]
SCHEMAS: list[Any] = [
    schema(),
    schema(without=("group_id", "metadata")),
    schema(extra=EXTRA),
    schema(wallet_id="bytes", amount="int", metadata=["null", {"type": "map", "values": "string"}]),
    schema(occurred_at=["null", {"type": "long", "logicalType": "timestamp-millis"}]),
    schema(amount=["int", "long", "float"], currency=["null", "string"]),
]
WRITERS = [WriterSchema(json.dumps(one)) for one in SCHEMAS]
BODIES = [
    encode_transaction(GOOD),
    encode_transaction(FULL),
    written(SCHEMAS[1]),
    written(
        SCHEMAS[2], deep={"next": None}, many=[None, 1.5, b"x"], map={"a": {"b": 1}}, flag=True, fixed=b"four"
    ),
]

#: Of what a schema is made, in all the wrong places, too.
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 300)
    | st.sampled_from(["string", "long", "record", "enum", "map", "union", "wallet.Transaction", "", "\0"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "name", "fields", "items", "values", "symbols", "size", "logicalType"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Bytes that were a body of one of the schemas until something happened to them; or any bytes."""
    body = draw(st.sampled_from([*BODIES, b""]))
    at = draw(st.integers(0, len(body)))
    return body[:at] + draw(st.binary(max_size=12)) + body[at + draw(st.integers(0, 4)) :]


@given(st.sampled_from(WRITERS), damaged())
def test_any_bytes_are_a_transaction_or_illegal(writer: WriterSchema, body: bytes) -> None:
    try:
        read = writer.read(body)
    except IllegalAvro:
        return
    assert isinstance(read, Transaction)
    assert isinstance(read.transaction_id, str)
    assert isinstance(read.wallet_id, str)
    assert isinstance(read.amount, int)


@given(st.data())
@example(data=None)
def test_any_schema_is_a_transactions_or_told_to_be_none(data: st.DataObject | None) -> None:
    made = schema()
    if data is not None:
        field = data.draw(st.sampled_from(made["fields"]))
        field[data.draw(st.sampled_from(["type", "name", "default"]))] = data.draw(JSON)
        if data.draw(st.booleans()):
            made[data.draw(st.sampled_from(["type", "name", "namespace", "fields"]))] = data.draw(JSON)
    try:
        writer = WriterSchema(json.dumps(made))
    except NotATransaction:
        assert data is not None, "our own schema is one"
        return
    for body in BODIES:
        with suppress(IllegalAvro):
            assert isinstance(writer.read(body), Transaction)
