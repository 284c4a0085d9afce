"""Rows of binary COPY as columns: where each field lies, read with numpy (PostgreSQL manual, "COPY", Binary Format).

A row is its number of fields in two bytes, then each field as its length in four (-1: null) and its bytes, all big
endian. A timestamptz is microseconds since 2000-01-01 UTC, a uuid its 16 bytes, an enum its label, a jsonb a 1 and
its text.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import psycopg
from psycopg import sql

from audit.columns import Flags, Longs, Packed, Words

Connection = psycopg.Connection[tuple[Any, ...]]

#: Microseconds from 1970, where Kafka counts from, to 2000, where PostgreSQL does.
EPOCH_US = 946_684_800_000_000
#: The stream begins with this and ends with a count of -1.
HEADER_BYTES, SIGNATURE, TRAILER = 19, b"PGCOPY\n\xff\r\n\0", b"\xff\xff"
#: Rows judged at a time, and about their bytes.
ROWS, BYTES = 20_000, 32 * 1024 * 1024
_COUNT_BYTES, _LENGTH_BYTES = 2, 4


class Copied:
    """So many rows, as they came and behind each other; of each column its fields' places and lengths, -1 for null."""

    def __init__(self, rows: Sequence[bytes], columns: int) -> None:
        self.rows = rows
        self.packed = packed = Packed(rows)
        self.at: list[Longs] = []
        self.size: list[Longs] = []
        at = packed.starts + _COUNT_BYTES
        for _ in range(columns):
            size = (packed.words(at).byteswap().view(np.int64)) >> 32
            self.at.append(at + _LENGTH_BYTES)
            self.size.append(size)
            at = at + _LENGTH_BYTES + np.maximum(size, 0)

    def words(self, column: int) -> Words:
        """The first eight bytes of a column's fields, the first one lowest; whatever follows a shorter field."""
        return self.packed.words(self.at[column])

    def longs(self, column: int) -> Longs:
        """A column of bigint or timestamptz."""
        return self.words(column).byteswap().view(np.int64)

    def ints(self, column: int) -> Longs:
        """A column of int."""
        return self.longs(column) >> 32

    def fields(self, column: int) -> Iterator[bytes | None]:
        """The bytes of a column's fields, None for null."""
        begins = (self.at[column] - self.packed.starts).tolist()
        for row, begin, size in zip(self.rows, begins, self.size[column].tolist(), strict=True):
            yield None if size < 0 else row[begin : begin + size]


def same_bytes(ours: Packed, ours_at: Longs, theirs: Packed, theirs_at: Longs, size: Longs) -> Flags:
    """Whether `size` bytes at these places are the same; compares eight at a time."""
    same = np.ones(len(size), np.bool_)
    for step in range(0, int(size.max(initial=0)), 8):
        some = np.flatnonzero(size > step)
        left = np.minimum(size[some] - step, 8)
        differ = ours.words(ours_at[some] + step) ^ theirs.words(theirs_at[some] + step)
        same[some] &= differ << (np.uint64(8) * (np.uint64(8) - left.astype(np.uint64))) == 0
    return same


def copied(connection: Connection, query: sql.Composable, columns: int) -> Iterator[Copied]:
    """The rows of a query with `columns` columns, many at a time."""
    statement = sql.SQL("COPY ({}) TO STDOUT (FORMAT binary)").format(query)
    rows: list[bytes] = []
    held = 0
    with connection.cursor() as cursor, cursor.copy(statement) as stream:
        for chunk in stream:
            row = bytes(chunk)
            if row.startswith(SIGNATURE):
                row = row[HEADER_BYTES:]
            if not row or row == TRAILER:
                continue
            rows.append(row)
            held += len(row)
            if len(rows) == ROWS or held > BYTES:
                yield Copied(rows, columns)
                rows, held = [], 0
    if rows:
        yield Copied(rows, columns)
