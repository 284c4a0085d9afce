"""An audit's queries to PostgreSQL apart from rows: positions, wallets, seals, and the functions' answers.

All of them run in one read-only transaction, so they see one state.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, LiteralString, NamedTuple

import psycopg
from psycopg import sql

from audit.copied import Connection
from topics.names import Topics

Row = dict[str, Any]

#: Digits of a number that no column of ours has.
LONGEST = 1_000


class Answers(NamedTuple):
    """What the functions answer for a wallet, all in one statement; amounts are minor units.

    `statement` is what the entries of `wallet_statement` are in all: how many, their signed sum, the last balance.
    """

    last_sequence: int | None
    balance: int | None
    statement: tuple[int, int | None, int | None]
    balances_at: list[int | None]
    balances_before: list[int | None]
    effective_at: list[int | None]


class Unanswered(Exception):  # noqa: N818 - the name is the message
    """The functions cannot answer for a wallet: its rows hold what no sum of theirs comes to."""


def positions(connection: Connection, topics: Topics) -> tuple[dict[tuple[str, int], int], list[Row]]:
    """One past the highest offset that is in the tables, for each partition that its sink began with; and other rows.

    A sink that was set back and compares what it wrote before has a lower position; its rows are there. The
    archive reads the snapshots, too, and writes none of them: its position says nothing of any row.
    """
    # Not `sinks.names`: an audit owes nothing to what it audits.
    ours = {"ledger": topics.ledger, "snapshots": topics.snapshots, "rejections": topics.rejections}
    found: dict[tuple[str, int], int] = {}
    others: list[Row] = []
    for sink, topic, partition, high_offset in connection.execute(
        "SELECT sink, topic, partition, high_offset FROM sink_positions ORDER BY 1, 2, 3"
    ):
        if ours.get(sink) == topic:
            found[topic, partition] = int(high_offset)
        elif (sink, topic) != ("archive", topics.snapshots):
            others.append({"sink": sink, "topic": topic, "partition": partition, "high_offset": high_offset})
    return found, others


def answers(
    connection: Connection, wallet_id: str, recorded: Sequence[datetime], occurred: Sequence[datetime]
) -> Answers:
    """The balance functions for one wallet, at these times by recorded_at and by occurred_at; raises Unanswered."""
    try:
        with connection.transaction():
            return _answers(connection, wallet_id, recorded, occurred)
    except psycopg.errors.InsufficientPrivilege:
        raise
    except (
        psycopg.DataError,
        psycopg.ProgrammingError,
        psycopg.InternalError,
        psycopg.errors.RaiseException,
    ) as error:
        raise Unanswered(" ".join(str(error).split())) from error


def _answers(
    connection: Connection, wallet_id: str, recorded: Sequence[datetime], occurred: Sequence[datetime]
) -> Answers:
    row = connection.execute(
        """
        SELECT
            (SELECT max(sequence) FROM wallet_entries WHERE wallet_id = %(wallet)s),
            wallet_balance(%(wallet)s),
            (SELECT ARRAY[
                    count(*), sum(CASE type::text WHEN 'CREDIT' THEN amount ELSE -amount END),
                    (array_agg(balance ORDER BY sequence DESC))[1]
                ] FROM wallet_statement(%(wallet)s)),
            (SELECT array_agg(wallet_balance_at(%(wallet)s, at) ORDER BY n)
                FROM unnest(%(recorded)s::timestamptz[]) WITH ORDINALITY AS times (at, n)),
            (SELECT array_agg(wallet_balance_before(%(wallet)s, at) ORDER BY n)
                FROM unnest(%(recorded)s::timestamptz[]) WITH ORDINALITY AS times (at, n)),
            (SELECT array_agg(wallet_balance_effective_at(%(wallet)s, at) ORDER BY n)
                FROM unnest(%(occurred)s::timestamptz[]) WITH ORDINALITY AS times (at, n))
        """,
        {"wallet": wallet_id, "recorded": list(recorded), "occurred": list(occurred)},
    ).fetchone()
    last, balance, statement, *at = row or (None, None, [0, None, None], None, None, None)
    count, *sums = [_whole(one) for one in statement]
    lists = [[_whole(one) for one in some or []] for some in at]
    return Answers(last, _whole(balance), (count or 0, sums[0], sums[1]), *lists)


def _whole(answer: Any) -> int | None:
    """What a function answered, which must be a whole number."""
    if answer is None:
        return None
    with suppress(ValueError, OverflowError, TypeError):
        if answer == int(answer):
            return int(answer)
    raise Unanswered(f"a function answers {answer!r}, which is not a number of minor units")


def _row(text: str) -> Row:
    """A row in JSON; a number of thousands of digits stays text."""
    row: Row = json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < LONGEST else digits)
    return row


def unsealed(connection: Connection) -> Iterator[tuple[str, int]]:
    """Wallets with entries in a sealed month and no snapshot at or after the last of these, with its sequence."""
    with connection.cursor("unsealed") as cursor:
        yield from cursor.execute(
            """
            SELECT last.wallet_id, last.sequence FROM archive_seals AS m
            CROSS JOIN LATERAL (
                SELECT e.wallet_id, max(e.sequence) AS sequence FROM wallet_entries AS e
                WHERE e.recorded_at >= m.month::timestamp AT TIME ZONE 'UTC'
                    AND e.recorded_at < (m.month + interval '1 month') AT TIME ZONE 'UTC'
                GROUP BY e.wallet_id
            ) AS last
            WHERE NOT EXISTS (
                SELECT FROM transaction_snapshots AS s
                WHERE s.wallet_id = last.wallet_id AND s.sequence >= last.sequence
            )
            """
        )


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
        WHERE s.reason::text = 'SEAL' AND (
            s.currency, s.balance, s.recorded_at, s.source_partition, s.source_offset, s.hash
        ) IS DISTINCT FROM (
            e.currency, e.balance, e.recorded_at, e.source_partition, e.source_offset, e.hash
        )
        """,
    )


def stored(
    connection: Connection, tables: Sequence[str], stretches: Sequence[tuple[int, int]], length: int
) -> Iterator[Row]:
    """The rows of these stretches of source offsets: partition, and number of `length` offsets. SEALs left out."""
    where = sql.SQL("t.reason::text <> 'SEAL'" if "transaction_snapshots" in tables else "true")
    table = sql.SQL(" UNION ALL ").join(
        sql.SQL("SELECT * FROM {}").format(sql.Identifier(one)) for one in tables
    )
    query = sql.SQL(
        "SELECT to_jsonb(t)::text FROM ({}) AS t JOIN unnest(%s::int[], %s::bigint[]) AS s (partition, number)"
        " ON t.source_partition = s.partition AND floor(t.source_offset::numeric / %s) = s.number WHERE {}"
    ).format(table, where)
    with connection.cursor("stored") as cursor:
        cursor.itersize = 1_000
        asked = [[at[0] for at in stretches], [at[1] for at in stretches], length]
        for (text,) in cursor.execute(query, asked):
            yield _row(text)


def _pairs(connection: Connection, query: LiteralString) -> Iterator[tuple[Row | None, Row | None]]:
    with connection.cursor("pairs") as cursor:
        for expected, found in cursor.execute(query):
            yield (
                None if expected is None else _row(expected),
                None if found is None else _row(found),
            )
