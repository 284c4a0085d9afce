"""Every row of the tables, streamed by binary COPY in no order, each beside what its own entry says of it.

A row comes as the bytes that `sinks.rows` makes (PostgreSQL manual, "COPY", Binary Format), so most are judged by
one comparison.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from struct import Struct
from typing import NamedTuple

from psycopg import sql

from sinks.ledger import TRANSACTIONS
from sinks.postgres import Connection
from sinks.rejections import REJECTIONS
from sinks.rows import HASH_BYTES, entry_row
from sinks.snapshots import SNAPSHOTS
from sinks.tables import COPY_HEADER, COPY_TRAILER

#: hash and entry first: their place in the row is found at once then.
_OTHERS = TRANSACTIONS.columns[:-2]
#: A row begins with the number of its fields, a field with its length.
_COUNT, _LENGTH = 2, 4
#: The last columns before hash and entry: source_partition and source_offset with their lengths.
_PLACE = Struct(">iiiq")
EVERY_ROW: sql.Composable = sql.SQL("true")
_METADATA = _OTHERS.index("metadata")


class StoredEntry(NamedTuple):
    """A row of `transactions` or its archive: `body` is entry and hash, which the other columns may contradict."""

    partition: int
    source_offset: int
    body: bytes
    agrees: bool


class StoredRow(NamedTuple):
    """A row of another table, as COPY's bytes."""

    partition: int
    source_offset: int
    row: bytes


def entries(
    connection: Connection, partitions: Sequence[int], recorded: tuple[datetime, datetime] | None = None
) -> Iterator[StoredEntry]:
    """The entries of these partitions; none: of all, and of any that should not be.

    `recorded` leaves out all but those recorded from the first time on and before the second.
    """
    where = EVERY_ROW
    if recorded:
        where = sql.SQL("recorded_at >= {} AND recorded_at < {}").format(*map(sql.Literal, recorded))
    for row in _copied(connection, "wallet_entries", ("hash", "entry", *_OTHERS), partitions, where):
        # An owner may have put anything there: a hash need not have its 32 bytes.
        own_hash, at = _field(row, _COUNT)
        entry, end = _field(row, at)
        body = entry + own_hash
        others = row[end:]
        _, partition, _, offset = _PLACE.unpack_from(others, len(others) - _PLACE.size)
        yield StoredEntry(partition, offset, body, _agrees(others, body, len(entry)))


def snapshots(connection: Connection, partitions: Sequence[int]) -> Iterator[tuple[StoredRow, bool]]:
    """The snapshots that come from the topic, each with whether it is an INTERVAL."""
    where = sql.SQL("reason <> 'SEAL'")
    for row in _copied(connection, "transaction_snapshots", SNAPSHOTS.columns, partitions, where):
        interval = row.endswith(b"INTERVAL")
        _, at = _field(row, _COUNT)
        _, at = _field(row, at)
        # Behind wallet_id and currency: balance, sequence and recorded_at.
        _, partition, _, offset = _PLACE.unpack_from(row, at + 3 * (_LENGTH + 8))
        yield StoredRow(partition, offset, row), interval


def rejections(connection: Connection, partitions: Sequence[int]) -> Iterator[StoredRow]:
    """The rejections of these partitions; none: of all."""
    for row in _copied(connection, "rejections", REJECTIONS.columns, partitions):
        _, partition, _, offset = _PLACE.unpack_from(row, _COUNT)
        yield StoredRow(partition, offset, row)


def _copied(
    connection: Connection,
    table: str,
    columns: Sequence[str],
    partitions: Sequence[int],
    where: sql.Composable = EVERY_ROW,
) -> Iterator[bytes]:
    """Rows of binary COPY, of one statement, without the stream's header and trailer."""
    statement = sql.SQL("COPY (SELECT {} FROM {} WHERE {}{}) TO STDOUT (FORMAT binary)").format(
        sql.SQL(", ").join(map(sql.Identifier, columns)),
        sql.Identifier(table),
        where,
        sql.SQL(" AND source_partition = ANY ({})").format(sql.Literal(list(partitions)))
        if partitions
        else sql.SQL(""),
    )
    with connection.cursor() as cursor, cursor.copy(statement) as stream:
        for chunk in stream:
            row = bytes(chunk)
            if row.startswith(COPY_HEADER[:11]):
                row = row[len(COPY_HEADER) :]
            if row and row != COPY_TRAILER:
                yield row


def _field(row: bytes, at: int) -> tuple[bytes, int]:
    """The field that begins there, which is not null, and where it ends."""
    start = at + _LENGTH
    end = start + int.from_bytes(row[at:start])
    return row[start:end], end


def _agrees(others: bytes, body: bytes, length: int) -> bool:
    """Whether the columns are what the entry says."""
    if len(body) != length + HASH_BYTES:
        return False
    try:
        wanted = entry_row(body).row
    except ValueError:
        return False
    wanted = wanted[2 : -(4 + HASH_BYTES + 4 + length)]
    return wanted == others or _same_fields(wanted, others)


def _same_fields(wanted: bytes, found: bytes) -> bool:
    """Whether they differ in the order of the metadata's keys alone, which jsonb does not keep."""
    ours, theirs = _fields(wanted), _fields(found)
    one, other = ours.pop(_METADATA), theirs.pop(_METADATA)
    if one is None or other is None:
        return False
    return ours == theirs and json.loads(one[1:]) == json.loads(other[1:])


def _fields(row: bytes) -> list[bytes | None]:
    fields: list[bytes | None] = []
    at = 0
    while at < len(row):
        length = int.from_bytes(row[at : at + 4], signed=True)
        at += 4
        fields.append(None if length < 0 else row[at : at + length])
        at += max(length, 0)
    return fields
