"""The API's queries, each with a limit on rows, with results as the API writes them."""

from base64 import b64encode
from datetime import date, datetime
from typing import Any, LiteralString

from psycopg.rows import dict_row

from config.times import rfc3339
from console.database import Connection, row, rows
from console.encoding import position, signed, strings
from console.problems import not_found

Answer = dict[str, Any]

#: A group's legs that are shown; its sums are of all of them.
MOST_LEGS = 1_000
#: Entries of a proof at a time, and days of closings.
MOST_PROOF = 1_000
MOST_DAYS = 1_000
_SOURCE = "source_partition || ':' || source_offset AS source"
#: What an entry shows.
ENTRY = f"""
    wallet_id, sequence, transaction_id, type::text AS type, amount, currency, occurred_at, group_id, metadata,
    balance, recorded_at, {_SOURCE}, hash
"""
#: What a rejection shows in short. The server breaks base64 into lines.
_REJECTION = f"{_SOURCE}, reason, detail, at, translate(encode(key, 'base64'), E'\\n', '') AS key"


async def answers(connection: Connection, query: LiteralString, *values: object) -> list[Answer]:
    """The rows of a query, by the names of their columns, as the API writes their values."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        return [strings(one) for one in await (await cursor.execute(query, values)).fetchall()]


def of_page(found: list[Answer], limit: int) -> tuple[list[Answer], Answer | None]:
    """The rows of a page, and its last one if there are more; `found` has one more than the page where there are."""
    return found[:limit], found[limit - 1] if len(found) > limit else None


async def wallets(connection: Connection, prefix: str, after: str | None, limit: int) -> list[Answer]:
    """Wallets by the bytes of their ids."""
    query = """
        SELECT wallet_id, currency, opened_at FROM wallets
        WHERE starts_with(wallet_id, %s) AND (%s::text IS NULL OR wallet_id > %s) ORDER BY wallet_id LIMIT %s
    """
    return await answers(connection, query, prefix, after, after, limit)


async def wallet(connection: Connection, wallet_id: str) -> Answer:
    """A wallet's currency, and when it was opened; Problem 404 if it has no entry."""
    query = "SELECT wallet_id, currency, opened_at FROM wallets WHERE wallet_id = %s"
    for found in await answers(connection, query, wallet_id):
        return found
    raise not_found(f"wallet {wallet_id!r} has no entry in the tables")


async def newest(connection: Connection, wallet_id: str) -> Answer:
    """A wallet with its newest entry; Problem 404 if it has none."""
    known = await wallet(connection, wallet_id)
    query = f"""
        SELECT balance, sequence, recorded_at, {_SOURCE}, hash FROM wallet_entries
        WHERE wallet_id = %s ORDER BY sequence DESC LIMIT 1
    """  # noqa: S608 - the columns are ours
    for found in await answers(connection, query, wallet_id):
        return known | found
    raise not_found(f"wallet {wallet_id!r} has no entry in the tables")


async def balance_at(connection: Connection, wallet_id: str, at: datetime, *, effective: bool) -> Answer:
    """A wallet's balance at a time, by recorded_at or by occurred_at."""
    currency = (await wallet(connection, wallet_id))["currency"]
    name = "effective_at" if effective else "at"
    found = await row(connection, f"SELECT wallet_balance_{name}(%s, %s)", wallet_id, at)
    balance = str(int((found[0] if found else 0) or 0))
    return {"wallet_id": wallet_id, "currency": currency, "balance": balance, name: rfc3339(at)}


async def statement(
    connection: Connection,
    wallet_id: str,
    start: datetime | None,
    end: datetime | None,
    after_sequence: int,
    limit: int,
) -> Answer:
    """Entries recorded from `start` (included) to `end` (not) behind a sequence, with the balances around them."""
    currency = (await wallet(connection, wallet_id))["currency"]
    query = f"""
        SELECT {ENTRY} FROM wallet_entries
        WHERE wallet_id = %s AND sequence > %s
            AND recorded_at >= coalesce(%s, '-infinity'::timestamptz)
            AND recorded_at < coalesce(%s, 'infinity'::timestamptz)
        ORDER BY sequence LIMIT %s
    """  # noqa: S608 - the columns are ours
    found = await answers(connection, query, wallet_id, after_sequence, start, end, limit + 1)
    entries = found[:limit]
    if entries:
        opening = int(entries[0]["balance"]) - signed(entries[0])
        closing = int(entries[-1]["balance"])
    else:
        before = await row(
            connection,
            "SELECT wallet_balance_before(%s, coalesce(%s, 'infinity'::timestamptz))",
            wallet_id,
            end if after_sequence else start or end,
        )
        opening = closing = int((before[0] if before else 0) or 0)
    return {
        "wallet_id": wallet_id,
        "currency": currency,
        "opening": str(opening),
        "entries": entries,
        "closing": str(closing),
        "more": len(found) > limit,
    }


