"""The seals of archived months: what one covers, how it is computed, and whether a chain of them is unbroken.

A seal is SHA-256(seal before it, 32 zero bytes for the first ‖ what `covered` returns), so a month cannot be
changed, removed or inserted without every later seal changing. It depends on the topic alone: a database that is
filled again gets the same seals. `sealed_at` is not covered.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any, NamedTuple

from psycopg.types.json import Jsonb

from config.errors import Stopped
from config.settings import Settings
from config.times import month_name
from sinks.postgres import Connection

_NAME = re.compile(r"transactions_(\d{4})_(\d\d)")
#: The months that there can be (migration 0010).
FIRST_MONTH, LAST_MONTH = date(1, 1, 1), date(9998, 12, 1)
NO_SEAL = bytes(32)


class Month(NamedTuple):
    """A month that has its own table; `first` is its first day, UTC."""

    first: date
    archived: bool

    @property
    def starts(self) -> datetime:
        """Its first moment."""
        return midnight(self.first)

    @property
    def ends(self) -> datetime:
        """The first moment after it."""
        return following(self.first)

    @property
    def name(self) -> str:
        """As people write it: 2026-08."""
        return month_name(self.first)

    def due_at(self, settings: Settings) -> datetime:
        """From when on it is old enough to be archived."""
        return self.ends + timedelta(days=settings.archive_after_days)


def midnight(day: date) -> datetime:
    """The first moment of a day, UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def following(month: date) -> datetime:
    """The first moment of the next month, UTC."""
    years, months = divmod(month.month, 12)
    return midnight(month.replace(year=month.year + years, month=months + 1))


def to_ms(at: datetime) -> int:
    """Milliseconds since the epoch, as Kafka counts."""
    return round(at.timestamp() * 1_000)


def with_rows(connection: Connection) -> list[Month]:
    """Months that have rows, the oldest first."""
    tables = connection.execute(
        """
        SELECT c.relname, i.inhparent = 'transaction_archive'::regclass
        FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
        WHERE i.inhparent IN ('transactions'::regclass, 'transaction_archive'::regclass)
        """
    ).fetchall()
    named = ((_NAME.fullmatch(name), archived) for name, archived in tables)
    months = [Month(date(int(name[1]), int(name[2]), 1), archived) for name, archived in named if name]
    return [
        month
        for month in sorted(months)
        if FIRST_MONTH <= month.first <= LAST_MONTH and _has_rows(connection, month)
    ]


def _has_rows(connection: Connection, month: Month) -> bool:
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM wallet_entries WHERE recorded_at >= %s AND recorded_at < %s)",
        [month.starts, month.ends],
    ).fetchone()
    return row == (True,)


def entries(connection: Connection, month: Month) -> tuple[int, bool]:
    """About how many rows a month has, and whether that is exact: the server's estimate if it has one."""
    row = connection.execute(
        "SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass(%s)",
        [f"transactions_{month.name.replace('-', '_')}"],
    ).fetchone()
    if row and row[0] > 0:
        return row[0], False
    counted = connection.execute(
        "SELECT count(*) FROM wallet_entries WHERE recorded_at >= %s AND recorded_at < %s",
        [month.starts, month.ends],
    ).fetchone()
    return (counted[0] if counted else 0), True


class Range(NamedTuple):
    """The offsets of one ledger partition that hold a month: from its first entry to one past its last."""

    partition: int
    from_offset: int
    to_offset: int


class Content(NamedTuple):
    """What a month holds; `amount` is credits less debits, `hash` over the entries' hashes in their order."""

    month: date
    ranges: tuple[Range, ...]
    entries: int
    amount: int
    hash: bytes


class Seal(NamedTuple):
    """A row of `archive_seals`; `previous` is None for the first."""

    content: Content
    previous: bytes | None
    seal: bytes
    sealed_at: datetime


