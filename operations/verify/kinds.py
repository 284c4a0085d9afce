"""The derived topics as an audit sees them: what a record is known by, and its fields for people.

A record is the tuple (key, value, timestamp_ms, headers): what the fold puts out and what a consumer finds are
compared as such tuples, bytes against bytes. They are taken apart only where they differ.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from confluent_kafka import Message

from audit.report import Fields
from schemas.codec import HEADER_BYTES, decode_balance, decode_entry, decode_snapshot
from schemas.records import REASONS, TYPES

Headers = Sequence[tuple[str, str | bytes | None]] | None
Record = tuple[bytes | None, bytes | None, int, Headers]

#: What stands in for headers that no Python client can read; no worker of ours writes such.
UNREADABLE: list[tuple[str, str | bytes | None]] = [("(a name that is not UTF-8)", None)]
OUR_HEADERS = 6
#: Of the largest offset that there is.
OFFSET_DIGITS = 19
SHOWN_BYTES = 100


@dataclass(frozen=True)
class Kind:
    """One derived topic: `identity` is None for what is no such record, `fields` never raises."""

    name: str
    identity: Callable[[Record], Hashable | None]
    fields: Callable[[Record], Fields]


def record_of(message: Message) -> Record:
    """A consumed message as a record."""
    return (message.key(), message.value(), message.timestamp()[1], headers_of(message))


def records_of(messages: list[Message]) -> list[Record]:
    """Consumed messages as records, in their order."""
    try:
        return [(m.key(), m.value(), m.timestamp()[1], cast("Headers", m.headers())) for m in messages]
    except (SystemError, UnicodeDecodeError):
        return [record_of(message) for message in messages]


def headers_of(message: Message) -> Headers:
    """A message's headers, or the stand-in for unreadable ones."""
    try:
        return cast("Headers", message.headers())
    except (SystemError, UnicodeDecodeError):
        return UNREADABLE


def _entry_identity(record: Record) -> int | None:
    try:
        return decode_entry((record[1] or b"")[HEADER_BYTES:]).source_offset
    except (ValueError, IndexError):
        return None


def _snapshot_identity(record: Record) -> tuple[str, int, int] | None:
    try:
        snapshot = decode_snapshot((record[1] or b"")[HEADER_BYTES:])
    except (ValueError, IndexError):
        return None
    return snapshot.wallet_id, snapshot.sequence, snapshot.reason


def source_of_rejection(record: Record) -> int | None:
    """The source offset that a rejection names: the last of that name, as upstream may send one too."""
    for name, value in reversed(record[3] or ()):
        if name == "rejection.offset":
            text = value if isinstance(value, bytes) else (value or "").encode()
            return int(text) if text.isdigit() and len(text) <= OFFSET_DIGITS else None
    return None


def _decoded(record: Record, decode: Callable[[bytes], Any]) -> Fields:
    key, value, timestamp_ms, headers = record
    fields: Fields = {"key": shown(key), "timestamp_ms": timestamp_ms}
    if headers:
        fields["headers"] = [[name, shown(content)] for name, content in headers]
    try:
        decoded = decode((value or b"")[HEADER_BYTES:])
    except (ValueError, IndexError):
        return fields | {"value": shown(value)}
    fields["schema"] = (value or b"")[:HEADER_BYTES].hex()
    named: dict[str, Any] = decoded._asdict()
    transaction = named.pop("transaction", None)
    if transaction is not None:
        named = transaction._asdict() | {"type": TYPES[transaction.type]} | named
    if isinstance(reason := named.get("reason"), int):
        named["reason"] = REASONS[reason]
    return fields | {name: shown(one) if isinstance(one, bytes) else one for name, one in named.items()}


def _rejection_fields(record: Record) -> Fields:
    key, value, timestamp_ms, headers = record
    named = [(name, shown(content)) for name, content in headers or ()]
    came: Fields = {
        "key": shown(key),
        "value": shown(value),
        "timestamp_ms": timestamp_ms,
        "headers": [[name, content] for name, content in named[:-OUR_HEADERS]],
    }
    return came | dict(named[-OUR_HEADERS:])


def shown(value: str | bytes | None) -> str | None:
    """Bytes as text where they are printable, in hex elsewhere; what is long is cut."""
    if value is None or isinstance(value, str):
        return value
    cut = value[:SHOWN_BYTES]
    try:
        text = cut.decode()
    except UnicodeDecodeError:
        text = "\0"
    told = text if text.isprintable() else f"0x{cut.hex()}"
    return told if len(value) <= SHOWN_BYTES else f"{told}... ({len(value)} bytes)"


LEDGER = Kind("ledger", _entry_identity, lambda record: _decoded(record, decode_entry))
REJECTIONS = Kind("rejections", source_of_rejection, _rejection_fields)
SNAPSHOTS = Kind("snapshots", _snapshot_identity, lambda record: _decoded(record, decode_snapshot))
BALANCES = Kind("balances", lambda _: None, lambda record: _decoded(record, decode_balance))
