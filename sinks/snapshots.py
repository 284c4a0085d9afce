"""Write snapshots to `transaction_snapshots`."""

from collections.abc import Sequence

from sinks.postgres import WRITER
from sinks.rows import snapshot_row
from sinks.sink import Record, Rows, body_of, damaged
from sinks.tables import Table

SNAPSHOTS = Table(
    name="transaction_snapshots",
    columns=(
        "wallet_id",
        "currency",
        "balance",
        "sequence",
        "recorded_at",
        "source_partition",
        "source_offset",
        "hash",
        "reason",
    ),
    identity=("wallet_id", "sequence", "reason"),
    index=("wallet_id", "sequence", "reason"),
)


class SnapshotSink:
    """Every snapshot becomes a row."""

    name = "snapshots"
    role = WRITER

    def __init__(self, topic: str) -> None:
        self.topic = topic

    def rows(self, records: Sequence[Record]) -> Rows:
        """One row a record."""
        rows = []
        for record in records:
            try:
                rows.append(snapshot_row(body_of(record)))
            except ValueError as error:
                raise damaged(record, error) from error
        return Rows(((SNAPSHOTS, rows),))

    def source_offset(self, record: Record) -> None:
        """None: a snapshot does not say what came before it."""
