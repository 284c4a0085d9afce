"""Check the seals of archived months: their chain, and each against the month's rows.

A seal is SHA-256(previous seal, 32 zero bytes for the first ‖ lines of what it covers): docs/operations/archive.md.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np

from audit.columns import Longs
from audit.contract import NO_HASH
from audit.copied import Connection
from audit.report import Difference

TABLE = "archive_seals"
CHECK = "seals"
#: Before any time there is.
NEVER_MS = np.iinfo(np.int64).min
#: Source offsets whose hashes the server makes one value of: 2 MB.
BLOCK = 65_536
DECEMBER = 12

Ranges = tuple[tuple[int, int, int], ...]


class Content(NamedTuple):
    """What a seal covers: number of entries, credits minus debits, a hash over their hashes, and ranges.

    A range is a partition of the ledger, the offset of the month's first entry there, and one past that of its last.
    """

    entries: int
    amount: int
    hash: bytes
    ranges: Ranges

    def covered(self, month: date) -> bytes:
        """What a seal covers, as lines of ASCII."""
        lines = [
            f"month={_name(month)}",
            f"entries={self.entries}",
            f"amount={self.amount}",
            f"hash={self.hash.hex()}",
            *(f"range={partition}:{begin}:{end}" for partition, begin, end in sorted(self.ranges)),
        ]
        return "".join(f"{line}\n" for line in lines).encode()


class Seal(NamedTuple):
    """A row of `archive_seals`; `content` is None where ranges or sum cannot be read."""

    month: date
    content: Content | None
    previous: bytes | None
    seal: bytes
    sealed_at: datetime | None


class Seals:
    """Reads the seals with the rows; later compares them with the certified ledger's ranges of each month."""

    def __init__(self) -> None:
        self._ranges: dict[date, Ranges] = {}

    def differences(self, connection: Connection) -> Iterator[Difference]:
        """What is wrong with the chain, and with seals compared with their months' rows."""
        known = _read(connection)
        self._ranges = {seal.month: seal.content.ranges for seal in known if seal.content}
        for name in _beyond(connection):
            yield Difference(TABLE, "extra", detail=f"nothing of ours seals a month {name}", check=CHECK)
        for seal, reason in _faults(known):
            yield _altered(f"the seal of {_name(seal.month)} {reason}")
        for seal in known:
            if seal.content and (fault := _beside_rows(connection, seal.month, seal.content)):
                yield _altered(fault)
        sealed = {_name(seal.month) for seal in known}
        for name in _archived(connection):
            if name not in sealed:
                detail = f"month {name} is in the archive and has no seal"
                yield Difference(TABLE, "missing", detail=detail, check=CHECK)

    def beside_ledger(self, places: "MonthSpans") -> Iterator[Difference]:
        """Seals that name wrong ranges for their month; only for an audit of all partitions."""
        for month, ranges in self._ranges.items():
            there = places.of(month)
            if there is not None and sorted(ranges) != there:
                written = [
                    ", ".join(f"{one}:{begin}:{end}" for one, begin, end in some) for some in (ranges, there)
                ]
                yield _altered(
                    f"the seal of {_name(month)} names the ranges {written[0]}, the ledger has it in {written[1]}"
                )