async def proof(
    connection: Connection, wallet_id: str, sequence: int | None, after_sequence: int | None
) -> Answer:
    """The bytes of a wallet's entries up to a sequence, from the last seal, from another entry, or from the first."""
    await wallet(connection, wallet_id)
    if sequence is not None and None is await row(
        connection, "SELECT FROM wallet_entries WHERE wallet_id = %s AND sequence = %s", wallet_id, sequence
    ):
        raise not_found(f"wallet {wallet_id!r} has no entry {sequence} in the tables")
    if after_sequence is None:
        # A seal proves what it covers, so the chain starts at the last entry of a sealed month.
        sealed = await row(
            connection,
            """
            SELECT sequence FROM transaction_archive
            WHERE wallet_id = %s AND sequence < coalesce(%s, 9223372036854775807)
            ORDER BY sequence DESC LIMIT 1
            """,
            wallet_id,
            sequence,
        )
        after_sequence = sealed[0] if sealed else 0
    query = """
        SELECT sequence, entry, hash FROM wallet_entries
        WHERE wallet_id = %s AND sequence >= %s AND sequence <= coalesce(%s, 9223372036854775807)
        ORDER BY sequence LIMIT %s
    """
    found = await rows(connection, query, wallet_id, after_sequence, sequence, MOST_PROOF + 2)
    previous = bytes(32)
    if after_sequence:
        if not found or found[0][0] != after_sequence:
            raise not_found(f"wallet {wallet_id!r} has no entry {after_sequence} in the tables")
        previous, found = bytes(found[0][2]), found[1:]
    shown = found[:MOST_PROOF]
    return {
        "wallet_id": wallet_id,
        "from_sequence": str(after_sequence + 1),
        "previous_hash": previous.hex(),
        "entries": [
            {"sequence": str(one), "entry": b64encode(entry).decode(), "hash": bytes(chained).hex()}
            for one, entry, chained in shown
        ],
        "more": len(found) > MOST_PROOF,
    }


async def group(connection: Connection, group_id: str) -> Answer:
    """The legs of a movement, and whether they sum to zero in every currency; Problem 404 if there are none."""
    query = f"SELECT {ENTRY} FROM wallet_group(%s) LIMIT %s"  # noqa: S608 - the columns are ours
    found = await answers(connection, query, group_id, MOST_LEGS)
    if not found:
        raise not_found(f"no entry in the tables has group {group_id!r}")
    sums = await rows(
        connection,
        "SELECT DISTINCT currency, currency_sum, complete FROM wallet_group(%s) ORDER BY currency",
        group_id,
    )
    return {
        "group_id": group_id,
        "legs": found,
        "sums": {currency: str(int(total)) for currency, total, _ in sums},
        "complete": sums[0][2],
    }


async def open_groups(
    connection: Connection, after: tuple[datetime, str, str] | None, limit: int
) -> tuple[list[Answer], str | None]:
    """Groups that do not sum to zero, a row a currency, the oldest first; and where to go on, None at the end."""
    query = """
        SELECT group_id, currency, legs, balance AS sum, opened_at, newest_at FROM wallet_open_groups()
        WHERE %s::timestamptz IS NULL
            OR (opened_at, group_id COLLATE "C", currency COLLATE "C") > (%s::timestamptz, %s::text, %s::text)
        ORDER BY opened_at, group_id COLLATE "C", currency COLLATE "C" LIMIT %s
    """
    at, currency, group_id = after or (None, None, None)
    shown, last = of_page(await answers(connection, query, at, at, group_id, currency, limit + 1), limit)
    return shown, None if last is None else "{opened_at}/{currency}/{group_id}".format_map(last)


async def sink_positions(connection: Connection) -> dict[tuple[str, int], int]:
    """Next offsets of the sinks whose rows are outcomes of input records, by topic and partition."""
    found = await rows(
        connection,
        "SELECT topic, partition, next_offset FROM sink_positions WHERE sink IN ('ledger', 'rejections')",
    )
    return {(topic, partition): offset for topic, partition, offset in found}


async def complete_until(connection: Connection) -> Answer:
    """Up to which time and input positions the tables are complete: every answer carries this."""
    (found,) = await answers(connection, "SELECT recorded_at, positions FROM wallet_complete_until()")
    return found


async def rejections(
    connection: Connection,
    reason: str | None,
    start: datetime | None,
    end: datetime | None,
    after: tuple[int, int] | None,
    limit: int,
) -> list[Answer]:
    """Rejections by their source."""
    partition, offset = after or (-1, -1)
    query = f"""
        SELECT {_REJECTION} FROM rejections
        WHERE (source_partition, source_offset) > (%s::int, %s::bigint) AND (%s::text IS NULL OR reason = %s)
            AND at >= coalesce(%s, '-infinity'::timestamptz) AND at < coalesce(%s, 'infinity'::timestamptz)
        ORDER BY source_partition, source_offset LIMIT %s
    """  # noqa: S608 - the columns are ours
    return await answers(connection, query, partition, offset, reason, reason, start, end, limit)


