"""Lines of JSON or CSV and the transactions in them; what a line gets wrong is told in words."""

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import BinaryIO, Literal, NamedTuple

from config.errors import ConfigurationError
from schemas import producer
from schemas.producer import InvalidTransaction
from schemas.records import TYPES, Transaction, from_us

Form = Literal["jsonl", "csv"]
Fields = dict[str, object]
#: A line's number with its fields, or with what is wrong with it.
Row = tuple[int, Fields | str]

REQUIRED = ("transaction_id", "wallet_id", "type", "amount", "currency", "occurred_at")
OPTIONAL = ("group_id", "metadata")
#: A CSV column of this name and a key behind it holds one metadata entry, for example `metadata.channel`.
METADATA = "metadata."
_WHOLE = re.compile(r"[+-]?[0-9]{1,19}")


class Line(NamedTuple):
    """One line of the input: its number, and its transaction or what is wrong with it."""

    number: int
    read: Transaction | str


class BadLine(Exception):  # noqa: N818 - it is an outcome, told with the line's number
    """A line that is no transaction; the message says why."""


def parse(source: BinaryIO, form: Form) -> Iterator[Line]:
    """Every line that is not empty, numbered from 1 as editors do, read or with the reason it was not."""
    for number, row in rows(source, form):
        try:
            yield Line(number, row if isinstance(row, str) else to_transaction(row))
        except BadLine as bad:
            yield Line(number, str(bad))


def rows(source: BinaryIO, form: Form, more: Sequence[str] = ()) -> Iterator[Row]:
    """The fields of every line that is not empty, nothing checked; a CSV file may have `more` columns.

    Raises ConfigurationError for a CSV column that is not known.
    """
    return _json_lines(source) if form == "jsonl" else _csv_lines(source, (*REQUIRED, "group_id", *more))


def to_transaction(fields: Fields) -> Transaction:
    """A transaction from the fields of a line; raises BadLine with the first thing that is wrong."""
    if missing := [name for name in REQUIRED if name not in fields]:
        raise BadLine(f"{', '.join(missing)} missing")
    if unknown := [name for name in fields if name not in REQUIRED + OPTIONAL]:
        raise BadLine(f"unknown field {unknown[0]!r}; known are {', '.join(REQUIRED + OPTIONAL)}")
    metadata = fields.get("metadata") or {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise BadLine("metadata is not an object of strings")
    group = fields.get("group_id")
    try:
        return producer.transaction(
            transaction_id=text_of(fields, "transaction_id"),
            wallet_id=text_of(fields, "wallet_id"),
            type=_kind(fields),
            amount=whole_of(fields, "amount"),
            currency=text_of(fields, "currency"),
            occurred_at=time_of(fields, "occurred_at"),
            group_id=None if group is None else text_of(fields, "group_id"),
            metadata=metadata,
        )
    except InvalidTransaction as error:
        raise BadLine(str(error)) from None


def to_json(transaction: Transaction) -> Fields:
    """The fields of a line for a transaction; what is not there is left out."""
    fields: Fields = {
        "transaction_id": transaction.transaction_id,
        "wallet_id": transaction.wallet_id,
        "type": TYPES[transaction.type],
        "amount": transaction.amount,
        "currency": transaction.currency,
        "occurred_at": from_us(transaction.occurred_us).isoformat(),
    }
    if transaction.group_id is not None:
        fields["group_id"] = transaction.group_id
    if transaction.metadata:
        fields["metadata"] = dict(transaction.metadata)
    return fields


def _json_lines(source: BinaryIO) -> Iterator[Row]:
    for number, line in enumerate(source, start=1):
        if line.strip():
            yield number, _json_fields(line)


def _json_fields(line: bytes) -> Fields | str:
    try:
        fields = _decoded(line.decode("utf-8"))
    except UnicodeDecodeError:
        return "not UTF-8"
    except BadLine as bad:
        return str(bad)
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}"
    return fields if isinstance(fields, dict) else "not a JSON object"


def _once(pairs: list[tuple[str, object]]) -> Fields:
    """A JSON object; json itself keeps the last of two equal names without a word."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise BadLine("a field comes twice")
    return fields


#: Made once; `json.loads` would make one for every line.
_decoded = json.JSONDecoder(object_pairs_hook=_once).decode


def _csv_lines(source: BinaryIO, known: Sequence[str]) -> Iterator[Row]:
    # Bytes that are not UTF-8 become surrogates, which the rules of a transaction refuse line by line.
    text = io.TextIOWrapper(source, encoding="utf-8-sig", errors="surrogateescape", newline="")
    try:
        yield from _csv_rows(text, known)
    finally:
        text.detach()  # or it would close a file that is its opener's to close


def _csv_rows(text: io.TextIOWrapper, known: Sequence[str]) -> Iterator[Row]:
    reader = csv.reader(text, strict=True)
    names = next(reader, [])
    for name in names:
        if name not in known and not name.startswith(METADATA):
            raise ConfigurationError(
                f"CSV column {name!r} is not known: use {', '.join(known)} and {METADATA}<key>"
            )
    if len(set(names)) != len(names):
        raise ConfigurationError("a CSV column comes twice")
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield reader.line_num, f"not CSV: {error}"
            continue
        if cells is None:
            return
        if cells:
            yield reader.line_num, _csv_fields(names, cells)


def _csv_fields(names: list[str], cells: list[str]) -> Fields | str:
    if len(cells) != len(names):
        return f"{len(cells)} cells, but {len(names)} columns"
    # CSV cannot tell an empty text from none; none is what is meant.
    filled = {name: cell for name, cell in zip(names, cells, strict=True) if cell}
    metadata = {
        name.removeprefix(METADATA): cell for name, cell in filled.items() if name.startswith(METADATA)
    }
    fields: Fields = {name: cell for name, cell in filled.items() if not name.startswith(METADATA)}
    return fields | {"metadata": metadata}


def text_of(fields: Fields, name: str) -> str:
    """The text in a field; raises BadLine for anything else."""
    value = fields[name]
    if not isinstance(value, str):
        raise BadLine(f"{name} is not a string")
    return value


def _kind(fields: Fields) -> Literal["CREDIT", "DEBIT"]:
    match text_of(fields, "type"):
        case "CREDIT":
            return "CREDIT"
        case "DEBIT":
            return "DEBIT"
        case other:
            raise BadLine(f"type {other[:20]!r} is neither CREDIT nor DEBIT")


def whole_of(fields: Fields, name: str) -> int:
    """Minor units; a fraction is refused, not rounded, and so is a boolean: BadLine."""
    value = fields[name]
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise BadLine(f"{name} {str(value)[:40]} is not a whole number of minor units")


def time_of(fields: Fields, name: str) -> datetime:
    """The aware time in a field; raises BadLine for one that could mean several."""
    value = fields[name]
    if isinstance(value, datetime):  # from a file that has types
        at = value
    else:
        try:
            at = datetime.fromisoformat(text_of(fields, name))
        except ValueError:
            raise BadLine(f"{name} {str(value)[:40]!r} is no ISO 8601 time") from None
    if at.tzinfo is None:
        raise BadLine(f"{name} {str(value)[:40]!r} has no zone: add Z or an offset")
    return at
