"""Records of the derived topics as the rows that they become, in the words of PostgreSQL's `to_jsonb`."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from operations.verify.expected import rejection_of
from operations.verify.kinds import Record
from schemas.codec import HEADER_BYTES, decode_entry, decode_snapshot
from schemas.entries import HASH_BYTES
from schemas.records import REASONS, TYPES, from_ms, from_us
from sinks.ledger import TRANSACTIONS
from sinks.rejections import REJECTIONS
from sinks.snapshots import SNAPSHOTS
from topics.source import Source

Row = dict[str, object]


@dataclass(frozen=True)
class Rows:
    """A table (or the view over it and its archive) that a topic becomes; `row` raises ValueError for damage."""

    table: str
    stored_in: str
    topic: str
    identity: Sequence[str]
    row: Callable[[Record], Row]


def as_text(at: datetime) -> str:
    """A timestamptz: ISO 8601, fractions without the zeros at their end."""
    text = at.isoformat()
    if "." not in text:
        return text
    return f"{text[:-6].rstrip('0')}{text[-6:]}"


def _bytea(value: bytes | None) -> str | None:
    return None if value is None else f"\\x{value.hex()}"


def _entry(record: Record) -> Row:
    body = (record[1] or b"")[HEADER_BYTES:]
    entry = decode_entry(body)
    one = entry.transaction
    return {
        "wallet_id": one.wallet_id,
        "sequence": entry.sequence,
        "transaction_id": one.transaction_id,
        "type": TYPES[one.type],
        "amount": one.amount,
        "currency": one.currency,
        "occurred_at": as_text(from_us(one.occurred_us)),
        "group_id": one.group_id,
        "metadata": dict(one.metadata),
        "balance": entry.balance,
        "recorded_at": as_text(from_ms(entry.recorded_ms)),
        "source_partition": entry.source_partition,
        "source_offset": entry.source_offset,
        "hash": _bytea(entry.hash),
        "entry": _bytea(body[:-HASH_BYTES]),
    }


def _snapshot(record: Record) -> Row:
    snapshot = decode_snapshot((record[1] or b"")[HEADER_BYTES:])
    fields = snapshot._asdict()
    del fields["recorded_ms"]
    return fields | {
        "recorded_at": as_text(from_ms(snapshot.recorded_ms)),
        "hash": _bytea(snapshot.hash),
        "reason": REASONS[snapshot.reason],
    }


def _rejection(record: Record) -> Row:
    key, value, timestamp_ms, headers = record
    try:
        named = [(name, one.encode() if isinstance(one, str) else one) for name, one in headers or ()]
        came = rejection_of(Source(-1, timestamp_ms, key, value, named))
    except KeyError as error:
        raise ValueError(f"no header {error}") from None
    return {
        "source_partition": came.source_partition,
        "source_offset": came.source_offset,
        "reason": came.reason.decode(errors="replace"),
        "detail": came.detail.decode(errors="replace"),
        "at": as_text(from_ms(came.at_ms)),
        "key": _bytea(came.key),
        "value": _bytea(came.value),
        "headers": [[_base64(name), _base64(content)] for name, content in came.headers],
    }


def _base64(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()


ROWS = (
    Rows("transactions", "wallet_entries", "ledger", TRANSACTIONS.identity, _entry),
    Rows("transaction_snapshots", "transaction_snapshots", "snapshots", SNAPSHOTS.identity, _snapshot),
    Rows("rejections", "rejections", "rejections", REJECTIONS.identity, _rejection),
)
