"""Write snapshots to `transaction_snapshots`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sinks.postgres import WRITER
from sinks.rows import snapshot_row
from sinks.sink import Record, Rows, body_of, made
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


@dataclass(frozen=True)
class SnapshotSink:
    """Every snapshot becomes a row."""

    topic: str
    name: ClassVar = "snapshots"
    role: ClassVar = WRITER

    def rows(self, records: Sequence[Record]) -> Rows:
        """One row a record."""
        return Rows(((SNAPSHOTS, made(records, lambda record: snapshot_row(body_of(record)))),))

    def source_offset(self, record: Record) -> None:
        """None: a snapshot does not say what came before it."""
