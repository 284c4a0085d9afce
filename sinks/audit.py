"""What the whole database says, for comparing it with something else: every wallet, not one."""

from typing import NamedTuple

from psycopg.rows import class_row

from config.settings import Settings
from sinks.postgres import READER, connect


class NewestEntry(NamedTuple):
    """A wallet's newest entry, and what the function `wallet_balance` answers for the wallet."""

    wallet_id: str
    currency: str
    balance: int
    sequence: int
    hash: bytes
    function_balance: int | None


def newest_entries(settings: Settings) -> list[NewestEntry]:
    """The newest entry of every wallet that has one, archive included, in one statement."""
    query = """
        SELECT *, wallet_balance(wallet_id) AS function_balance FROM (
            SELECT DISTINCT ON (wallet_id) wallet_id, currency, balance, sequence, hash
            FROM (
                SELECT wallet_id, currency, balance, sequence, hash FROM transactions
                UNION ALL
                SELECT wallet_id, currency, balance, sequence, hash FROM transaction_archive
            ) AS entries
            ORDER BY wallet_id, sequence DESC
        ) AS newest
    """
    with (
        connect(settings, READER) as connection,
        connection.cursor(row_factory=class_row(NewestEntry)) as cursor,
    ):
        return cursor.execute(query).fetchall()
