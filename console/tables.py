"""The API's queries, each with a limit on rows, with results as the API writes them."""

import json
from base64 import b64encode
from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

from config.times import month_name, rfc3339
from console.database import Connection, row, rows
from console.encoding import ENTRY_COLUMNS, entry_of_row, position, signed
from console.problems import not_found

Answer = dict[str, Any]

#: A group's legs that are shown; its sums are of all of them.
MOST_LEGS = 1_000
#: Entries of a proof at a time, and days of closings.
MOST_PROOF = 1_000
MOST_DAYS = 1_000


def of_page(found: list[Answer], limit: int) -> tuple[list[Answer], Answer | None]:
    """The rows of a page, and its last one if there are more; `found` has one more than the page where there are."""
    return found[:limit], found[limit - 1] if len(found) > limit else None


async def wallets(connection: Connection, prefix: str, after: str | None, limit: int) -> list[Answer]:
    """Wallets by the bytes of their ids."""
    query = """
        SELECT wallet_id, currency, opened_at FROM wallets
        WHERE starts_with(wallet_id, %s) AND (%s::text IS NULL OR wallet_id > %s) ORDER BY wallet_id LIMIT %s
    """
    found = await rows(connection, query, prefix, after, after, limit)
    return [
        {"wallet_id": wallet_id, "currency": currency, "opened_at": rfc3339(opened_at)}
        for wallet_id, currency, opened_at in found
    ]


async def currency_of(connection: Connection, wallet_id: str) -> tuple[str, datetime]:
    """A wallet's currency, and when it was opened; Problem 404 if it has no entry."""
    found = await row(connection, "SELECT currency, opened_at FROM wallets WHERE wallet_id = %s", wallet_id)
    if found is None:
        raise not_found(f"wallet {wallet_id!r} has no entry in the tables")
    return found[0], found[1]


async def newest(connection: Connection, wallet_id: str) -> Answer:
    """A wallet with its newest entry; Problem 404 if it has none."""
    currency, opened_at = await currency_of(connection, wallet_id)
    found = await row(
        connection,
        f"SELECT {ENTRY_COLUMNS} FROM wallet_entries WHERE wallet_id = %s ORDER BY sequence DESC LIMIT 1",  # noqa: S608
        wallet_id,
    )
    if found is None:
        raise not_found(f"wallet {wallet_id!r} has no entry in the tables")
    entry = entry_of_row(found)
    return {
        "wallet_id": wallet_id,
        "currency": currency,
        "opened_at": rfc3339(opened_at),
        **{name: entry[name] for name in ("balance", "sequence", "recorded_at", "source", "hash")},
    }


async def balance_at(connection: Connection, wallet_id: str, at: datetime, *, effective: bool) -> Answer:
    """A wallet's balance at a time, by recorded_at or by occurred_at."""
    currency, _ = await currency_of(connection, wallet_id)
    if effective:
        found = await row(connection, "SELECT wallet_balance_effective_at(%s, %s)", wallet_id, at)
    else:
        found = await row(connection, "SELECT wallet_balance_at(%s, %s)", wallet_id, at)
    balance = found[0] if found else 0
    name = "effective_at" if effective else "at"
    return {
        "wallet_id": wallet_id,
        "currency": currency,
        "balance": str(int(balance or 0)),
        name: rfc3339(at),
    }


async def statement(
    connection: Connection,
    wallet_id: str,
    start: datetime | None,
    end: datetime | None,
    after_sequence: int,
    limit: int,
) -> Answer:
    """Entries recorded from `start` (included) to `end` (not) behind a sequence, with the balances around them."""
    currency, _ = await currency_of(connection, wallet_id)
    query = f"""
        SELECT {ENTRY_COLUMNS} FROM wallet_entries
        WHERE wallet_id = %s AND sequence > %s
            AND recorded_at >= coalesce(%s, '-infinity'::timestamptz)
            AND recorded_at < coalesce(%s, 'infinity'::timestamptz)
        ORDER BY sequence LIMIT %s
    """  # noqa: S608 - the columns are ours
    found = await rows(connection, query, wallet_id, after_sequence, start, end, limit + 1)
    entries = [entry_of_row(one) for one in found[:limit]]
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
    await currency_of(connection, wallet_id)
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
    found = await rows(
        connection,
        f"SELECT {ENTRY_COLUMNS} FROM wallet_group(%s) LIMIT %s",  # noqa: S608 - the columns are ours
        group_id,
        MOST_LEGS,
    )
    if not found:
        raise not_found(f"no entry in the tables has group {group_id!r}")
    sums = await rows(
        connection,
        "SELECT DISTINCT currency, currency_sum, complete FROM wallet_group(%s) ORDER BY currency",
        group_id,
    )
    return {
        "group_id": group_id,
        "legs": [entry_of_row(one) for one in found],
        "sums": {currency: str(int(total)) for currency, total, _ in sums},
        "complete": sums[0][2],
    }


async def open_groups(
    connection: Connection, after: tuple[datetime, str, str] | None, limit: int
) -> tuple[list[Answer], str | None]:
    """Groups that do not sum to zero, a row a currency, the oldest first; and where to go on, None at the end."""
    query = """
        SELECT group_id, currency, legs, balance, opened_at, newest_at FROM wallet_open_groups()
        WHERE %s::timestamptz IS NULL
            OR (opened_at, group_id COLLATE "C", currency COLLATE "C") > (%s::timestamptz, %s::text, %s::text)
        ORDER BY opened_at, group_id COLLATE "C", currency COLLATE "C" LIMIT %s
    """
    at, currency, group_id = after or (None, None, None)
    found = await rows(connection, query, at, at, group_id, currency, limit + 1)
    groups = [
        {
            "group_id": of,
            "currency": currency,
            "legs": str(legs),
            "sum": str(int(total)),
            "opened_at": rfc3339(opened_at),
            "newest_at": rfc3339(newest_at),
        }
        for of, currency, legs, total, opened_at, newest_at in found
    ]
    shown, last = of_page(groups, limit)
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
    ((recorded_at, positions),) = await rows(connection, "SELECT * FROM wallet_complete_until()")
    return {"recorded_at": recorded_at and rfc3339(recorded_at), "positions": positions}