def covered(content: Content) -> bytes:
    """What a seal covers, as lines of ASCII: month, entries, amount, hash in hex, and a line for each range."""
    lines = [
        f"month={content.month.isoformat()[:7]}",
        f"entries={content.entries}",
        f"amount={content.amount}",
        f"hash={content.hash.hex()}",
        *(f"range={partition}:{begin}:{end}" for partition, begin, end in sorted(content.ranges)),
    ]
    return "".join(f"{line}\n" for line in lines).encode()


def seal_of(content: Content, previous: bytes | None) -> bytes:
    """The seal of a month after the one before it."""
    return sha256((previous or NO_SEAL) + covered(content)).digest()


def read(connection: Connection) -> list[Seal]:
    """All seals by month, which is the order in which months are sealed.

    Raises Stopped for a month outside our calendar, which the owner's functions never make.
    """
    beyond = connection.execute(
        "SELECT month::text FROM archive_seals WHERE month NOT BETWEEN %s AND %s ORDER BY month LIMIT 1",
        [FIRST_MONTH, LAST_MONTH],
    ).fetchone()
    if beyond:
        raise Stopped(
            f"archive_seals has the month {beyond[0]}, which is not from {FIRST_MONTH} to {LAST_MONTH}: "
            "this program seals no such month; keep a copy of the row as evidence, and let the owner delete it"
        )
    rows = connection.execute(
        "SELECT month, ranges, entries, amount, hash, previous_seal, seal, sealed_at FROM archive_seals ORDER BY 1"
    )
    return [Seal(_content(*row[:5]), *row[5:]) for row in rows]


def _content(month: date, ranges: Any, entries: int, amount: Decimal, content_hash: bytes) -> Content:
    try:
        found = tuple(
            Range(int(one["partition"]), int(one["from_offset"]), int(one["to_offset"])) for one in ranges
        )
        return Content(month, found, entries, int(amount), content_hash)
    except (KeyError, TypeError, ValueError, ArithmeticError):
        raise Stopped(
            f"the seal of {month_name(month)} in archive_seals cannot be read: this program writes no such ranges or "
            "sums; keep a copy of the row as evidence, and let the owner delete it"
        ) from None


def add(connection: Connection, content: Content) -> tuple[Seal, int]:
    """Seal a month in the caller's transaction, after the newest seal; also returns how many snapshots that added.

    The owner's function does it: it refuses a month that is not over, and closes the month for everybody.
    """
    row = connection.execute(
        "SELECT previous_seal, seal, sealed_at, snapshots_added FROM seal_month(%s, %s, %s, %s, %s)",
        [
            content.month,
            Jsonb([one._asdict() for one in content.ranges]),
            content.entries,
            content.amount,
            content.hash,
        ],
    ).fetchone()
    assert row  # noqa: S101 - the function raises or returns its row
    return Seal(content, *row[:3]), row[3]


class Fault(NamedTuple):
    """What is wrong with the seal of a month, as the rest of a sentence about it."""

    month: date
    reason: str


def faults(seals: Sequence[Seal]) -> list[Fault]:
    """What is wrong with these seals (all of them), by month, judged without the topic."""
    found = []
    previous: bytes | None = None
    for one in seals:
        month = one.content.month
        if one.previous != previous:
            found.append(
                Fault(
                    month, f"follows the seal {_hex(one.previous)}, but the month before has {_hex(previous)}"
                )
            )
        if one.seal != (right := seal_of(one.content, one.previous)):
            found.append(Fault(month, f"has the seal {_hex(one.seal)}, but its row gives {_hex(right)}"))
        if min(one.sealed_at, datetime.now(UTC)) < following(month):
            found.append(Fault(month, f"was sealed at {one.sealed_at:%Y-%m-%dT%H:%MZ}, before it was over"))
        if one.content.entries < 1 or not one.content.ranges:
            found.append(Fault(month, "is sealed without entries"))
        previous = one.seal
    return found


def broken(seals: Iterable[Seal]) -> str | None:
    """The first fault of these seals (all of them) as a message; None if the chain is unbroken."""
    for one in faults([*seals]):
        return f"the chain of seals is broken at {month_name(one.month)}: it {one.reason}"
    return None


def _hex(seal: bytes | None) -> str:
    return "none" if seal is None else f"{seal.hex()[:16]}..."
