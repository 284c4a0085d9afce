"""Stream every row of the tables with binary COPY, and count it as the record that it must come from.

A row of an entry stands for its entry and hash, and the other columns are compared with these. A row of a snapshot or
a rejection is encoded as the record with these fields.
"""

import base64
import json
from collections.abc import Callable, Collection, Iterator
from datetime import datetime
from typing import Any

import numpy as np
from psycopg import sql

from audit import avro
from audit.columns import HASH_BYTES, Entries, Flags, Longs, entries, pairs
from audit.contract import REASONS, REJECTION_HEADERS, Balance
from audit.copied import EPOCH_US, Connection, Copied, copied, same_bytes
from audit.digests import Digests
from topics.source import Source

ENTRY = (
    "wallet_id",
    "sequence",
    "transaction_id",
    "type",
    "amount",
    "currency",
    "occurred_at",
    "group_id",
    "metadata",
    "balance",
    "recorded_at",
    "source_partition",
    "source_offset",
    "entry",
    "hash",
)
SNAPSHOT = (
    "wallet_id",
    "currency",
    "balance",
    "sequence",
    "recorded_at",
    "source_partition",
    "source_offset",
    "hash",
    "reason",
)
REJECTION = ("source_partition", "source_offset", "reason", "detail", "at", "key", "value", "headers")
_ENTRY = {name: at for at, name in enumerate(ENTRY)}
_SNAPSHOT = {name: at for at, name in enumerate(SNAPSHOT)}

CURRENCY_BYTES = 3
#: What a row counts as that no record says: no record is these bytes.
NOTHING = b"no record says this"
#: jsonb has a version before its text.
JSONB, EMPTY = b"\x01", b"\x01{}"
_THREE = np.uint64(0xFFFFFF)
_CREDIT, _DEBIT = (int.from_bytes(name, "little") for name in (b"CREDIT", b"DEBIT"))

#: Whether a row with this partition and source offset counts.
Counts = Callable[[Longs, Longs], Flags]


def count_entries(
    connection: Connection, partitions: Collection[int], digests: Digests, counts: Counts
) -> Iterator[int]:
    """Count the rows of entries, archive included; yields how many were read so far."""
    done = 0
    for some in copied(connection, _union(_only(partitions)), len(ENTRY)):
        partition, source, bodies, agree = _entries(some)
        counted = counts(partition, source)
        kept = np.flatnonzero(counted)
        digests.add(partition[kept], source[kept], [bodies[row] for row in kept.tolist()])
        for row in np.flatnonzero(counted & ~agree).tolist():
            digests.spoil(int(partition[row]), int(source[row]))
        done += len(some.rows)
        yield done


def count_snapshots(
    connection: Connection,
    partitions: Collection[int],
    digests: Digests,
    counts: Counts,
    *,
    interval_only: bool,
) -> None:
    """Count the rows of snapshots that come from the topic."""
    only = sql.SQL("reason::text = 'INTERVAL'" if interval_only else "reason::text <> 'SEAL'")
    query = _select(SNAPSHOT, "transaction_snapshots", sql.SQL(" AND ").join([only, _only(partitions)]))
    for some in copied(connection, query, len(SNAPSHOT)):
        _count(
            some, _SNAPSHOT["source_partition"], _SNAPSHOT["source_offset"], _snapshots(some), digests, counts
        )


def count_rejections(
    connection: Connection, partitions: Collection[int], digests: Digests, details: Digests, counts: Counts
) -> None:
    """Count the rows of rejections, and separately their details."""
    for some in copied(connection, _select(REJECTION, "rejections", _only(partitions)), len(REJECTION)):
        _count(some, 0, 1, _rejections(some), digests, counts)
        _count(some, 0, 1, [*some.fields(REJECTION.index("detail"))], details, counts)


