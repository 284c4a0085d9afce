"""What the whole database says, for comparing it with something else: every row and every function's answer.

All questions of one `looking` see one state: positions and rows as they were together at its first question.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, LiteralString, NamedTuple

import psycopg
from psycopg import IsolationLevel, sql
from psycopg.rows import class_row

from config.settings import Settings
from sinks.migrations import check, shipped
from sinks.postgres import READER, Connection, connect, one_line

#: The tables whose rows nobody may change (migrations 0003 and 0007).
APPEND_ONLY = (
    "wallets",
    "transactions",
    "transaction_snapshots",
    "transaction_archive",
    "rejections",
    "archive_seals",
)
#: Guards of tables by the name of their trigger: pg_trigger.tgtype, its function, and what it must stand before.
#: A statement trigger BEFORE DELETE, UPDATE and TRUNCATE; a row trigger BEFORE INSERT.
GUARDS = {
    "append_only": (2 + 8 + 16 + 32, "refuse_change", "every change"),
    "sealed": (1 + 2 + 4, "refuse_insert", "every insert"),
}

Row = dict[str, Any]


class NewestEntry(NamedTuple):
    """A wallet's newest entry, and what the function `wallet_balance` answers for the wallet."""

    wallet_id: str
    currency: str
    balance: int
    sequence: int
    hash: bytes
    function_balance: int | None


class Answers(NamedTuple):
    """What the functions answer for a wallet, all in one statement; amounts are minor units."""

    last_sequence: int | None
    balance: int | None
    balances_at: list[int | None]
    effective_at: list[int | None]


class Unanswered(Exception):  # noqa: N818 - the name is the message
    """The functions cannot answer for a wallet: its rows hold what no sum of theirs comes to."""


class Unprotected(NamedTuple):
    """A table whose rows can be changed, or are changed on their way in, and why."""

    table: str
    reason: str


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


@contextmanager
def looking(settings: Settings) -> Iterator[Connection]:
    """A read-only transaction in which every question sees the same state.

    Raises Refused for a database of another version.
    """
    with connect(settings, READER, name="wallet verify") as connection:
        check(connection)
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        with connection.transaction():
            # First of all, as whoever moves months does: an audit that has read rows for an hour is not to be the
            # victim of a deadlock.
            connection.execute("LOCK TABLE wallets IN ACCESS SHARE MODE")
            yield connection


def positions(connection: Connection) -> dict[tuple[str, int], int]:
    """One past the highest offset that is in the tables, for each topic's partition that its sink began with.

    A sink that was set back and compares what it wrote before has a lower position; its rows are there. The
    archive reads the snapshots, too, and writes none of them: its position says nothing of any row.
    """
    rows = connection.execute(
        "SELECT topic, partition, high_offset FROM sink_positions WHERE sink <> 'archive'"
    ).fetchall()
    return {(topic, partition): high_offset for topic, partition, high_offset in rows}


def answers(
    connection: Connection, wallet_id: str, recorded: Sequence[datetime], occurred: Sequence[datetime]
) -> Answers:
    """The balance functions for one wallet, at these times by recorded_at and by occurred_at; raises Unanswered."""
    try:
        with connection.transaction():
            return _answers(connection, wallet_id, recorded, occurred)
    except psycopg.DataError as error:
        raise Unanswered(one_line(error)) from error


def _answers(
    connection: Connection, wallet_id: str, recorded: Sequence[datetime], occurred: Sequence[datetime]
) -> Answers:
    row = connection.execute(
        """
        SELECT
            (SELECT max(sequence) FROM wallet_entries WHERE wallet_id = %(wallet)s),
            wallet_balance(%(wallet)s),
            (SELECT array_agg(wallet_balance_at(%(wallet)s, at) ORDER BY n)
                FROM unnest(%(recorded)s::timestamptz[]) WITH ORDINALITY AS times (at, n)),
            (SELECT array_agg(wallet_balance_effective_at(%(wallet)s, at) ORDER BY n)
                FROM unnest(%(occurred)s::timestamptz[]) WITH ORDINALITY AS times (at, n))
        """,
        {"wallet": wallet_id, "recorded": list(recorded), "occurred": list(occurred)},
    ).fetchone()
    last, balance, at, effective = row or (None, None, None, None)
    return Answers(last, balance, at or [], [None if one is None else int(one) for one in effective or []])


def wrong_wallets(connection: Connection) -> Iterator[tuple[Row | None, Row | None]]:
    """Rows of `wallets` that are not what the wallet's first entry says: what must be there, and what is."""
    yield from _pairs(
        connection,
        """
        SELECT
            CASE WHEN e.wallet_id IS NOT NULL THEN jsonb_build_object(
                'wallet_id', e.wallet_id, 'currency', e.currency, 'opened_at', e.recorded_at
            )::text END,
            CASE WHEN w.wallet_id IS NOT NULL THEN to_jsonb(w)::text END
        FROM wallets AS w
        FULL JOIN (SELECT * FROM wallet_entries WHERE sequence = 1) AS e ON e.wallet_id = w.wallet_id
        WHERE (w.wallet_id, w.currency, w.opened_at) IS DISTINCT FROM (e.wallet_id, e.currency, e.recorded_at)
        """,
    )


