"""The months of the ledger in PostgreSQL: which have rows, where they are, and from when they may be sealed."""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from config.settings import Settings
from sinks.postgres import Connection

_NAME = re.compile(r"transactions_(\d{4})_(\d\d)")
#: The months that there can be (migration 0010).
FIRST_MONTH, LAST_MONTH = date(1, 1, 1), date(9998, 12, 1)


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
        return self.first.isoformat()[:7]  # strftime drops the zeros of years before 1000

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
        [f"transactions_{month.first:%Y_%m}"],
    ).fetchone()
    if row and row[0] > 0:
        return row[0], False
    return counted(connection, month)[0], True


def counted(connection: Connection, month: Month) -> tuple[int, int]:
    """Number of rows and sum of the signed amounts of a month, wherever it is."""
    row = connection.execute(
        """
        SELECT count(*), coalesce(sum(CASE type WHEN 'CREDIT' THEN amount ELSE -amount END), 0)
        FROM wallet_entries WHERE recorded_at >= %s AND recorded_at < %s
        """,
        [month.starts, month.ends],
    ).fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)


def ledger_positions(connection: Connection, topic: str) -> Mapping[int, int]:
    """next_offset of the ledger sink in each partition."""
    return dict(
        connection.execute(
            "SELECT partition, next_offset FROM sink_positions WHERE sink = 'ledger' AND topic = %s", [topic]
        ).fetchall()
    )
