"""The rows that records of the derived topics become, in the form of PostgreSQL's `to_jsonb`."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from audit import avro
from audit.columns import HASH_BYTES
from audit.contract import FRAME_BYTES, REASONS, REJECTION_HEADERS, TYPES
from topics.source import Source

Row = dict[str, object]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Rows:
    """A table that a topic becomes; `row` raises ValueError, OverflowError, KeyError or Undecodable for damage."""

    table: str
    stored_in: Sequence[str]
    topic: str
    identity: Sequence[str]
    row: Callable[[Source], Row]


def of_us(microseconds: int) -> datetime:
    """A time since the epoch, UTC; raises OverflowError beyond the years 1 to 9999."""
    return _EPOCH + timedelta(microseconds=microseconds)


def _time(microseconds: int) -> str:
    """A timestamptz: ISO 8601, fractions without the zeros at their end."""
    text = of_us(microseconds).isoformat()
    if "." not in text:
        return text
    return f"{text[:-6].rstrip('0')}{text[-6:]}"


def _bytea(value: bytes | None) -> str | None:
    return None if value is None else f"\\x{value.hex()}"


def _entry(record: Source) -> Row:
    body = (record.value or b"")[FRAME_BYTES:]
    entry = avro.read_entry(body)
    one = entry.transaction
    return {
        "wallet_id": one.wallet_id,
        "sequence": entry.sequence,
        "transaction_id": one.transaction_id,
        "type": TYPES[one.type],
        "amount": one.amount,
        "currency": one.currency,
        "occurred_at": _time(one.occurred_us),
        "group_id": one.group_id,
        "metadata": dict(one.metadata),
        "balance": entry.balance,
        "recorded_at": _time(entry.recorded_ms * 1_000),
        "source_partition": entry.source_partition,
        "source_offset": entry.source_offset,
        "hash": _bytea(entry.hash),
        "entry": _bytea(body[:-HASH_BYTES]),
    }


def _snapshot(record: Source) -> Row:
    snapshot = avro.read_snapshot((record.value or b"")[FRAME_BYTES:])
    fields = snapshot._asdict()
    del fields["recorded_ms"]
    return fields | {
        "recorded_at": _time(snapshot.recorded_ms * 1_000),
        "hash": _bytea(snapshot.hash),
        "reason": REASONS[snapshot.reason],
    }


def _rejection(record: Source) -> Row:
    came = record.headers[: -len(REJECTION_HEADERS)]
    ours = {name: value or b"" for name, value in record.headers[-len(REJECTION_HEADERS) :]}
    return {
        "source_partition": int(ours["rejection.partition"]),
        "source_offset": int(ours["rejection.offset"]),
        "reason": ours["rejection.reason"].decode(errors="replace"),
        "detail": ours["rejection.detail"].decode(errors="replace"),
        "at": _time(int(ours["rejection.at"]) * 1_000),
        "key": _bytea(record.key),
        "value": _bytea(record.value),
        "headers": [[_base64(name.encode()), _base64(content)] for name, content in came],
    }


def _base64(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()


ROWS = (
    Rows(
        "transactions",
        ("transactions", "transaction_archive"),
        "ledger",
        ("wallet_id", "sequence"),
        _entry,
    ),
    Rows(
        "transaction_snapshots",
        ("transaction_snapshots",),
        "snapshots",
        ("wallet_id", "sequence", "reason"),
        _snapshot,
    ),
    Rows("rejections", ("rejections",), "rejections", ("source_partition", "source_offset"), _rejection),
)
