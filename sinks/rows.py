"""From Avro bodies and Kafka messages to rows of binary COPY, without a Python object per field.

Our own records are canonical (DESIGN section 4), so this reads them by position: at 40,000 rows a second
building `uuid.UUID`, `datetime` and `LedgerEntry` would cost more than COPY itself. Damaged bytes raise ValueError,
whatever they are: those that make no row, and those that PostgreSQL would refuse in one.

A row of binary COPY is its number of fields, then each field as its length (-1: null) and bytes, all big
endian (PostgreSQL manual, "COPY", Binary Format). A timestamptz is microseconds since 2000-01-01 UTC, a
uuid its 16 bytes, an enum its label, a jsonb a 1 and its text.
"""

import base64
import json
import struct
from binascii import unhexlify
from collections.abc import Callable, Sequence
from functools import wraps
from json.encoder import encode_basestring
from typing import NamedTuple, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

#: Microseconds from 1970, where Avro and Kafka count from, to 2000, where PostgreSQL does.
POSTGRES_EPOCH_US = 946_684_800_000_000
DAY_MS = 86_400_000
HASH_BYTES = 32

NULL = b"\xff\xff\xff\xff"
EMPTY_JSON = b"\x00\x00\x00\x03\x01{}"

_SHORT_TEXT = struct.Struct(">hi")
_LENGTH = struct.Struct(">i")
#: sequence, transaction_id, and the length of type's label
_IDENTITY = struct.Struct(">iqi16si")
#: amount, currency, occurred_at
_MONEY = struct.Struct(">iqi3siq")
#: balance, recorded_at, source_partition, source_offset, hash, and the length of entry
_PLACE = struct.Struct(">iqiqiiiqi32si")
#: currency, balance, sequence, recorded_at, source_partition, source_offset, hash, and the length of reason
_SNAPSHOT = struct.Struct(">i3siqiqiqiiiqi32si")
#: currency, opened_at
_WALLET = struct.Struct(">i3siq")
#: number of fields, source_partition, source_offset, and the length of reason
_REJECTION = struct.Struct(">hiiiqi")

#: By their byte in Avro.
_TYPES = {0: b"CREDIT", 2: b"DEBIT"}
_REASONS = {0: b"INTERVAL", 2: b"PERIOD", 4: b"SEAL"}
_ID_BYTES = 16
#: A varint has ten bytes at most, of seven bits each.
_LAST_SHIFT = 63
#: Years 1 to 9999.
_LEAST_MS, _MOST_MS = -62_135_596_800_000, 253_402_300_799_999