class MonthSpans:
    """Where the certified ledger has each month: partition, first offset, one past the last one."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, int], tuple[int, int]] = {}
        #: Months that may have started before this audit's first entry.
        self._begun: dict[int, int] = {}

    def begin(self, partition: int, newest_ms: int) -> None:
        """Say when the newest entry was recorded that was certified before, if any was."""
        if newest_ms > NEVER_MS:
            self._begun[partition] = _month_number(np.array([newest_ms])).tolist()[0]

    def add(self, partition: int, recorded_ms: Longs, offsets: Longs) -> None:
        """Take over entries, each with its offset in the ledger."""
        months = _month_number(recorded_ms)
        for month in np.unique(months).tolist():
            some = offsets[months == month]
            first, last = int(some.min()), int(some.max()) + 1
            before = self._found.get((partition, month), (first, last))
            self._found[partition, month] = min(before[0], first), max(before[1], last)

    def take(self, other: "MonthSpans") -> None:
        """Add what others found, of other partitions."""
        self._found |= other._found
        self._begun |= other._begun

    def of(self, month: date) -> list[tuple[int, int, int]] | None:
        """The ranges of a month; None if this audit has not seen all of it in the topic."""
        number = (month.year - 1970) * 12 + month.month - 1
        if any(number <= begun for begun in self._begun.values()):
            return None
        found = [(partition, *ends) for (partition, of), ends in sorted(self._found.items()) if of == number]
        return None if any(first < 0 for _, first, _ in found) else found


def _month_number(milliseconds: Longs) -> Longs:
    """Months since 1970-01, UTC."""
    months: Longs = milliseconds.astype("datetime64[ms]").astype("datetime64[M]").astype(np.int64)
    return months


def _read(connection: Connection) -> list[Seal]:
    """All seals by month, which is the order in which months are sealed."""
    rows = connection.execute(
        "SELECT extract(year FROM month)::int, extract(month FROM month)::int, ranges, entries, amount, hash,"
        " previous_seal, seal, CASE WHEN isfinite(sealed_at) AND extract(year FROM sealed_at) BETWEEN 1 AND 9999"
        " THEN sealed_at END FROM archive_seals WHERE month BETWEEN '0001-01-01' AND '9998-12-31' ORDER BY month"
    )
    return [Seal(date(year, month, 1), _content(*row[:4]), *row[4:]) for year, month, *row in rows]


def _content(ranges: Any, entries: int, amount: Decimal, content_hash: bytes) -> Content | None:
    try:
        found = tuple((one["partition"], one["from_offset"], one["to_offset"]) for one in ranges)
        whole = all(type(number) is int for one in found for number in one) and all(
            len(one) == 3 for one in ranges
        )
        return Content(entries, int(amount), content_hash, found) if whole and amount == int(amount) else None
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return None


def _faults(seals: list[Seal]) -> Iterator[tuple[Seal, str]]:
    """What is wrong with these seals, which must be all of them, without looking at rows."""
    previous: bytes | None = None
    for one in seals:
        if one.previous != previous:
            yield one, f"follows the seal {_hex(one.previous)}, the month before has {_hex(previous)}"
        previous = one.seal
        if one.content is None:
            yield one, "cannot be read: nothing of ours writes such ranges or sums"
            continue
        right = sha256((one.previous or NO_HASH) + one.content.covered(one.month)).digest()
        if one.seal != right:
            yield one, f"has the seal {_hex(one.seal)}, its row gives {_hex(right)}"
        if one.sealed_at is None:
            yield one, "was sealed at a time that no calendar has"
        elif min(one.sealed_at, datetime.now(UTC)) < _following(one.month):
            yield one, f"was sealed at {one.sealed_at:%Y-%m-%dT%H:%MZ}, before it was over"
        if one.content.entries < 1 or not one.content.ranges:
            yield one, "is sealed without entries"


def _beside_rows(connection: Connection, month: date, content: Content) -> str | None:
    """How the rows of a month differ from its seal, or None."""
    entries, amount, whole = 0, 0, sha256()
    query = f"""
        SELECT count(*), sum(CASE type::text WHEN 'CREDIT' THEN amount ELSE -amount END),
            string_agg(hash, ''::bytea ORDER BY source_offset)
        FROM (
            SELECT recorded_at, source_partition, source_offset, type, amount, hash FROM transactions UNION ALL
            SELECT recorded_at, source_partition, source_offset, type, amount, hash FROM transaction_archive
        ) AS rows
        WHERE recorded_at >= %s AND recorded_at < %s
        GROUP BY source_partition, source_offset / {BLOCK} ORDER BY source_partition, source_offset / {BLOCK}
    """  # noqa: S608 - a number of ours
    with connection.cursor("sealed") as cursor:
        cursor.itersize = 1
        for count, total, joined in cursor.execute(query.encode(), [_first(month), _following(month)]):
            entries, amount = entries + count, amount + int(total)
            whole.update(joined)
    found, sealed = (entries, amount, whole.digest()), (content.entries, content.amount, content.hash)
    differs = [
        f"{name} {_shown(is_now)} sealed as {_shown(was)}"
        for name, was, is_now in zip(("entries", "amount", "hash"), sealed, found, strict=True)
        if was != is_now
    ]
    return f"the rows of {_name(month)} do not match its seal ({', '.join(differs)})" if differs else None


def _archived(connection: Connection) -> Iterator[str]:
    """Months that are in the archive."""
    rows = connection.execute(
        "SELECT substr(c.relname, 14) FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = 'transaction_archive'::regclass AND c.relname ~ '^transactions_[0-9]{4}_[0-9]{2}$'"
        " ORDER BY 1"
    )
    for (name,) in rows:
        yield name.replace("_", "-")


def _beyond(connection: Connection) -> list[str]:
    """Months of seals that no calendar here has."""
    rows = connection.execute(
        "SELECT month::text FROM archive_seals WHERE month NOT BETWEEN '0001-01-01' AND '9998-12-31' ORDER BY month"
    )
    return [name for (name,) in rows]


def _altered(detail: str) -> Difference:
    return Difference(TABLE, "altered", detail=detail, check=CHECK)


def _first(month: date) -> datetime:
    return datetime(month.year, month.month, 1, tzinfo=UTC)


def _following(month: date) -> datetime:
    years, months = divmod(month.month, DECEMBER)
    return datetime(month.year + years, months + 1, 1, tzinfo=UTC)


def _name(month: date) -> str:
    return month.isoformat()[:7]


def _hex(seal: bytes | None) -> str:
    return "none" if seal is None else f"{seal.hex()[:16]}..."


def _shown(value: object) -> str:
    return f"{value.hex()[:16]}..." if isinstance(value, bytes) else str(value)
