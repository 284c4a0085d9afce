"""The rows that PostgreSQL must hold, as digests: what the fold puts out, less what a sink has not written yet."""

from collections.abc import Sequence

from operations.verify.digests import Digests
from operations.verify.fold import Entered
from schemas.codec import HEADER_BYTES, decode_entry, decode_snapshot
from schemas.records import INTERVAL
from sinks.rows import Rejection, rejection_row, snapshot_row
from streams.batch import Derived, Outputs

OUR_HEADERS = 6
TABLES = ("transactions", "transaction_snapshots", "rejections")


class ExpectedRows:
    """Digests of all rows by table, and of those beyond the sinks' positions.

    `interval_only` leaves PERIOD snapshots out: before an earlier cut their rows cannot be told from later ones'.
    """

    def __init__(self, key: bytes, *, wanted: bool, interval_only: bool = False) -> None:
        self.rows = {table: Digests(key) for table in TABLES}
        self.beyond = {table: Digests(key) for table in TABLES}
        self._wanted = wanted
        self._interval_only = interval_only

    def add(self, partition: int, out: Outputs, entered: Sequence[Entered]) -> None:
        """Count the rows of one batch."""
        if not self._wanted:
            return
        add = self.rows["transactions"].add
        for derived, (balance, _) in zip(out.entries, entered, strict=True):
            add(partition, balance[6], (derived[1] or b"")[HEADER_BYTES:])
        for derived in out.rejections:
            self._rejection(self.rows, partition, derived)
        for derived in out.snapshots:
            self._snapshot(self.rows, partition, derived)

    def entry_beyond(self, partition: int, derived: Derived) -> None:
        """An entry that the sink has not read."""
        if self._wanted:
            body = (derived.value or b"")[HEADER_BYTES:]
            self.beyond["transactions"].add(partition, decode_entry(body).source_offset, body)

    def rejection_beyond(self, partition: int, derived: Derived) -> None:
        """A rejection that the sink has not read."""
        if self._wanted:
            self._rejection(self.beyond, partition, derived)

    def snapshot_beyond(self, partition: int, derived: Derived) -> None:
        """A snapshot that the sink has not read."""
        if self._wanted:
            self._snapshot(self.beyond, partition, derived)

    def rejection_worded(self, partition: int, derived: Derived, found: Derived) -> None:
        """A rejection whose detail has other words than the fold's: its row has them too."""
        if self._wanted:
            swapped = Digests(self.rows["rejections"].key)
            self._rejection({"rejections": swapped}, partition, derived)
            self.rows["rejections"] = self.rows["rejections"].less(swapped)
            self._rejection(self.rows, partition, found)

    def due(self, table: str) -> Digests:
        """What must be in a table."""
        return self.rows[table].less(self.beyond[table])

    def _rejection(self, into: dict[str, Digests], partition: int, derived: Derived) -> None:
        came = rejection_of(derived)
        into["rejections"].add(partition, came.source_offset, rejection_row(came))

    def _snapshot(self, into: dict[str, Digests], partition: int, derived: Derived) -> None:
        body = (derived.value or b"")[HEADER_BYTES:]
        snapshot = decode_snapshot(body)
        if snapshot.reason == INTERVAL or not self._interval_only:
            into["transaction_snapshots"].add(partition, snapshot.source_offset, snapshot_row(body))


def rejection_of(derived: Derived) -> Rejection:
    """The row that a rejection becomes; our headers are the last six."""
    headers = [
        (name, value.encode() if isinstance(value, str) else value) for name, value in derived.headers or ()
    ]
    came, ours = headers[:-OUR_HEADERS], dict(headers[-OUR_HEADERS:])
    return Rejection(
        int(ours["rejection.partition"] or b""),
        int(ours["rejection.offset"] or b""),
        ours["rejection.reason"] or b"",
        ours["rejection.detail"] or b"",
        int(ours["rejection.at"] or b""),
        derived.key,
        derived.value,
        [(name.encode(), value) for name, value in came],
    )