def contradictions(connection: Connection, begin: datetime, end: datetime) -> Iterator[str]:
    """Rows of a time whose columns are not what their entry says, or whose hash does not follow, without Kafka.

    A missing row shows in the next one of its wallet.
    """
    recorded = sql.SQL("recorded_at >= {} AND recorded_at < {}").format(sql.Literal(begin), sql.Literal(end))
    for some in copied(connection, _union(recorded), len(ENTRY)):
        partition, source, bodies, agree = _entries(some)
        for row in np.flatnonzero(~agree).tolist():
            try:
                entry = avro.read_entry(bodies[row])
                named = f"sequence {entry.sequence} of {entry.transaction.wallet_id!r}"
            except avro.Undecodable:
                named = f"hash {bodies[row][-HASH_BYTES:].hex()[:16]}..."
            yield (
                f"{named} (partition {partition[row]}, source offset {source[row]}): "
                "the columns are not what the entry says"
            )
    broken = connection.execute(
        """
        SELECT wallet_id, sequence FROM (
            SELECT wallet_id, sequence, hash, entry, lag(hash) OVER chain AS before,
                lag(sequence) OVER chain AS sequence_before
            FROM wallet_entries WHERE recorded_at >= %s AND recorded_at < %s
            WINDOW chain AS (PARTITION BY wallet_id ORDER BY sequence)
        ) AS entries
        WHERE sequence <> sequence_before + 1 OR hash <> sha256(before || entry)
        """,
        [begin, end],
    )
    for wallet_id, sequence in broken:
        yield f"sequence {sequence} of {wallet_id!r}: it does not follow from the wallet's entry before it"


def rejection(record: Source) -> tuple[int, bytes, bytes]:
    """The source offset of a rejection, what its row must say, and its detail.

    Raises KeyError or ValueError for damage.
    """
    came, ours = (
        record.headers[: -len(REJECTION_HEADERS)],
        dict(record.headers[-len(REJECTION_HEADERS) :]),
    )
    headers: list[bytes | None] = []
    for name, value in came:
        headers += [name.encode(), value]
    at_us = int(ours["rejection.at"] or b"") * 1_000
    row = _joined([ours["rejection.reason"], b"%d" % at_us, record.key, record.value, *headers])
    return int(ours["rejection.offset"] or b""), row, ours["rejection.detail"] or b""


# -- queries


def _only(partitions: Collection[int]) -> sql.Composable:
    """Those of these partitions; none: of all, and of any that should not be."""
    if not partitions:
        return sql.SQL("true")
    return sql.SQL("source_partition = ANY ({})").format(sql.Literal(list(partitions)))


def _select(columns: tuple[str, ...], table: str, where: sql.Composable) -> sql.Composed:
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    return sql.SQL("SELECT {} FROM {} WHERE {}").format(names, sql.Identifier(table), where)


def _union(where: sql.Composable) -> sql.Composed:
    """The entries of both tables, without the view over them."""
    both = [_select(ENTRY, table, where) for table in ("transactions", "transaction_archive")]
    return sql.SQL(" UNION ALL ").join(both)


# -- rows


def _count(
    some: Copied, partition: int, source: int, rows: list[bytes | None], digests: Digests, counts: Counts
) -> None:
    """Count rows; None stands for one that no record says."""
    partitions, sources = some.ints(partition), some.longs(source)
    counted = np.flatnonzero(counts(partitions, sources))
    said = [NOTHING if (row := rows[at]) is None else row for at in counted.tolist()]
    digests.add(partitions[counted], sources[counted], said)


def _entries(some: Copied) -> tuple[Longs, Longs, list[bytes], Flags]:
    """Of each row partition, source offset, entry with hash, and whether the other columns say the same."""
    found = [
        (entry or b"") + (link or b"")
        for entry, link in zip(some.fields(_ENTRY["entry"]), some.fields(_ENTRY["hash"]), strict=True)
    ]
    columns = entries(found, skip=0)
    partition, source = some.ints(_ENTRY["source_partition"]), some.longs(_ENTRY["source_offset"])
    good = columns.usual & (some.size[_ENTRY["hash"]] == HASH_BYTES)
    good &= (partition == columns.partition) & (source == columns.source)
    good &= _numbers(some, columns) & _texts(some, columns) & _metadata(some, columns, found)
    return partition, source, found, good


def _numbers(some: Copied, columns: Entries) -> Flags:
    of, at = columns.transaction, some.at[_ENTRY["transaction_id"]]
    kind = some.words(_ENTRY["type"])
    good: Flags = (some.longs(_ENTRY["sequence"]) == columns.sequence) & (
        some.longs(_ENTRY["balance"]) == columns.balance
    )
    good &= some.longs(_ENTRY["amount"]) == of.amount
    good &= some.longs(_ENTRY["occurred_at"]) == of.occurred_us - EPOCH_US
    good &= some.longs(_ENTRY["recorded_at"]) == columns.recorded_ms * 1_000 - EPOCH_US
    good &= some.packed.words(at).byteswap() == of.id_high
    good &= some.packed.words(at + 8).byteswap() == of.id_low
    credit = (some.size[_ENTRY["type"]] == len("CREDIT")) & (
        kind << np.uint64(16) == np.uint64(_CREDIT << 16)
    )
    debit = (some.size[_ENTRY["type"]] == len("DEBIT")) & (kind << np.uint64(24) == np.uint64(_DEBIT << 24))
    good &= np.where(of.debit, debit, credit)
    return good


