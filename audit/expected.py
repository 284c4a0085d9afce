"""The rows that PostgreSQL must hold, as digests: all certified ones except those a sink has not written yet."""

from collections.abc import Mapping
from contextlib import suppress

import numpy as np

from audit import avro, rows
from audit.columns import Longs
from audit.contract import FRAME_BYTES, INTERVAL
from audit.digests import Digests
from audit.partition import Stretch
from topics.names import Topics
from topics.source import Source

#: Tables whose rows are counted; details of rejections are counted separately.
DETAILS = "rejections.detail"
TABLES = ("transactions", "transaction_snapshots", "rejections")
COUNTED = (*TABLES, DETAILS)


class ExpectedRows:
    """Digests of all rows by table, and of those at or beyond `positions`, up to which the sinks have written.

    `interval_only` leaves PERIOD snapshots out: before an earlier cut their rows cannot be told from later ones'.
    """

    def __init__(
        self,
        key: bytes,
        topics: Topics,
        positions: Mapping[tuple[str, int], int],
        *,
        wanted: bool,
        interval_only: bool = False,
    ) -> None:
        self.rows = {table: Digests(key) for table in COUNTED}
        self.beyond = {table: Digests(key) for table in COUNTED}
        self._topics, self._positions = topics, positions
        self._wanted = wanted
        #: By partition the last source of a rejection that retention has deleted: its detail is not known.
        self.without_details: dict[int, int] = {}
        self._interval_only = interval_only

    def add(self, stretch: Stretch) -> None:
        """Count the rows of one stretch."""
        if not self._wanted:
            return
        topics, at, judged = self._topics, stretch.partition, stretch.judged
        entries = [value[FRAME_BYTES:] for value in judged.values]
        self._add("transactions", topics.ledger, at, judged.offsets, judged.certified.source, entries)
        kept = _rejections(stretch.rejections)
        rejections = [*_rejections(stretch.not_kept), *kept]
        self._add_rows("rejections", topics.rejections, at, [row[:3] for row in rejections])
        self._add_rows(DETAILS, topics.rejections, at, [(*row[:2], row[3]) for row in kept])
        self._add_rows("transaction_snapshots", topics.snapshots, at, self._snapshots(stretch.snapshots))
        for record in stretch.not_kept[-1:]:
            self.without_details[at] = rows.rejection(record)[0]

    def take(self, other: "ExpectedRows") -> None:
        """Add what others expect, of other partitions."""
        for table in COUNTED:
            self.rows[table].take(other.rows[table])
            self.beyond[table].take(other.beyond[table])
        self.without_details |= other.without_details

    def due(self, table: str) -> Digests:
        """What must be in a table."""
        return self.rows[table].less(self.beyond[table])

    def _add(
        self, table: str, topic: str, partition: int, offsets: Longs, sources: Longs, contents: list[bytes]
    ) -> None:
        partitions = np.full(len(sources), partition, np.int64)
        self.rows[table].add(partitions, sources, contents)
        later = np.flatnonzero(offsets >= self._positions.get((topic, partition), 0))
        self.beyond[table].add(partitions[later], sources[later], [contents[row] for row in later.tolist()])

    def _add_rows(self, table: str, topic: str, partition: int, made: list[tuple[int, int, bytes]]) -> None:
        """Rows, each behind the offset of its record and its source."""
        offsets, sources = (np.array([one[at] for one in made], np.int64) for at in (0, 1))
        self._add(table, topic, partition, offsets, sources, [one[2] for one in made])

    def _snapshots(self, records: list[Source]) -> list[tuple[int, int, bytes]]:
        bodies = [(record.offset, (record.value or b"")[FRAME_BYTES:]) for record in records]
        read = [(offset, body, avro.read_snapshot(body)) for offset, body in bodies]
        return [
            (offset, snapshot.source_offset, body)
            for offset, body, snapshot in read
            if snapshot.reason == INTERVAL or not self._interval_only
        ]


def _rejections(records: list[Source]) -> list[tuple[int, int, bytes, bytes]]:
    """Of each its offset, its source, its row and its detail; what is none is a difference in its topic."""
    found = []
    for record in records:
        with suppress(KeyError, ValueError):
            found.append((record.offset, *rows.rejection(record)))
    return found
