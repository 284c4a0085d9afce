"""The columns of an exported record: raw columns that hold all of it, and readable ones for convenience.

A readable column is null if the record does not decode: upstream may send any bytes.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from confluent_kafka import Message

from operations.rejections.listing import rejection_in
from schemas.codec import HASH_BYTES, HEADER_BYTES, body_of, decode_entry, decode_snapshot, decode_transaction
from schemas.records import REASONS, TYPES, Transaction
from schemas.rules import EARLIEST_US, LATEST_US
from topics.rejections import headers_of

#: One past the largest int64; numbers in headers may be larger, and no column holds those.
BEYOND_LONG = 1 << 63
#: Readable columns by name.
Fields = dict[str, object]


class Kind(NamedTuple):
    """One exported topic: the types of its readable columns, and the function that fills them ({} if it cannot)."""

    name: str
    types: Callable[[Any], dict[str, Any]]
    fields: Callable[[Message], Fields]


def kinds(transaction_schema_id: int) -> dict[str, Kind]:
    """Every topic that can be exported, by its name in `wallet export topics --topic`."""
    known = (
        Kind("input", _transaction_types, partial(_transaction, transaction_schema_id)),
        Kind("ledger", lambda pa: _transaction_types(pa) | _posted_types(pa), _entry),
        Kind("rejections", _rejection_types, _rejection),
        Kind("snapshots", _snapshot_types, _snapshot),
    )
    return {kind.name: kind for kind in known}


def schema(pa: Any, kind: Kind) -> Any:
    """The file's schema, raw columns first."""
    return pa.schema([(name, of) for name, (of, _) in _raw(pa).items()] + [*kind.types(pa).items()])


def row_group(pa: Any, kind: Kind, messages: Sequence[Message]) -> Any:
    """These records as a pyarrow table."""
    columns = [pa.array([take(one) for one in messages], of) for of, take in _raw(pa).values()]
    read = [kind.fields(message) for message in messages]
    columns += [pa.array([fields.get(name) for fields in read], of) for name, of in kind.types(pa).items()]
    return pa.Table.from_arrays(columns, schema=schema(pa, kind))


def _raw(pa: Any) -> dict[str, tuple[Any, Callable[[Message], object]]]:
    """The raw columns: type, and the function that takes the value from a record."""
    header = pa.struct([("name", pa.binary()), ("value", pa.binary())])
    return {
        "offset": (pa.int64(), lambda one: one.offset()),
        "timestamp": (pa.timestamp("ms", "UTC"), lambda one: one.timestamp()[1]),
        "record_key": (pa.binary(), lambda one: one.key()),
        "record_value": (pa.binary(), lambda one: one.value()),
        "record_headers": (pa.list_(header), _headers),
    }


def _headers(message: Message) -> list[dict[str, bytes | None]] | None:
    """Names and values; None if a name is not UTF-8, which no Python client can read."""
    found = headers_of(message)
    return None if found is None else [{"name": name.encode(), "value": value} for name, value in found]


def _transaction_types(pa: Any) -> dict[str, Any]:
    return {
        "transaction_id": pa.string(),
        "wallet_id": pa.string(),
        "type": pa.string(),
        "amount": pa.int64(),
        "currency": pa.string(),
        "occurred_at": pa.timestamp("us", "UTC"),
        "group_id": pa.string(),
        "metadata": pa.map_(pa.string(), pa.string()),
    }


def _posted_types(pa: Any) -> dict[str, Any]:
    return {
        "sequence": pa.int64(),
        "balance": pa.int64(),
        "recorded_at": pa.timestamp("ms", "UTC"),
        "source_partition": pa.int64(),
        "source_offset": pa.int64(),
        "hash": pa.binary(HASH_BYTES),
    }


def _snapshot_types(pa: Any) -> dict[str, Any]:
    named = {"wallet_id": pa.string(), "currency": pa.string()}
    return named | _posted_types(pa) | {"reason": pa.string()}


def _rejection_types(pa: Any) -> dict[str, Any]:
    return {
        "reason": pa.string(),
        "detail": pa.string(),
        "source_partition": pa.int64(),
        "source_offset": pa.int64(),
        "at": pa.timestamp("ms", "UTC"),
    }


def _of(one: Transaction) -> Fields:
    # Times outside the years 1 to 9999 are INVALID, and most Parquet readers cannot show them.
    sane = EARLIEST_US <= one.occurred_us <= LATEST_US
    named = one._asdict() | {"type": TYPES[one.type], "occurred_at": one.occurred_us if sane else None}
    del named["occurred_us"]
    return named


def _transaction(schema_id: int, message: Message) -> Fields:
    try:
        return _of(decode_transaction(body_of(message.value() or b"", schema_id)))
    except (ValueError, IndexError):
        return {}


def _entry(message: Message) -> Fields:
    try:
        entry = decode_entry((message.value() or b"")[HEADER_BYTES:])
        return _of(entry.transaction) | entry._asdict() | {"recorded_at": entry.recorded_ms}
    except (ValueError, IndexError):
        return {}


def _snapshot(message: Message) -> Fields:
    try:
        snapshot = decode_snapshot((message.value() or b"")[HEADER_BYTES:])
        return snapshot._asdict() | {"recorded_at": snapshot.recorded_ms, "reason": REASONS[snapshot.reason]}
    except (ValueError, IndexError):
        return {}


def _rejection(message: Message) -> Fields:
    found = rejection_in(message)
    if found is None or max(found.partition, found.source_offset) >= BEYOND_LONG:
        return {}
    return {
        "reason": found.reason,
        "detail": found.detail,
        "source_partition": found.partition,
        "source_offset": found.source_offset,
        "at": found.at,
    }
