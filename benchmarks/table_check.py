"""Two tables of ledger rows held against each other, by the same question to both."""

from typing import NamedTuple

from psycopg import sql

from config.errors import Stopped
from config.settings import Settings
from sinks import postgres

#: Rows, those that break their wallet's chain, a digest of the balances that wallets have in the end, and one of all.
_ASKED = sql.SQL("""
    SELECT count(*),
        count(*) FILTER (WHERE sha256(coalesce(previous, decode(repeat('00', 32), 'hex')) || entry) <> hash),
        md5(string_agg(concat_ws('|', wallet_id, sequence, balance), E'\\n' ORDER BY wallet_id) FILTER (WHERE newest)),
        md5(string_agg(row_text, E'\\n' ORDER BY wallet_id, sequence))
    FROM (
        SELECT *, lag(hash) OVER of_wallet AS previous, lead(hash) OVER of_wallet IS NULL AS newest,
            concat_ws('|', wallet_id, sequence, transaction_id, type, amount, currency, group_id, metadata, balance,
                extract(epoch FROM occurred_at), extract(epoch FROM recorded_at), source_partition, source_offset,
                encode(hash, 'hex')) AS row_text
        FROM {table}
        WINDOW of_wallet AS (PARTITION BY wallet_id ORDER BY sequence)
    ) AS rows
""")


class Held(NamedTuple):
    """What a table holds. Without `content`, two tables may hold the entries of the same records sent twice."""

    rows: int
    broken: int
    balances: str
    content: str


def held(settings: Settings, table: str, *, content: bool = True) -> Held:
    """Of a table with the columns of `transactions`."""
    with postgres.connect(settings) as connection:
        row = connection.execute(_ASKED.format(table=sql.Identifier(table))).fetchone()
    if row is None:
        raise Stopped(f"{table} did not answer")
    one = Held(*row)
    return one if content else one._replace(content="")


def table_differences(ours: Held, theirs: Held) -> list[str]:
    """In what two tables differ; empty where they hold the same and every chain holds."""
    found = [
        (f"{ours.rows:,} rows against {theirs.rows:,}", ours.rows != theirs.rows),
        (f"{ours.broken + theirs.broken:,} rows that are not of their chain", ours.broken or theirs.broken),
        ("wallets with other balances", ours.balances != theirs.balances),
        ("rows with other content", ours.content != theirs.content),
    ]
    return [what for what, differs in found if differs]
