"""Producers' own schemas: walk a body strictly by its writer schema, then resolve it to ours with fastavro.

fastavro alone is too lenient: it accepts negative indexes and varints beyond 64 bits, and its dicts hide repeated keys.
"""

import json
from functools import lru_cache
from importlib.resources import files
from io import BytesIO
from typing import Any, cast

import fastavro

from audit.avro import Reader, Undecodable
from audit.contract import TYPES, Transaction

#: Records within records, at most.
DEPTH = 64
SMALLEST_INT, LARGEST_INT = -(2**31), 2**31 - 1
#: Microseconds of one unit of occurred_at; a plain long is micros, as in our own schema.
UNITS_US = {None: 1, "timestamp-micros": 1, "timestamp-millis": 1_000}
#: Left out before fastavro sees a schema: with them it makes datetimes, which cannot hold every value.
LOGICAL = ("logicalType", "precision", "scale")


def _plain(schema: Any) -> Any:
    """The schema without its logical types, which do not change the bytes."""
    if isinstance(schema, list):
        return [_plain(part) for part in schema]
    if isinstance(schema, dict):
        return {name: _plain(part) for name, part in schema.items() if name not in LOGICAL}
    return schema


_OURS: Any = fastavro.parse_schema(
    _plain(json.loads((files("schemas.transaction") / "v1.avsc").read_text(encoding="utf-8")))
)


class Writer:
    """The schema of one producer's transactions, of which the log says that it counts."""

    def __init__(self, text: str) -> None:
        source = json.loads(text)
        self._schema = cast("Any", fastavro.parse_schema(_plain(source)))
        self._named: dict[str, Any] = {}
        self._learn(self._schema)
        occurred = next(field["type"] for field in source["fields"] if field["name"] == "occurred_at")
        self._unit_us = UNITS_US[_logical(occurred)]

    @classmethod
    def of(cls, text: str) -> "Writer":
        """The schema of this text, remembered."""
        return _writer(text)

    def read(self, body: bytes) -> Transaction:
        """Any legal encoding, whether its values keep the rules or not; raises Undecodable."""
        reader = Reader(body)
        keys: list[str] = []
        for field in self._schema["fields"]:
            walked = self._walk(reader, field["type"], 0)
            if field["name"] == "metadata" and isinstance(walked, list):
                keys = walked
        reader.end()
        try:
            fields: Any = fastavro.schemaless_reader(BytesIO(body), self._schema, _OURS)
        except (ValueError, LookupError, TypeError, EOFError, fastavro.read.SchemaResolutionError):
            raise Undecodable("its schema's value cannot be read as a Transaction") from None
        return Transaction(
            fields["transaction_id"],
            fields["wallet_id"],
            TYPES.index(fields["type"]),
            fields["amount"],
            fields["currency"],
            fields["occurred_at"] * self._unit_us,
            fields["group_id"],
            tuple((key, fields["metadata"][key]) for key in keys),
        )

    def _walk(self, reader: Reader, schema: Any, depth: int) -> list[str] | None:
        """Pass one value; the keys of a map."""
        if isinstance(schema, list):
            return self._walk(reader, schema[reader.index(len(schema))], depth)
        if isinstance(schema, str):
            if schema not in self._named:
                _pass(reader, schema)
                return None
            schema = self._named[schema]
        match schema["type"]:
            case "record":
                self._walk_record(reader, schema, depth + 1)
            case "enum":
                reader.index(len(schema["symbols"]))
            case "fixed":
                reader.take(schema["size"])
            case "array":
                for _ in reader.items():
                    self._walk(reader, schema["items"], depth)
            case "map":
                return [self._pair(reader, schema["values"], depth) for _ in reader.items()]
            case within:
                return self._walk(reader, within, depth)
        return None

    def _learn(self, schema: Any) -> None:
        """Remember the types that have names, wherever they are declared."""
        if isinstance(schema, list):
            for branch in schema:
                self._learn(branch)
        elif isinstance(schema, dict):
            if "name" in schema:
                self._named[schema["name"]] = schema
            for part in ("type", "items", "values"):
                self._learn(schema.get(part))
            for field in schema.get("fields", ()):
                self._learn(field["type"])

    def _walk_record(self, reader: Reader, schema: Any, depth: int) -> None:
        if depth > DEPTH:
            raise Undecodable(f"records within records, more than {DEPTH} deep")
        for field in schema["fields"]:
            self._walk(reader, field["type"], depth)

    def _pair(self, reader: Reader, values: Any, depth: int) -> str:
        key = reader.string()
        self._walk(reader, values, depth)
        return key


@lru_cache(maxsize=1_000)
def _writer(text: str) -> Writer:
    return Writer(text)


def _pass(reader: Reader, primitive: str) -> None:
    match primitive:
        case "boolean":
            if reader.take(1)[0] > 1:
                raise Undecodable("a boolean is neither 0 nor 1")
        case "int":
            if not SMALLEST_INT <= reader.long() <= LARGEST_INT:
                raise Undecodable("an int has more than 32 bits")
        case "long":
            reader.long()
        case "float":
            reader.take(4)
        case "double":
            reader.take(8)
        case "bytes":
            reader.take(reader.long())
        case "string":
            reader.string()
        case "null":
            pass
        case unknown:
            raise Undecodable(f"its schema names {unknown!r}, which it does not declare")


def _logical(schema: Any) -> str | None:
    """The logical type of a field, or of the branch of its union that has one."""
    if isinstance(schema, dict):
        return schema.get("logicalType") or _logical(schema.get("type"))
    if isinstance(schema, list):
        return next(filter(None, map(_logical, schema)), None)
    return None
