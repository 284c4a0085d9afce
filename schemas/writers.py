"""Producers' own schemas: other versions of Transaction that the input topic's subject lists.

A body is first walked strictly by the schema that wrote it, which says whether it is legal and whether a
metadata key comes twice; then fastavro resolves it to our schema by Avro's rules.
"""

import json
from collections.abc import Callable
from functools import lru_cache
from io import BytesIO
from typing import Any, cast

import fastavro
from fastavro.read import SchemaResolutionError
from fastavro.schema import SchemaParseException, UnknownType

from schemas.avro import IllegalAvro, Reader
from schemas.records import TYPES, Transaction
from schemas.versions import schema_text

#: The deepest nesting of records: a schema may contain itself.
DEPTH = 64
#: Parsed schemas to remember.
REMEMBERED = 1_000
#: Microseconds of one unit of occurred_at; a plain long counts as our own schema's unit.
UNITS_US = {None: 1, "timestamp-micros": 1, "timestamp-millis": 1_000}
#: Left out before fastavro sees a schema: with them it returns datetimes, which cannot hold every value.
_LOGICAL = {"logicalType", "precision", "scale"}
#: What parsing a text raises that is not a schema, or not of a record.
_UNUSABLE = (
    SchemaParseException,
    UnknownType,
    RecursionError,
    LookupError,
    AttributeError,
    TypeError,
    ValueError,
)

#: Reads one value of a schema's bytes.
Walk = Callable[[Reader], object]


class NotATransaction(ValueError):  # noqa: N818 - the name is the message
    """A schema whose bytes cannot be read as a Transaction."""


class WriterSchema:
    """The schema of one producer's transactions; raises NotATransaction for a schema that cannot be one."""

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            source = json.loads(text)
            self._schema = cast("Any", fastavro.parse_schema(_plain(source)))
            named: dict[str, Walk] = {}
            self._walks = _field_walks(self._schema, named)
            named[self._schema["name"]] = _record(self._walks)  # a transaction may hold transactions
            fields = {field["name"]: field["type"] for field in source["fields"]}
            if missing := _REQUIRED - fields.keys():
                raise NotATransaction(f"without {', '.join(sorted(missing))}")
            self._unit_us = UNITS_US[_logical_type(fields["occurred_at"])]
            self._missing = _FIELDS - fields.keys()
            self._unknown = fields.keys() - _FIELDS
        except _UNUSABLE as error:
            raise NotATransaction(f"not a schema of transactions: {error!r}") from error

    @property
    def hides(self) -> str | None:
        """Why this schema may hide one of our fields under another name; None if it cannot.

        Unknown fields are ignored if all of ours are there. If `group_id` or `metadata` is missing, an unknown field
        may be it.
        """
        if self._missing and self._unknown:
            named = ", ".join(sorted(self._unknown))
            return f"it lacks {', '.join(sorted(self._missing))} and has {named}, which may be another name of it"
        return None

    def read(self, body: bytes) -> Transaction:
        """Any legal encoding, whether its values obey the rules or not; raises IllegalAvro."""
        keys = self._walk(body)
        try:
            fields: Any = fastavro.schemaless_reader(BytesIO(body), self._schema, _OURS)
        except (SchemaResolutionError, LookupError, TypeError, ValueError, EOFError) as error:
            raise IllegalAvro("its schema's value cannot be read as a Transaction") from error
        # By the keys as they came: a dict would hide a duplicate.
        metadata = tuple((key, fields["metadata"][key]) for key in keys)
        return Transaction(
            fields["transaction_id"],
            fields["wallet_id"],
            TYPES.index(fields["type"]),
            fields["amount"],
            fields["currency"],
            fields["occurred_at"] * self._unit_us,
            fields["group_id"],
            metadata,
        )

    def _walk(self, body: bytes) -> list[str]:
        """Raise IllegalAvro unless the body is legal to its last byte; returns the keys of its metadata."""
        reader = Reader(body)
        keys: list[str] = []
        for name, walk in self._walks:
            value = walk(reader)
            if name == "metadata" and isinstance(value, list):
                keys = value
        reader.end()
        return keys


@lru_cache(maxsize=REMEMBERED)
def writer_schema(text: str) -> WriterSchema:
    """The schema of this text, remembered; raises NotATransaction."""
    return WriterSchema(text)


def _plain(schema: Any) -> Any:
    """The schema without its logical types, which do not change the bytes."""
    if isinstance(schema, list):
        return [_plain(part) for part in schema]
    if isinstance(schema, dict):
        return {name: _plain(part) for name, part in schema.items() if name not in _LOGICAL}
    return schema


_OURS: Any = fastavro.parse_schema(_plain(json.loads(schema_text("transaction"))))
_FIELDS = {field["name"] for field in _OURS["fields"]}
_REQUIRED = {field["name"] for field in _OURS["fields"] if "default" not in field}


def _logical_type(schema: Any) -> str | None:
    """The logical type of a field, or of the branch of its union that has one."""
    if isinstance(schema, dict):
        return schema.get("logicalType") or _logical_type(schema.get("type"))
    if isinstance(schema, list):
        return next(filter(None, map(_logical_type, schema)), None)
    return None


_PRIMITIVES: dict[str, Walk] = {
    "null": lambda _: None,
    "boolean": Reader.boolean,
    "int": Reader.int32,
    "long": Reader.long,
    "float": lambda reader: reader.take(4),
    "double": lambda reader: reader.take(8),
    "bytes": Reader.bytes,
    "string": Reader.string,
}


def _walk_of(schema: Any, named: dict[str, Walk]) -> Walk:
    """The reader of a schema's bytes; `named` collects the records, enums and fixed types that it declares."""
    if isinstance(schema, str):
        return _PRIMITIVES.get(schema) or _named(schema, named)
    if isinstance(schema, list):
        return _union([_walk_of(branch, named) for branch in schema])
    match schema["type"]:
        case "record":
            named[schema["name"]] = walk = _record(_field_walks(schema, named))
        case "enum":
            symbols = len(schema["symbols"])
            named[schema["name"]] = walk = lambda reader: reader.index(symbols)
        case "fixed":
            size = schema["size"]
            named[schema["name"]] = walk = lambda reader: reader.take(size)
        case "array":
            walk = _array(_walk_of(schema["items"], named))
        case "map":
            walk = _map(_walk_of(schema["values"], named))
        case within:
            walk = _walk_of(within, named)
    return walk


def _named(name: str, named: dict[str, Walk]) -> Walk:
    # Looked up at reading time: a record may name itself before it is complete.
    def walk(reader: Reader) -> object:
        return named[name](reader)

    return walk


def _field_walks(record: Any, named: dict[str, Walk]) -> list[tuple[str, Walk]]:
    return [(field["name"], _walk_of(field["type"], named)) for field in record["fields"]]


def _record(fields: list[tuple[str, Walk]]) -> Walk:
    def walk(reader: Reader) -> None:
        reader.depth += 1
        if reader.depth > DEPTH:
            raise IllegalAvro(f"records within records, more than {DEPTH} deep")
        for _, field in fields:
            field(reader)
        reader.depth -= 1

    return walk


def _union(branches: list[Walk]) -> Walk:
    return lambda reader: branches[reader.index(len(branches))](reader)


def _array(item: Walk) -> Walk:
    def walk(reader: Reader) -> None:
        for _ in reader.items():
            item(reader)

    return walk


def _map(value: Walk) -> Walk:
    def walk(reader: Reader) -> list[str]:
        keys = []
        for _ in reader.items():
            keys.append(reader.string())
            value(reader)
        return keys

    return walk
