"""Lines of an import: transactions with dates of their own, or opening balances, each read or with what is wrong.

What makes a line bad here and not in `wallet send`: a recorded_at that lies ahead, or before that of a line in front
of it. A record that is out of order would silently get the time of the one before.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Protocol

from config.times import rfc3339
from operations.sending.files.file import File
from operations.sending.files.shape import BadLine, Fields, Shape
from operations.sending.files.values import moment_of
from operations.sending.lines import TRANSACTION, to_transaction
from schemas.entries import encode_transaction
from schemas.records import EPOCH, Transaction, from_ms

RECORDED_AT = "recorded_at"
RECORDED = Shape((*TRANSACTION.required, RECORDED_AT), TRANSACTION.optional, metadata=True)
#: What the wire format and a schema id add to a body.
FRAME_BYTES = 5
#: Nobody means a time before this, unless they say so: seconds that are taken for milliseconds lie in January 1970.
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)


class Dated(NamedTuple):
    """A transaction as it will stand in Kafka: the key, the Avro body, and the record's timestamp."""

    key: bytes
    body: bytes
    recorded_ms: int


#: What a line holds: None for nothing to send, a text for what is wrong.
Read = Dated | str | None


class Line(NamedTuple):
    """One row of one file, and its number there."""

    file: File
    number: int
    read: Read

    def __str__(self) -> str:
        return f"{self.file.path}: line {self.number}"


class Meaning(Protocol):
    """What the rows of a file stand for."""

    def __call__(self, fields: Fields) -> tuple[Transaction, datetime] | None:
        """A transaction and when it was recorded; None for a row that is to have none. Raises BadLine."""


@dataclass(frozen=True)
class Part:
    """A file and what its rows stand for."""

    file: File
    meaning: Meaning


def recorded_transaction(fields: Fields) -> tuple[Transaction, datetime]:
    """A line of `wallet send` that also says when it was recorded."""
    RECORDED.check(fields)
    rest = {name: value for name, value in fields.items() if name != RECORDED_AT}
    return to_transaction(rest), moment_of(fields, RECORDED_AT)


class Reader:
    """Reads the parts in their order, each line once; `newest_ms` is the newest recorded_at so far.

    `ends_ms` is the present: nothing was recorded after it; nothing before `earliest` is taken for meant.
    """

    def __init__(
        self, parts: Sequence[Part], max_record_bytes: int, ends_ms: int, earliest: datetime = EARLIEST
    ) -> None:
        self._parts = parts
        self._max_record_bytes = max_record_bytes
        self._ends_ms = ends_ms
        self._earliest = earliest
        self.newest_ms = 0

    def lines(self) -> Iterator[Line]:
        """Every line that is not empty. The same files and the same `ends_ms` give the same lines."""
        for part in self._parts:
            for number, row in part.file.rows():
                yield Line(part.file, number, self._read(part.meaning, row))

    def _read(self, meaning: Meaning, row: Fields | str) -> Read:
        if isinstance(row, str):
            return row
        try:
            meant = meaning(row)
            return meant and self._dated(*meant)
        except BadLine as bad:
            return str(bad)

    def _dated(self, transaction: Transaction, recorded_at: datetime) -> Dated:
        not_before(self._earliest, recorded_at, RECORDED_AT)
        recorded_ms = (recorded_at - EPOCH) // _MS
        if recorded_ms > self._ends_ms:
            raise BadLine(f"it was recorded at {iso(recorded_ms)}, which lies ahead")
        if recorded_ms < self.newest_ms:
            raise BadLine(
                f"it was recorded at {iso(recorded_ms)}, before {iso(self.newest_ms)} of a line in front of it: "
                "sort by recorded_at"
            )
        key, body = transaction.wallet_id.encode(), encode_transaction(transaction)
        if (size := len(key) + FRAME_BYTES + len(body)) > self._max_record_bytes:
            raise BadLine(f"it has {size} bytes with its key, at most {self._max_record_bytes} are taken")
        self.newest_ms = recorded_ms
        return Dated(key, body, recorded_ms)


def not_before(earliest: datetime, at: datetime, name: str) -> None:
    """Raise BadLine for a time that cannot be meant."""
    if at < earliest:
        raise BadLine(
            f"{name} {rfc3339(at)} lies before {earliest.date()}: seconds? Write milliseconds or ISO 8601; if it is "
            "right, say --earliest DATE"
        )


def iso(at_ms: int) -> str:
    """A time in milliseconds since 1970 for people."""
    return rfc3339(from_ms(at_ms))
