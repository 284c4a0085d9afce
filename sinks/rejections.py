"""The rejections' way into `rejections`: whatever bytes came, unchanged, with the reason."""

from collections.abc import Sequence
from typing import cast

from sinks.postgres import WRITER
from sinks.rows import Rejection, rejection_row
from sinks.sink import Record, Rows, damaged
from sinks.tables import Table

REJECTIONS = Table(
    name="rejections",
    columns=("source_partition", "source_offset", "reason", "detail", "at", "key", "value", "headers"),
    identity=("source_partition", "source_offset"),
    index=("source_partition", "source_offset"),
)

#: The headers that the worker appends, in its order.
APPENDED = (
    "rejection.reason",
    "rejection.detail",
    "rejection.topic",
    "rejection.partition",
    "rejection.offset",
    "rejection.at",
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


def _rejection(record: Record) -> Rejection:
    """Ours are the last six headers: upstream may have sent some under the same names."""
    headers = _headers(record)
    came, ours = headers[: -len(APPENDED)], headers[-len(APPENDED) :]
    values = [value for _, value in ours if value is not None]
    if tuple(name for name, _ in ours) != APPENDED or len(values) != len(APPENDED):
        raise ValueError("the last headers are not a rejection's")
    reason, detail, _, partition, offset, at_ms = values
    return Rejection(
        source_partition=int(partition),
        source_offset=int(offset),
        reason=reason,
        detail=detail,
        at_ms=int(at_ms),
        key=record.key(),
        value=record.value(),
        headers=[(name.encode(), value) for name, value in came],
    )


def _headers(record: Record) -> list[tuple[str, bytes | None]]:
    try:
        # The stubs allow what a producer may be given; a consumer always gives a list of pairs, or None.
        return cast("list[tuple[str, bytes | None]]", record.headers() or [])
    except SystemError as error:
        # What confluent-kafka 2.16 raises for such a name. No worker of ours can have written one.
        raise ValueError("the name of a header is not UTF-8") from error
