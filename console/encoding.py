"""Values as the API writes them: int64 as strings, times in RFC 3339, hashes in hex, `partition:offset`."""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import unquote
from uuid import UUID

from config.times import rfc3339
from console.problems import not_found, wrong
from schemas.records import TYPES, LedgerEntry

#: Offsets and sequences are long.
INT64_MAX = 2**63 - 1
INT32_MAX = 2**31 - 1
#: Fields that stay numbers.
SMALL = frozenset({"partition", "workers"})
_POSITION = re.compile(r"([0-9]{1,10}):([0-9]{1,19})")
_WHOLE = re.compile(r"[0-9]{1,19}")


def position(partition: int, offset: int) -> str:
    """A position in the input."""
    return f"{partition}:{offset}"


def position_in(name: str, text: str) -> tuple[int, int]:
    """Partition and offset of a position; Problem 400 if it is not one."""
    found = _POSITION.fullmatch(text)
    if found is None or int(found[1]) > INT32_MAX or int(found[2]) > INT64_MAX:
        raise wrong(f"{name} {text[:40]!r} is not a position: write partition:offset, for example 3:1042")
    return int(found[1]), int(found[2])


def whole_in(name: str, text: str | None, most: int = INT64_MAX) -> int | None:
    """A whole number that is not negative; Problem 400 otherwise."""
    if text is None:
        return None
    if not _WHOLE.fullmatch(text) or int(text) > most:
        raise wrong(f"{name} {text[:40]!r} is not a whole number from 0 to {most}")
    return int(text)


def time_in(name: str, text: str | None) -> datetime | None:
    """An aware time in UTC; Problem 400 if it is not one. A day means its beginning in UTC."""
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
        if len(text) == len("2026-11-22"):
            at = at.replace(tzinfo=UTC)
        if at.tzinfo is None:
            raise wrong(f"{name} {text[:40]!r} has no zone: add Z or an offset such as %2B01:00")
        return at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise wrong(f"{name} {text[:40]!r} is not a time: write 2026-11-22T10:00:00Z") from None


def day_in(name: str, text: str | None) -> date | None:
    """A date; Problem 400 if it is not one."""
    if not text:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise wrong(f"{name} {text[:40]!r} is not a date: write 2026-11-22") from None


def id_in(segment: str, what: str = "wallet") -> str:
    """The id in a percent-encoded path segment; Problem 404 if it cannot be an id."""
    try:
        text = unquote(segment, errors="strict")
    except UnicodeDecodeError:
        raise not_found(f"this is not UTF-8, which a {what}'s id must be") from None
    if not 1 <= len(text) <= 128 or "\0" in text:
        raise not_found(f"no {what} can have this id: ids have 1 to 128 characters, without U+0000")
    return text


def open_group_in(text: str | None) -> tuple[datetime, str, str] | None:
    """Where a page of open groups ended: time, currency and group, as `next` has it; Problem 400 if it is not that."""
    if not text:
        return None
    at, _, rest = text.partition("/")
    currency, slash, group_id = rest.partition("/")
    time = time_in("after", at)
    if time is None or not slash or "\0" in rest:
        raise wrong(f"after {text[:40]!r} is not where a page ended: take it from `next`")
    return time, currency, group_id


def strings(value: Any, name: str = "") -> Any:
    """A value as JSON has it: numbers that may need 64 bits are strings, and so are times, days, ids and hashes."""
    match value:
        case dict():
            return {key: strings(one, key) for key, one in value.items()}
        case list() | tuple():
            return [strings(one, name) for one in value]
        case datetime():
            return rfc3339(value)
        case bytes():
            return value.hex()
        case Decimal() | date() | UUID():
            return str(value)
    return str(value) if type(value) is int and name not in SMALL else value


def entry_of_record(entry: LedgerEntry) -> dict[str, Any]:
    """An entry from a record of the ledger."""
    one = entry.transaction
    return {
        "wallet_id": one.wallet_id,
        "sequence": str(entry.sequence),
        "transaction_id": one.transaction_id,
        "type": TYPES[one.type],
        "amount": str(one.amount),
        "currency": one.currency,
        "occurred_at": rfc3339(one.occurred_at),
        "group_id": one.group_id,
        "metadata": dict(one.metadata),
        "balance": str(entry.balance),
        "recorded_at": rfc3339(entry.recorded_at),
        "source": position(entry.source_partition, entry.source_offset),
        "hash": entry.hash.hex(),
    }


def signed(entry: Mapping[str, Any]) -> int:
    """What an entry adds to its wallet's balance."""
    return int(entry["amount"]) if entry["type"] == "CREDIT" else -int(entry["amount"])
