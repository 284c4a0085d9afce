"""What the consumer needs from a sink: its topic, and rows for its records."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from confluent_kafka import Message

from config.errors import Stopped
from sinks.postgres import Role
from sinks.tables import TableRows

T = TypeVar("T")

FRAME_BYTES = 5

if TYPE_CHECKING:
    #: A record as librdkafka gives it; the class takes its parameters for the type checker only.
    Record = Message[bytes, bytes]
else:
    Record = Message


class Rows(NamedTuple):
    """Rows of some records by table, in writing order, and the days that need a month partition.

    Days are counted from the epoch, UTC.
    """

    tables: tuple[TableRows, ...]
    days: frozenset[int] = frozenset()


class Sink(Protocol):
    """Turns one topic's records into rows of its tables. A sink is pure: the same records give the same rows."""

    @property
    def name(self) -> str:
        """The sink's name in `sink_positions` and on the command line."""

    @property
    def topic(self) -> str:
        """The topic it reads."""

    @property
    def role(self) -> Role:
        """The role by which it writes its rows and its position."""

    def rows(self, records: Sequence[Record]) -> Rows:
        """Rows for these records; raises Stopped for one that does not decode."""

    def source_offset(self, record: Record) -> int | None:
        """The input offset of a record that decodes; None if this topic does not say how far the input is decided."""


def body_of(record: Record) -> bytes:
    """The Avro body of a value in Confluent's wire format; raises ValueError if it is not in it."""
    value = record.value()
    if value is None or len(value) <= FRAME_BYTES or value[0]:
        raise ValueError("not in the wire format")
    return value[FRAME_BYTES:]


def made(records: Sequence[Record], row: Callable[[Record], T]) -> list[T]:
    """What `row` makes of each record; raises Stopped for one of which it makes nothing."""
    found = []
    for record in records:
        try:
            found.append(row(record))
        except ValueError as error:
            raise damaged(record, error) from error
    return found


def damaged(record: "Message[Any, Any]", error: Exception) -> Stopped:
    """The error for an unreadable record in a topic that only this pipeline's worker may write to."""
    return Stopped(
        f"{record.topic()} partition {record.partition()} offset {record.offset()} does not decode "
        f"({error}): another program than this pipeline's worker wrote it, or an older release did, whose ledger "
        "`wallet rebuild` makes anew"
    )