def wrong_seals(connection: Connection) -> Iterator[tuple[Row | None, Row | None]]:
    """SEAL snapshots that are not what the entry of their sequence says. They are in no topic."""
    yield from _pairs(
        connection,
        """
        SELECT
            CASE WHEN e.wallet_id IS NOT NULL THEN jsonb_build_object(
                'wallet_id', e.wallet_id, 'currency', e.currency, 'balance', e.balance, 'sequence', e.sequence,
                'recorded_at', e.recorded_at, 'source_partition', e.source_partition,
                'source_offset', e.source_offset, 'hash', e.hash, 'reason', 'SEAL'
            )::text END,
            to_jsonb(s)::text
        FROM transaction_snapshots AS s
        LEFT JOIN wallet_entries AS e ON e.wallet_id = s.wallet_id AND e.sequence = s.sequence
        WHERE s.reason = 'SEAL' AND (
            s.currency, s.balance, s.recorded_at, s.source_partition, s.source_offset, s.hash
        ) IS DISTINCT FROM (
            e.currency, e.balance, e.recorded_at, e.source_partition, e.source_offset, e.hash
        )
        """,
    )


def stored(
    connection: Connection, table: str, stretches: Sequence[tuple[int, int]], length: int
) -> Iterator[Row]:
    """The rows of these stretches of source offsets: partition, and number of `length` offsets. SEALs left out."""
    where = sql.SQL("t.reason <> 'SEAL'" if table == "transaction_snapshots" else "true")
    query = sql.SQL(
        "SELECT to_jsonb(t)::text FROM {} AS t JOIN unnest(%s::int[], %s::bigint[]) AS s (partition, number)"
        " ON t.source_partition = s.partition AND floor(t.source_offset::numeric / %s) = s.number WHERE {}"
    ).format(sql.Identifier(table), where)
    with connection.cursor("stored") as cursor:
        cursor.itersize = 1_000
        asked = [[at[0] for at in stretches], [at[1] for at in stretches], length]
        for (text,) in cursor.execute(query, asked):
            yield json.loads(text)


def unprotected(connection: Connection) -> list[Unprotected]:
    """Append-only tables and partitions whose guards are not as migrations 0003 and 0010 made them, or have others."""
    query = """
        WITH guarded AS (
            SELECT DISTINCT coalesce(tree.relid, named)::oid AS id
            FROM unnest(%s::regclass[]) AS named LEFT JOIN LATERAL pg_partition_tree(named) AS tree ON true
        ), sealed AS (
            SELECT inhrelid AS id FROM pg_inherits WHERE inhparent = 'transaction_archive'::regclass
            UNION SELECT to_regclass(format('transactions_%%s', to_char(month, 'YYYY_MM')))::oid FROM archive_seals
        )
        SELECT id::regclass::text, id IN (SELECT id FROM sealed), t.tgname, t.tgenabled::text, t.tgtype,
            t.tgqual IS NULL AND t.tgattr = ''::int2vector, p.proname, p.prosrc,
            (SELECT count(*) FROM pg_rewrite AS r WHERE r.ev_class = id)
        FROM guarded
        LEFT JOIN pg_trigger AS t ON t.tgrelid = id AND NOT t.tgisinternal
        LEFT JOIN pg_proc AS p ON p.oid = t.tgfoid
        ORDER BY 1, 3
    """
    found: list[Unprotected] = []
    missing: dict[tuple[str, str], None] = {}
    there: set[tuple[str, str]] = set()
    for table, sealed, name, enabled, kind, always, function, source, rules in connection.execute(
        query, [list(APPEND_ONLY)]
    ):
        missing |= dict.fromkeys((table, guard) for guard in GUARDS if sealed or guard == "append_only")
        if rules:
            found.append(Unprotected(table, "has a rewrite rule"))
        if name in GUARDS:
            there.add((table, name))
            found += _not_as_shipped(table, name, enabled, (kind, function), always, source)
        elif name is not None:
            found.append(Unprotected(table, f"has a trigger {name} that this program did not make"))
    found += [
        Unprotected(table, f"trigger {guard} is missing")
        for table, guard in missing
        if (table, guard) not in there
    ]
    return list(dict.fromkeys(found))


def _not_as_shipped(
    table: str, name: str, enabled: str, made: tuple[int, str], always: bool, source: str
) -> Iterator[Unprotected]:
    kind, function, before = GUARDS[name]
    if enabled != "A":
        yield Unprotected(table, f"trigger {name} is enabled {enabled!r}, must be 'A' (always)")
    if made != (kind, function) or not always:
        yield Unprotected(table, f"trigger {name} does not stand before {before}")
    elif not any(source in migration.sql for migration in shipped()):
        yield Unprotected(table, f"function {function} is not the one that was shipped")


def _pairs(connection: Connection, query: LiteralString) -> Iterator[tuple[Row | None, Row | None]]:
    with connection.cursor("pairs") as cursor:
        for expected, found in cursor.execute(query):
            yield (
                None if expected is None else json.loads(expected),
                None if found is None else json.loads(found),
            )
