"""Write rejections to `rejections`: the bytes as they came, with the reason."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sinks.postgres import WRITER
from sinks.rows import rejection_row
from sinks.sink import Record, Rows, made
from sinks.tables import Table
from topics.rejections import appended, source_of

REJECTIONS = Table(
    name="rejections",
    columns=("source_partition", "source_offset", "reason", "detail", "at", "key", "value", "headers"),
    identity=("source_partition", "source_offset"),
    index=("source_partition", "source_offset"),
)


@dataclass(frozen=True)
class RejectionSink:
    """Every rejected record becomes a row."""

    topic: str
    name: ClassVar = "rejections"
    role: ClassVar = WRITER

    def rows(self, records: Sequence[Record]) -> Rows:
        """One row a record."""
        return Rows(((REJECTIONS, made(records, _row)),))

    def source_offset(self, record: Record) -> int | None:
        """The rejected record."""
        return source_of(record)


def _row(record: Record) -> bytes:
    ours = appended(record)
    came = [(name.encode(), value) for name, value in ours.came]
    source = (ours.partition, ours.offset)
    return rejection_row(source, ours.reason, ours.detail, ours.at_ms, record.key(), record.value(), came)
