"""The rows that PostgreSQL must hold, as digests: what an audit certifies, less what a sink has not written yet."""

from collections.abc import Mapping

from audit.partition import Stretch
from config.topics import Topics
from operations.verify.digests import Digests
from schemas.codec import HEADER_BYTES, decode_snapshot
from schemas.records import INTERVAL
from sinks.rows import Rejection, rejection_row, snapshot_row
from topics.source import Source

OUR_HEADERS = 6
TABLES = ("transactions", "transaction_snapshots", "rejections")


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
        self.rows = {table: Digests(key) for table in TABLES}
        self.beyond = {table: Digests(key) for table in TABLES}
        self._topics, self._positions = topics, positions
        self._wanted = wanted
        self._interval_only = interval_only

    def add(self, stretch: Stretch) -> None:
        """Count the rows of one stretch."""
        if not self._wanted:
            return
        topics, at, judged = self._topics, stretch.partition, stretch.judged
        written = self._positions.get((topics.ledger, at), 0)
        rows, beyond = self.rows["transactions"].add, self.beyond["transactions"].add
        sources, offsets = judged.certified.source.tolist(), judged.offsets.tolist()
        for value, source, offset in zip(judged.values, sources, offsets, strict=True):
            rows(at, source, value[HEADER_BYTES:])
            if offset >= written:
                beyond(at, source, value[HEADER_BYTES:])
        self._add("rejections", stretch.rejections, at, self._positions.get((topics.rejections, at), 0))
        self._add(
            "transaction_snapshots", stretch.snapshots, at, self._positions.get((topics.snapshots, at), 0)
        )

    def take(self, other: "ExpectedRows") -> None:
        """Add what others expect, of other partitions."""
        for table in TABLES:
            self.rows[table].take(other.rows[table])
            self.beyond[table].take(other.beyond[table])

    def due(self, table: str) -> Digests:
        """What must be in a table."""
        return self.rows[table].less(self.beyond[table])

    def _add(self, table: str, records: list[Source], partition: int, written: int) -> None:
        for record in records:
            row = self._rejection(record) if table == "rejections" else self._snapshot(record)
            if row is None:
                continue
            source, content = row
            self.rows[table].add(partition, source, content)
            if record.offset >= written:
                self.beyond[table].add(partition, source, content)

    def _rejection(self, record: Source) -> tuple[int, bytes] | None:
        try:
            came = rejection_of(record)
        except (KeyError, ValueError):
            return None  # told as a difference of its topic
        return came.source_offset, rejection_row(came)

    def _snapshot(self, record: Source) -> tuple[int, bytes] | None:
        body = (record.value or b"")[HEADER_BYTES:]
        snapshot = decode_snapshot(body)
        if snapshot.reason != INTERVAL and self._interval_only:
            return None
        return snapshot.source_offset, snapshot_row(body)


def rejection_of(record: Source) -> Rejection:
    """The row that a rejection becomes; our headers are the last six."""
    came, ours = record.headers[:-OUR_HEADERS], dict(record.headers[-OUR_HEADERS:])
    return Rejection(
        int(ours["rejection.partition"] or b""),
        int(ours["rejection.offset"] or b""),
        ours["rejection.reason"] or b"",
        ours["rejection.detail"] or b"",
        int(ours["rejection.at"] or b""),
        record.key,
        record.value,
        [(name.encode(), value) for name, value in came],
    )