_REJECTION = "source_partition, source_offset, reason, detail, at, key"


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
    found = await rows(connection, query, partition, offset, reason, reason, start, end, limit)
    return [_rejection(one) for one in found]


async def newest_rejections(
    connection: Connection, partitions: int, reason: str | None, limit: int
) -> list[Answer]:
    """The newest ones of all partitions, the last one first."""
    query = f"""
        SELECT {_REJECTION} FROM generate_series(0, %s - 1) AS wanted CROSS JOIN LATERAL (
            SELECT {_REJECTION} FROM rejections
            WHERE source_partition = wanted AND (%s::text IS NULL OR reason = %s)
            ORDER BY source_offset DESC LIMIT %s
        ) AS found ORDER BY at DESC, source_partition, source_offset DESC LIMIT %s
    """  # noqa: S608 - the columns are ours
    found = await rows(connection, query, partitions, reason, reason, limit, limit)
    return [_rejection(one) for one in found]


def _rejection(one: Sequence[Any]) -> Answer:
    return {
        "source": position(one[0], one[1]),
        "reason": one[2],
        "detail": one[3],
        "at": rfc3339(one[4]),
        "key": None if one[5] is None else b64encode(one[5]).decode(),
    }


async def rejection(
    connection: Connection, partition: int, offset: int
) -> tuple[Answer, bytes | None] | None:
    """One rejection with its bytes in base64, and its original value; None if there is none."""
    found = await row(
        connection,
        f"SELECT {_REJECTION}, value, headers FROM rejections WHERE (source_partition, source_offset) = (%s, %s)",  # noqa: S608
        partition,
        offset,
    )
    if found is None:
        return None
    value = None if found[6] is None else bytes(found[6])
    return _rejection(found) | {
        "value": None if value is None else b64encode(value).decode(),
        "headers": found[7],
    }, value


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
        SELECT {ENTRY_COLUMNS} FROM wallet_entries
        WHERE transaction_id = %s::uuid AND wallet_id = %s AND source_partition = %s AND source_offset < %s
        ORDER BY sequence DESC LIMIT 1
    """  # noqa: S608 - the columns are ours
    found = await row(connection, query, transaction_id, wallet_id, before[0], before[1])
    return None if found is None else entry_of_row(found)


async def trial_balance(connection: Connection, at: datetime | None) -> Answer:
    """Credits, debits, balance and number of wallets of every currency, by recorded_at."""
    return {
        currency: {
            "credits": str(int(credits)),
            "debits": str(int(debits)),
            "balance": str(int(balance)),
            "wallets": str(count),
        }
        for currency, credits, debits, balance, count in await rows(  # noqa: A001 - the field's name
            connection, "SELECT * FROM wallet_trial_balance(%s)", at
        )
    }


async def daily(connection: Connection, wallet_id: str, first: date, end: date) -> Answer:
    """The closing balance of every day in UTC from `first` (included) to `end` (not), days without entries too."""
    currency, opened_at = await currency_of(connection, wallet_id)
    closings = [
        {
            "day": day.isoformat(),
            "closing": str(balance),
            "entries": str(entries),
            "credits": str(int(credits)),
            "debits": str(int(debits)),
        }
        for day, balance, entries, credits, debits in await rows(  # noqa: A001 - the field's name
            connection, "SELECT * FROM wallet_daily_balances(%s, %s, %s)", wallet_id, first, end
        )
    ]
    return {"wallet_id": wallet_id, "currency": currency, "opened_at": rfc3339(opened_at), "days": closings}


async def seals(connection: Connection) -> list[Answer]:
    """Sealed months, the first one first: a month a row, so they are few."""
    found = await rows(
        connection,
        "SELECT month, ranges, entries, amount, hash, previous_seal, seal, sealed_at FROM archive_seals ORDER BY month",
    )
    return [
        {
            "month": month_name(month),
            "entries": str(entries),
            "amount": str(int(amount)),
            "hash": bytes(chained).hex(),
            "previous_seal": None if previous is None else bytes(previous).hex(),
            "seal": bytes(seal).hex(),
            "sealed_at": rfc3339(sealed_at),
            "ranges": [
                {
                    "partition": one["partition"],
                    "from_offset": str(one["from_offset"]),
                    "to_offset": str(one["to_offset"]),
                }
                for one in (json.loads(ranges) if isinstance(ranges, str) else ranges)
            ],
        }
        for month, ranges, entries, amount, chained, previous, seal, sealed_at in found
    ]


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
        SELECT {ENTRY_COLUMNS} FROM wallet_entries
        WHERE wallet_id = %s AND sequence < coalesce(%s, 9223372036854775807)
            AND recorded_at >= coalesce(%s, '-infinity'::timestamptz)
            AND recorded_at < coalesce(%s, 'infinity'::timestamptz)
        ORDER BY sequence DESC LIMIT %s
    """  # noqa: S608 - the columns are ours
    found = await rows(connection, query, wallet_id, before, start, end, limit)
    return [entry_of_row(one) for one in found]


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
