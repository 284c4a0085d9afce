"""The rows that PostgreSQL must hold, as digests: all certified ones except those a sink has not written yet."""

from collections.abc import Callable, Mapping

import numpy as np

from audit import avro, rows
from audit.columns import FRAME_BYTES, Longs
from audit.contract import INTERVAL
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
        rejections = [*stretch.not_kept, *stretch.rejections]
        self._add_records("rejections", topics.rejections, at, rejections, _rejection)
        self._add_records(DETAILS, topics.rejections, at, stretch.rejections, _detail)
        self._add_records("transaction_snapshots", topics.snapshots, at, stretch.snapshots, self._snapshot)
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

    def _add_records(
        self,
        table: str,
        topic: str,
        partition: int,
        records: list[Source],
        row: Callable[[Source], tuple[int, bytes] | None],
    ) -> None:
        made = [(record.offset, *said) for record in records if (said := row(record)) is not None]
        offsets, sources = (np.array([one[at] for one in made], np.int64) for at in (0, 1))
        self._add(table, topic, partition, offsets, sources, [one[2] for one in made])

    def _snapshot(self, record: Source) -> tuple[int, bytes] | None:
        body = (record.value or b"")[FRAME_BYTES:]
        snapshot = avro.read_snapshot(body)
        if snapshot.reason != INTERVAL and self._interval_only:
            return None
        return snapshot.source_offset, body


def _rejection(record: Source) -> tuple[int, bytes] | None:
    try:
        return rows.rejection(record)[:2]
    except (KeyError, ValueError):
        return None  # reported as a difference in its topic


def _detail(record: Source) -> tuple[int, bytes] | None:
    try:
        source, _, detail = rows.rejection(record)
    except (KeyError, ValueError):
        return None
    return source, detail