async def newest_rejections(
    connection: Connection, partitions: int, reason: str | None, limit: int
) -> list[Answer]:
    """The newest ones of all partitions, the last one first."""
    query = f"""
        SELECT {_REJECTION} FROM generate_series(0, %s - 1) AS wanted CROSS JOIN LATERAL (
            SELECT * FROM rejections
            WHERE source_partition = wanted AND (%s::text IS NULL OR reason = %s)
            ORDER BY source_offset DESC LIMIT %s
        ) AS found ORDER BY at DESC, source_partition, source_offset DESC LIMIT %s
    """  # noqa: S608 - the columns are ours
    return await answers(connection, query, partitions, reason, reason, limit, limit)


async def rejection(connection: Connection, partition: int, offset: int) -> Answer:
    """One rejection with its bytes in base64; Problem 404 if there is none."""
    query = f"""
        SELECT {_REJECTION}, translate(encode(value, 'base64'), E'\\n', '') AS value, headers
        FROM rejections WHERE (source_partition, source_offset) = (%s, %s)
    """  # noqa: S608 - the columns are ours
    for found in await answers(connection, query, partition, offset):
        return found
    raise not_found(f"the tables have no rejection of {position(partition, offset)}")


async def rejections_by_reason(connection: Connection) -> dict[str, int]:
    """How many records were rejected for each reason."""
    return dict(
        await rows(connection, "SELECT reason, count(*) FROM rejections GROUP BY reason ORDER BY reason")
    )


async def entry_of_transaction(
    connection: Connection, wallet_id: str, transaction_id: str, before: tuple[int, int]
) -> Answer | None:
    """The entry under which a wallet posted this id before a source."""
    query = f"""
        SELECT {ENTRY} FROM wallet_entries
        WHERE transaction_id = %s::uuid AND wallet_id = %s AND source_partition = %s AND source_offset < %s
        ORDER BY sequence DESC LIMIT 1
    """  # noqa: S608 - the columns are ours
    found = await answers(connection, query, transaction_id, wallet_id, *before)
    return found[0] if found else None


async def trial_balance(connection: Connection, at: datetime | None) -> Answer:
    """Credits, debits, balance and number of wallets of every currency, by recorded_at."""
    query = "SELECT currency, credits, debits, balance, wallets FROM wallet_trial_balance(%s)"
    return {one.pop("currency"): one for one in await answers(connection, query, at)}


async def daily(connection: Connection, wallet_id: str, first: date, end: date) -> Answer:
    """The closing balance of every day in UTC from `first` (included) to `end` (not), days without entries too."""
    query = """
        SELECT day, balance AS closing, entries, credits, debits FROM wallet_daily_balances(%s, %s, %s)
    """
    closings = await answers(connection, query, wallet_id, first, end)
    return await wallet(connection, wallet_id) | {"days": closings}


async def seals(connection: Connection) -> list[Answer]:
    """Sealed months, the first one first: a month a row, so they are few."""
    query = """
        SELECT left(month::text, 7) AS month, entries, trunc(amount) AS amount, hash, previous_seal, seal, sealed_at,
            ranges
        FROM archive_seals ORDER BY archive_seals.month
    """
    found = await answers(connection, query)
    for one in found:
        # The server keeps keys in an order of its own, and those that others may have added.
        one["ranges"] = [
            {name: of[name] for name in ("partition", "from_offset", "to_offset")} for of in one["ranges"]
        ]
    return found


async def newest_entries(
    connection: Connection,
    wallet_id: str,
    start: datetime | None,
    end: datetime | None,
    before: int | None,
    limit: int,
) -> list[Answer]:
    """A wallet's entries of a time span, newest first, before a sequence."""
    query = f"""
        SELECT {ENTRY} FROM wallet_entries
        WHERE wallet_id = %s AND sequence < coalesce(%s, 9223372036854775807)
            AND recorded_at >= coalesce(%s, '-infinity'::timestamptz)
            AND recorded_at < coalesce(%s, 'infinity'::timestamptz)
        ORDER BY sequence DESC LIMIT %s
    """  # noqa: S608 - the columns are ours
    return await answers(connection, query, wallet_id, before, start, end, limit)


async def points(
    connection: Connection, wallet_id: str, start: datetime | None, end: datetime | None, most: int
) -> list[list[str]]:
    """Times and balances after entries: all of them, or about `points` evenly spread ones and the last."""
    query = """
        WITH wanted AS MATERIALIZED (
            SELECT sequence, recorded_at, balance FROM wallet_entries
            WHERE wallet_id = %s AND recorded_at >= coalesce(%s, '-infinity'::timestamptz)
                AND recorded_at < coalesce(%s, 'infinity'::timestamptz)
        ), range AS (SELECT min(sequence) AS first, max(sequence) AS last FROM wanted)
        SELECT recorded_at, balance FROM wanted, range
        WHERE (sequence - first) %% ((last - first) / %s + 1) = 0 OR sequence = last ORDER BY sequence
    """
    found = await rows(connection, query, wallet_id, start, end, most)
    return [[rfc3339(at), str(balance)] for at, balance in found]
