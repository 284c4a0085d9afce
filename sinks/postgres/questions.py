"""Queries of the command line, as `wallet_reader`."""

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from psycopg import sql
from psycopg.rows import class_row

from config.settings import Settings
from sinks.names import ARCHIVE
from sinks.postgres import READER, connect


class WalletBalance(NamedTuple):
    """A wallet's balance, in minor units of its currency."""

    wallet_id: str
    currency: str
    balance: int


class StatementLine(NamedTuple):
    """One entry of a wallet, as `wallet_statement` gives it. Amounts are minor units, times aware UTC."""

    wallet_id: str
    sequence: int
    transaction_id: UUID
    type: str
    amount: int
    currency: str
    occurred_at: datetime
    group_id: str | None
    metadata: dict[str, str]
    balance: int
    recorded_at: datetime
    source_partition: int
    source_offset: int
    hash: bytes


class SinkPosition(NamedTuple):
    """How far one sink is in one partition; `updated_at` is its last progress."""

    sink: str
    topic: str
    partition: int
    next_offset: int
    high_offset: int
    owner: str
    updated_at: datetime


def balance(settings: Settings, wallet_id: str, at: datetime | None = None) -> WalletBalance | None:
    """The newest balance, or the one by recorded_at `at`; None for a wallet that has no entry at all."""
    return _balance(settings, wallet_id, sql.SQL("wallet_balance_at"), "infinity" if at is None else at)


def balance_before(settings: Settings, wallet_id: str, at: datetime | None) -> WalletBalance | None:
    """The balance before the entries recorded from `at` on, 0 where that is None; None as above."""
    return _balance(settings, wallet_id, sql.SQL("wallet_balance_before"), "-infinity" if at is None else at)


def _balance(
    settings: Settings, wallet_id: str, function: sql.SQL, at: datetime | str
) -> WalletBalance | None:
    query = sql.SQL("""
        SELECT w.wallet_id, w.currency, {}(w.wallet_id, %s::timestamptz) AS balance
        FROM wallets AS w WHERE w.wallet_id = %s
    """)
    with (
        connect(settings, READER) as connection,
        connection.cursor(row_factory=class_row(WalletBalance)) as cursor,
    ):
        return cursor.execute(query.format(function), [at, wallet_id]).fetchone()


def effective_balance(settings: Settings, wallet_id: str, at: datetime) -> WalletBalance | None:
    """The balance by occurred_at `at`, in minor units; None for a wallet that has no entry at all.

    In the order of that time it may leave 64 bits. Reads all entries of the wallet.
    """
    query = """
        SELECT w.wallet_id, w.currency, wallet_balance_effective_at(w.wallet_id, %s)
        FROM wallets AS w WHERE w.wallet_id = %s
    """
    with connect(settings, READER) as connection:
        row = connection.execute(query, [at, wallet_id]).fetchone()
    return None if row is None else WalletBalance(row[0], row[1], int(row[2]))


def statement(
    settings: Settings, wallet_id: str, start: datetime | None = None, end: datetime | None = None
) -> Iterator[StatementLine]:
    """Entries of a wallet by sequence, recorded from `start` (included) to `end` (not).

    A thousand are in memory at a time; the connection is open until the iterator ends or is closed.
    """
    query = """
        SELECT * FROM wallet_statement(
            %s, coalesce(%s, '-infinity'::timestamptz), coalesce(%s, 'infinity'::timestamptz)
        )
    """
    with (
        connect(settings, READER) as connection,
        connection.transaction(),
        connection.cursor("statement", row_factory=class_row(StatementLine)) as cursor,
    ):
        cursor.itersize = 1_000
        yield from cursor.execute(query, [wallet_id, start, end])


def positions(settings: Settings) -> list[SinkPosition]:
    """Every sink's positions, by sink, topic and partition."""
    query = """
        SELECT sink, topic, partition, next_offset, high_offset, owner, updated_at
        FROM sink_positions ORDER BY sink, topic, partition
    """
    with (
        connect(settings, READER) as connection,
        connection.cursor(row_factory=class_row(SinkPosition)) as cursor,
    ):
        return cursor.execute(query).fetchall()


def written(settings: Settings) -> dict[tuple[str, int], SinkPosition]:
    """Up to which offset the rows of each topic and partition are in the tables.

    The archive is left out: it reads the snapshots, which another sink writes, and writes no rows of them.
    """
    return {(at.topic, at.partition): at for at in positions(settings) if at.sink != ARCHIVE}


def counts(settings: Settings) -> dict[str, int]:
    """Rows of each table, counted in one statement."""
    query = """
        SELECT
            (SELECT count(*) FROM wallets) AS wallets,
            (SELECT count(*) FROM transactions) AS transactions,
            (SELECT count(*) FROM transaction_archive) AS transaction_archive,
            (SELECT count(*) FROM transaction_snapshots) AS transaction_snapshots,
            (SELECT count(*) FROM rejections) AS rejections
    """
    with connect(settings, READER) as connection:
        cursor = connection.execute(query)
        row = cursor.fetchone()
        names = [column.name for column in cursor.description or ()]
    return dict(zip(names, row or (), strict=True))


def rejections_by_reason(settings: Settings) -> dict[str, int]:
    """How many records were rejected for each reason that occurred."""
    with connect(settings, READER) as connection:
        return dict(
            connection.execute(
                "SELECT reason, count(*) FROM rejections GROUP BY reason ORDER BY 1"
            ).fetchall()
        )
