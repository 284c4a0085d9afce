"""The pipeline's contract as an audit needs it: its rules, reasons and records.

Written from the docs and the .avsc files. Amounts are minor units, times milli- or microseconds since the epoch, UTC.
"""

import re
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple, Self

from config.pipeline import Pipeline

Headers = Sequence[tuple[str, bytes | None]]

DAY_MS = 86_400_000
#: Microseconds of 0001-01-01T00:00:00Z and of the last one of the year 9999.
FIRST_US, LAST_US = -62_135_596_800_000_000, 253_402_300_799_999_999
#: A record from before that counts as of that time.
FIRST_MS = FIRST_US // 1_000
SMALLEST, LARGEST = -(2**63), 2**63 - 1
NO_HASH = bytes(32)
#: Headers that a rejection adds after the original ones.
REJECTION_HEADERS = (
    "rejection.reason",
    "rejection.detail",
    "rejection.topic",
    "rejection.partition",
    "rejection.offset",
    "rejection.at",
)
#: A record with more than these is TOO_LARGE: librdkafka reads 100,000, and a rejection adds its own.
MOST_HEADERS = 100_000 - len(REJECTION_HEADERS)

CREDIT, DEBIT = 0, 1
INTERVAL, PERIOD = 0, 1
TYPES, REASONS = ("CREDIT", "DEBIT"), ("INTERVAL", "PERIOD", "SEAL")
#: A value begins with a zero and the schema's id in four bytes.
FRAME_BYTES = 5

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_CURRENCY = re.compile(r"[A-Z]{3}")


class Reason(StrEnum):
    """Why a record was rejected, in the order in which the reasons are tried."""

    TOO_LARGE = "TOO_LARGE"
    UNDECODABLE = "UNDECODABLE"
    INVALID = "INVALID"
    MISROUTED = "MISROUTED"
    DUPLICATE = "DUPLICATE"
    CONFLICT = "CONFLICT"
    CURRENCY_MISMATCH = "CURRENCY_MISMATCH"
    OVERFLOW = "OVERFLOW"
    INSUFFICIENT_FUNDS = "INSUFFICIENT_FUNDS"


#: Reasons that the record alone decides; the others depend on what its wallet has posted.
BY_ITSELF = (Reason.TOO_LARGE, Reason.UNDECODABLE, Reason.INVALID, Reason.MISROUTED)


class Transaction(NamedTuple):
    """A transaction from upstream; `type` is CREDIT or DEBIT, `metadata` is in its original order."""

    transaction_id: str
    wallet_id: str
    type: int
    amount: int
    currency: str
    occurred_us: int
    group_id: str | None = None
    metadata: tuple[tuple[str, str], ...] = ()

    @property
    def signed(self) -> int:
        """What it adds to its wallet."""
        return -self.amount if self.type == DEBIT else self.amount


class Balance(NamedTuple):
    """A wallet's newest entry, without its transaction."""

    wallet_id: str
    currency: str
    balance: int
    sequence: int
    recorded_ms: int
    source_partition: int
    source_offset: int
    hash: bytes


class Contract(NamedTuple):
    """The record of one pipeline, and the schema ids in front of what it writes.

    `writer` returns the text of the schema accepted under an id for a partition's record at an offset, or None; it is
    not asked about the pipeline's own id.
    """

    input_topic: str
    partitions: int
    snapshot_every: int
    overdraft_allowed: bool
    max_record_bytes: int
    id_window_ms: int | None
    transaction_schema_id: int
    entry_schema_id: int
    balance_schema_id: int
    snapshot_schema_id: int
    writer: Callable[[int, int, int], str | None] = lambda *_: None

    @classmethod
    def of(
        cls,
        input_topic: str,
        pipeline: Pipeline,
        ids: Sequence[int],
        writer: Callable[[int, int, int], str | None] = lambda *_: None,
    ) -> Self:
        """Of a pipeline's record; `ids` are those of what it writes: Transaction, LedgerEntry, Balance, Snapshot."""
        window = pipeline.id_window_days
        return cls(
            input_topic,
            pipeline.partitions,
            pipeline.snapshot_every,
            pipeline.overdraft == "allow",
            pipeline.max_record_bytes,
            None if window is None else window * DAY_MS,
            pipeline.transaction_schema_id,
            ids[1],
            ids[2],
            ids[3],
            writer,
        )


def frame(schema_id: int) -> bytes:
    """What stands before a body."""
    return b"\0" + schema_id.to_bytes(4)


def is_valid(transaction: Transaction) -> bool:
    """Whether a decoded transaction keeps the rules of the schema's fields."""
    group = transaction.group_id
    names = [name for name, _ in transaction.metadata]
    strings = [transaction.wallet_id, group or "", *names, *(value for _, value in transaction.metadata)]
    return (
        _UUID.fullmatch(transaction.transaction_id) is not None
        and 1 <= len(transaction.wallet_id) <= 128
        and 0 < transaction.amount <= LARGEST
        and _CURRENCY.fullmatch(transaction.currency) is not None
        and FIRST_US <= transaction.occurred_us <= LAST_US
        and (group is None or 1 <= len(group) <= 128)
        and len(names) == len(set(names))
        and not any("\0" in text for text in strings)
    )