def _texts(some: Copied, columns: Entries) -> Flags:
    of = columns.transaction
    starts = columns.packed.starts
    good: Flags = (some.words(_ENTRY["currency"]) & _THREE) == of.currency
    good &= some.size[_ENTRY["currency"]] == CURRENCY_BYTES
    for name, at, size in (
        ("wallet_id", of.wallet_at, of.wallet_bytes),
        ("group_id", of.group_at, of.group_bytes),
    ):
        good &= some.size[_ENTRY[name]] == size
        compared = np.where(good & columns.usual, size, 0)
        good &= same_bytes(some.packed, some.at[_ENTRY[name]], columns.packed, starts + at, compared)
    return good


def _metadata(some: Copied, columns: Entries, found: list[bytes]) -> Flags:
    """An object without members for an empty map; the others are read one by one."""
    column = _ENTRY["metadata"]
    good: Flags = some.size[column] == len(EMPTY)
    good &= some.words(column) & _THREE == np.uint64(int.from_bytes(EMPTY, "little"))
    of, sizes = columns.transaction, some.size[column]
    begins = some.at[column] - some.packed.starts
    there = np.flatnonzero(columns.usual & ((of.pairs > 0) | ~good))
    for row, begin, size, at, count in zip(
        *(
            each.tolist()
            for each in (there, begins[there], sizes[there], of.pairs_at[there], of.pairs[there])
        ),
        strict=True,
    ):
        good[row] = _json(some.rows[row][begin : begin + size]) == pairs(found[row], at, count)
    return good


def _json(field: bytes) -> object:
    """What a jsonb holds; None for what Python does not read, as numbers of thousands of digits."""
    try:
        return json.loads(field[len(JSONB) :])
    except (ValueError, RecursionError):
        return None


def _snapshots(some: Copied) -> list[bytes | None]:
    numbers = [some.longs(_SNAPSHOT[name]).tolist() for name in ("balance", "sequence", "recorded_at")]
    places = (
        some.ints(_SNAPSHOT["source_partition"]).tolist(),
        some.longs(_SNAPSHOT["source_offset"]).tolist(),
    )
    texts = [some.fields(_SNAPSHOT[name]) for name in ("wallet_id", "currency", "hash", "reason")]
    return [_snapshot(*row) for row in zip(*texts, *numbers, *places, strict=True)]


def _snapshot(*row: Any) -> bytes | None:
    wallet, currency, link, reason, balance, sequence, recorded_us, partition, source = row
    recorded_ms, rest = divmod(recorded_us + EPOCH_US, 1_000)
    if rest or None in row or len(link) != HASH_BYTES or reason.decode() not in REASONS:
        return None
    body = Balance(
        wallet.decode(), currency.decode(), balance, sequence, recorded_ms, partition, source, link
    )
    return avro.write_balance(body) + avro.long(REASONS.index(reason.decode()))


def _rejections(some: Copied) -> list[bytes | None]:
    at_us = (some.longs(REJECTION.index("at"))).tolist()
    fields = [some.fields(REJECTION.index(name)) for name in ("reason", "key", "value", "headers")]
    return [_rejection(*row) for row in zip(*fields, at_us, strict=True)]


def _rejection(*row: Any) -> bytes | None:
    reason, key, value, headers, at_us = row
    came: list[bytes | None] = []
    try:
        decoded = _json(headers or b"")
        for pair in decoded if isinstance(decoded, list) else [()]:
            if not isinstance(pair, list):
                return None
            name, content = pair
            came += [_from_base64(name), None if content is None else _from_base64(content)]
    except (ValueError, TypeError):
        return None
    return _joined([reason, b"%d" % (at_us + EPOCH_US), key, value, *came])


def _from_base64(text: str) -> bytes:
    """What was written in the one way in which it is written; raises ValueError or TypeError for anything else."""
    content = base64.b64decode(text, validate=True)
    if not isinstance(text, str) or base64.b64encode(content).decode() != text:
        raise ValueError("written in another way")
    return content


def _joined(parts: list[bytes | None]) -> bytes:
    """Fields with their lengths, so that no two lists of them come to the same."""
    return b"".join(b"-" if part is None else b"%d:%b" % (len(part), part) for part in parts)
