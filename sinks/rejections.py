"""Write rejections to `rejections`: the bytes as they came, with the reason."""

from collections.abc import Sequence

from sinks.postgres import WRITER
from sinks.rows import Rejection, rejection_row
from sinks.sink import Record, Rows, damaged
from sinks.tables import Table
from topics.rejections import appended, source_of

REJECTIONS = Table(
    name="rejections",
    columns=("source_partition", "source_offset", "reason", "detail", "at", "key", "value", "headers"),
    identity=("source_partition", "source_offset"),
    index=("source_partition", "source_offset"),
)


class RejectionSink:
    """Every rejected record becomes a row."""

    name = "rejections"
    role = WRITER

    def __init__(self, topic: str) -> None:
        self.topic = topic

    def rows(self, records: Sequence[Record]) -> Rows:
        """One row a record."""
        rows = []
        for record in records:
            try:
                rows.append(rejection_row(_rejection(record)))
            except ValueError as error:
                raise damaged(record, error) from error
        return Rows(((REJECTIONS, rows),))

    def source_offset(self, record: Record) -> int | None:
        """The rejected record."""
        return source_of(record)


def _rejection(record: Record) -> Rejection:
    ours = appended(record)
    return Rejection(
        source_partition=ours.partition,
        source_offset=ours.offset,
        reason=ours.reason,
        detail=ours.detail,
        at_ms=ours.at_ms,
        key=record.key(),
        value=record.value(),
        headers=[(name.encode(), value) for name, value in ours.came],
    )
