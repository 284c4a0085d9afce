"""Two tables of ledger rows held against each other, by the same question to both."""

from typing import NamedTuple

from psycopg import sql

from config.errors import Stopped
from config.settings import Settings
from sinks import postgres

#: Rows, signed sum, rows that break their wallet's chain, and a digest of all that is in them but the times' type.
_ASKED = sql.SQL("""
    SELECT count(*),
        coalesce(sum(CASE WHEN type::text = 'CREDIT' THEN amount ELSE -amount END), 0),
        count(*) FILTER (WHERE sha256(coalesce(previous, decode(repeat('00', 32), 'hex')) || entry) <> hash),
        encode(sha256(convert_to(coalesce(string_agg(row_text, E'\\n' ORDER BY wallet_id, sequence), ''), 'UTF8')), 'hex')
    FROM (
        SELECT *, lag(hash) OVER (PARTITION BY wallet_id ORDER BY sequence) AS previous,
            concat_ws('|', wallet_id, sequence, transaction_id, type, amount, currency, group_id, metadata, balance,
                extract(epoch FROM occurred_at), extract(epoch FROM recorded_at), source_partition, source_offset,
                encode(hash, 'hex')) AS row_text
        FROM {table}
    ) AS rows
""")


class Held(NamedTuple):
    """What a table holds."""

    rows: int
    balance: int
    broken: int
    digest: str


def held(settings: Settings, table: str) -> Held:
    """Of a table with the columns of `transactions`."""
    with postgres.connect(settings) as connection:
        row = connection.execute(_ASKED.format(table=sql.Identifier(table))).fetchone()
    if row is None:
        raise Stopped(f"{table} did not answer")
    rows, balance, broken, digest = row
    return Held(rows, int(balance), broken, digest)


def table_differences(ours: Held, theirs: Held) -> list[str]:
    """In what two tables differ, empty where they hold the same rows and every chain holds."""
    found = [
        (f"{ours.rows:,} rows against {theirs.rows:,}", ours.rows != theirs.rows),
        (f"balances of {ours.balance} against {theirs.balance}", ours.balance != theirs.balance),
        (f"{ours.broken + theirs.broken:,} rows that are not of their chain", ours.broken or theirs.broken),
        ("rows with other content", ours.rows == theirs.rows and ours.digest != theirs.digest),
    ]
    return [what for what, differs in found if differs]