def _damage_is_a_value_error(read: Callable[P, T]) -> Callable[P, T]:
    """Turn bytes that end too early, bad indexes and numbers that fit no column into a ValueError."""

    @wraps(read)
    def reading(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return read(*args, **kwargs)
        except (IndexError, KeyError, OverflowError, struct.error) as error:
            raise ValueError(f"damaged: {error}") from error

    return reading


class EntryRow(NamedTuple):
    """A row of `transactions`, the day it was recorded, and the row of `wallets` that its entry 1 opens."""

    row: bytes
    day: int
    wallet: bytes | None


@_damage_is_a_value_error
def entry_row(body: bytes) -> EntryRow:
    """Rows of a LedgerEntry's Avro body; fields in the order of the schema."""
    if body[0] != 72:
        raise ValueError("transaction_id is not 36 characters long")
    transaction_id = unhexlify(body[1:37].replace(b"-", b""))
    if len(transaction_id) != _ID_BYTES:
        raise ValueError("transaction_id is no UUID")
    wallet_id, at = _text(body, 37)
    kind = _TYPES[body[at]]
    amount, at = _long(body, at + 1)
    currency, at = _currency(body, at)
    occurred_us, at = _long(body, at)
    _check_time(occurred_us // 1_000)
    group = NULL
    if body[at]:
        if body[at] != 2:
            raise ValueError("group_id is neither null nor a string")
        group_id, at = _text(body, at + 1)
        group = _LENGTH.pack(len(group_id)) + group_id
    else:
        at += 1
    metadata = EMPTY_JSON
    if body[at]:
        metadata, at = _metadata(body, at)
    else:
        at += 1
    sequence, at = _long(body, at)
    balance, at = _long(body, at)
    recorded_ms, at = _long(body, at)
    source_partition, at = _long(body, at)
    source_offset, at = _long(body, at)
    if at + HASH_BYTES != len(body):
        raise ValueError("body does not end with the hash")
    _check_time(recorded_ms)
    recorded_us = recorded_ms * 1_000 - POSTGRES_EPOCH_US
    row = b"".join(
        (
            _SHORT_TEXT.pack(15, len(wallet_id)),
            wallet_id,
            _IDENTITY.pack(8, sequence, 16, transaction_id, len(kind)),
            kind,
            _MONEY.pack(8, amount, 3, currency, 8, occurred_us - POSTGRES_EPOCH_US),
            group,
            metadata,
            _PLACE.pack(8, balance, 8, recorded_us, 4, source_partition, 8, source_offset, 32, body[at:], at),
            body[:at],
        )
    )
    wallet = None
    if sequence == 1:
        wallet = _SHORT_TEXT.pack(3, len(wallet_id)) + wallet_id + _WALLET.pack(3, currency, 8, recorded_us)
    return EntryRow(row, recorded_ms // DAY_MS, wallet)


@_damage_is_a_value_error
def snapshot_row(body: bytes) -> bytes:
    """The row of `transaction_snapshots` of a Snapshot's Avro body."""
    wallet_id, at = _text(body, 0)
    currency, at = _currency(body, at)
    balance, at = _long(body, at)
    sequence, at = _long(body, at)
    recorded_ms, at = _long(body, at)
    source_partition, at = _long(body, at)
    source_offset, at = _long(body, at)
    if at + HASH_BYTES + 1 != len(body):
        raise ValueError("body does not end with hash and reason")
    _check_time(recorded_ms)
    reason = _REASONS[body[-1]]
    fields = _SNAPSHOT.pack(
        3,
        currency,
        8,
        balance,
        8,
        sequence,
        8,
        recorded_ms * 1_000 - POSTGRES_EPOCH_US,
        4,
        source_partition,
        8,
        source_offset,
        32,
        body[at : at + HASH_BYTES],
        len(reason),
    )
    return _SHORT_TEXT.pack(9, len(wallet_id)) + wallet_id + fields + reason


@_damage_is_a_value_error
def rejection_row(
    source: tuple[int, int],
    reason: bytes,
    detail: bytes,
    at_ms: int,
    key: bytes | None,
    value: bytes | None,
    came: Sequence[tuple[bytes, bytes | None]],
) -> bytes:
    """The row of `rejections`; `came` are the headers that came with the source record."""
    _check_text(reason)
    _check_text(detail)
    _check_time(at_ms)
    headers = b"\x01" + json.dumps([[_base64(name), _base64(content)] for name, content in came]).encode()
    return b"".join(
        (
            _REJECTION.pack(8, 4, source[0], 8, source[1], len(reason)),
            reason,
            _field(detail),
            _LENGTH.pack(8),
            (at_ms * 1_000 - POSTGRES_EPOCH_US).to_bytes(8, "big", signed=True),
            _field(key),
            _field(value),
            _field(headers),
        )
    )


def _long(body: bytes, at: int) -> tuple[int, int]:
    """An Avro long and where it ends: a varint, seven bits a byte from the low end, zigzag."""
    byte = body[at]
    at += 1
    if byte < 128:
        return (byte >> 1) ^ -(byte & 1), at
    value, shift = byte & 127, 7
    while (byte := body[at]) > 127:
        value |= (byte & 127) << shift
        shift += 7
        at += 1
        if shift > _LAST_SHIFT:
            raise ValueError("a number of more than 64 bits")
    value |= byte << shift
    return (value >> 1) ^ -(value & 1), at + 1


def _text(body: bytes, at: int) -> tuple[bytes, int]:
    """An Avro string's bytes, which are UTF-8 that a text column takes, and where it ends."""
    length, at = _long(body, at)
    if length < 0:
        raise ValueError("a string of a negative length")
    end = at + length
    found = body[at:end]
    _check_text(found)
    return found, end


def _check_text(value: bytes) -> None:
    if not value.isascii():
        value.decode()
    if b"\0" in value:
        raise ValueError("a text with a NUL")


def _currency(body: bytes, at: int) -> tuple[bytes, int]:
    """Three letters and where they end."""
    found = body[at + 1 : at + 4]
    if body[at] != 6 or not found.isalpha():  # of bytes, letters are those of ASCII
        raise ValueError("currency is not of three letters")
    return found, at + 4


def _check_time(ms: int) -> None:
    if not _LEAST_MS <= ms <= _MOST_MS:
        raise ValueError("a time beyond the year 9999 or before the year 1")


def _metadata(body: bytes, at: int) -> tuple[bytes, int]:
    """An Avro map of strings with one block, as a field of jsonb, and where it ends."""
    count, at = _long(body, at)
    if not 0 < count <= len(body):
        raise ValueError("metadata is more than one block")
    pairs = []
    for _ in range(count):
        key, at = _text(body, at)
        value, at = _text(body, at)
        pairs.append(f"{encode_basestring(key.decode())}: {encode_basestring(value.decode())}")
    if body[at]:
        raise ValueError("metadata is more than one block")
    text = f"{{{', '.join(pairs)}}}".encode()
    return _LENGTH.pack(len(text) + 1) + b"\x01" + text, at + 1


def _field(value: bytes | None) -> bytes:
    return NULL if value is None else _LENGTH.pack(len(value)) + value


def _base64(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()
