"""Compare two databases' ledgers: what `wallet rebuild diff` asks each of them.

Every question takes a cut: for each source partition, the offset before which records count. All questions of one
`compared` see one state, and answers come by server-side cursors, so memory is bounded whatever the tables hold.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from psycopg import sql
from psycopg.rows import class_row

from config.settings import Settings
from sinks.postgres import READER, Connection, connect
from sinks.postgres.one_state import one_state

#: Rows fetched at a time.
FETCHED = 5_000
#: Memory for grouping entries by wallet before the server uses its disk.
WORK_MEM = "64MB"

#: Every entry before the cut, archive included; partitions are numbered from 0, arrays from 1.
_BEFORE = sql.SQL("source_offset < (%(cut)s::bigint[])[source_partition + 1]")
#: What an entry's digest covers besides its sequence: with the same input its own hash, which covers everything.
_SAME_INPUT = sql.SQL("hash")
_COPIED_INPUT = sql.SQL(
    "transaction_id, type::text, amount, currency, occurred_at, group_id, metadata, balance, recorded_at"
)


class WalletSummary(NamedTuple):
    """A wallet before the cut: its newest entry, how many there are, and a digest of all of them."""

    wallet_id: str
    currency: str
    balance: int
    sequence: int
    entries: int
    digest: int


class ComparedEntry(NamedTuple):
    """One entry: the fields on which two ledgers should agree."""

    wallet_id: str
    sequence: int
    transaction_id: UUID
    type: str
    amount: int
    currency: str
    balance: int
    recorded_at: datetime
    source_partition: int
    source_offset: int
    hash: bytes


class StoredRejection(NamedTuple):
    """Why a record was not posted."""

    source_partition: int
    source_offset: int
    reason: str
    detail: str
    value: bytes | None


@contextmanager
def compared(settings: Settings, name: str) -> Iterator[Connection]:
    """A read-only transaction in which every question sees the same state, whatever the database's version."""
    with connect(settings, READER, name=name) as connection:
        connection.execute(sql.SQL("SET work_mem = {}").format(sql.Literal(WORK_MEM)))
        with one_state(connection):
            yield connection


def summaries(connection: Connection, cut: Sequence[int], *, same_input: bool) -> Iterator[WalletSummary]:
    """Every wallet with entries before the cut, by the bytes of its id.

    Equal digests mean equal entries; those of servers of different versions may differ for equal entries, too.
    """
    query = sql.SQL("""
        SELECT wallet_id, max(currency) AS currency, (max(ARRAY[sequence, balance]))[2] AS balance,
            max(sequence) AS sequence, count(*) AS entries,
            sum(hash_record_extended(ROW(sequence, {content}), 0))::numeric AS digest
        FROM wallet_entries WHERE {before}
        GROUP BY wallet_id ORDER BY wallet_id
    """).format(before=_BEFORE, content=_SAME_INPUT if same_input else _COPIED_INPUT)
    with connection.cursor("summaries", row_factory=class_row(WalletSummary)) as cursor:
        cursor.itersize = FETCHED
        yield from cursor.execute(query, {"cut": list(cut)})


def entries(connection: Connection, cut: Sequence[int], wallets: Sequence[str]) -> Iterator[ComparedEntry]:
    """The entries of these wallets, by the bytes of their ids, each in its order."""
    query = sql.SQL("""
        SELECT wallet_id, sequence, transaction_id, type::text, amount, currency, balance, recorded_at,
            source_partition, source_offset, hash
        FROM wallet_entries WHERE wallet_id = ANY (%(wallets)s) AND {before}
        ORDER BY wallet_id, sequence
    """).format(before=_BEFORE)
    with connection.cursor("entries", row_factory=class_row(ComparedEntry)) as cursor:
        cursor.itersize = FETCHED
        yield from cursor.execute(query, {"cut": list(cut), "wallets": list(wallets)})


def rejections_at(
    connection: Connection, places: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], StoredRejection]:
    """The rejections of these source positions, of those that there are."""
    query = """
        SELECT source_partition, source_offset, reason, detail, NULL::bytea AS value FROM rejections
        JOIN unnest(%s::int[], %s::bigint[]) AS asked (partition, number)
            ON source_partition = asked.partition AND source_offset = asked.number
    """
    asked = [[partition for partition, _ in places], [offset for _, offset in places]]
    with connection.cursor(row_factory=class_row(StoredRejection)) as cursor:
        return {row[:2]: row for row in cursor.execute(query, asked)}


def rejections_of(
    connection: Connection, cut: Sequence[int], wallets: Sequence[str]
) -> Iterator[StoredRejection]:
    """The rejections that came under the keys of these wallets; reads the whole table once."""
    query = sql.SQL("""
        SELECT source_partition, source_offset, reason, detail, value FROM rejections
        WHERE key = ANY (%(keys)s) AND {before}
    """).format(before=_BEFORE)
    keys = [wallet_id.encode() for wallet_id in wallets]
    with connection.cursor("rejections", row_factory=class_row(StoredRejection)) as cursor:
        cursor.itersize = FETCHED
        yield from cursor.execute(query, {"cut": list(cut), "keys": keys})


def reasons(connection: Connection, cut: Sequence[int]) -> dict[str, int]:
    """How many records before the cut were rejected for each reason."""
    query = sql.SQL("SELECT reason, count(*) FROM rejections WHERE {} GROUP BY reason ORDER BY 1")
    return dict(connection.execute(query.format(_BEFORE), {"cut": list(cut)}).fetchall())
