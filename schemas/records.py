"""The records of the pipeline, as frozen tuples.

Amounts and balances are int minor units. Times are the schema's ints (`_us` micro-, `_ms` milliseconds since
the epoch, UTC): a batch of thousands is folded without one `datetime`. What people see has aware ones, too.
"""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

CREDIT, DEBIT = 0, 1
INTERVAL, PERIOD, SEAL = 0, 1, 2

TYPES = ("CREDIT", "DEBIT")
REASONS = ("INTERVAL", "PERIOD", "SEAL")


def from_us(us: int) -> datetime:
    """An aware UTC datetime for microseconds since the epoch."""
    return EPOCH + timedelta(microseconds=us)


def from_ms(ms: int) -> datetime:
    """An aware UTC datetime for milliseconds since the epoch."""
    return EPOCH + timedelta(milliseconds=ms)


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


#: The most characters of a rejection's detail, since it travels in a header.
DETAIL_CHARACTERS = 500


class Rejected(NamedTuple):
    """A record that was not posted: why, and a detail for people, in printable ASCII."""

    reason: Reason
    detail: str

    @classmethod
    def because(cls, reason: Reason, text: str) -> "Rejected":
        """Rejected with any text as its detail: escapes all but printable ASCII, and cuts long text."""
        detail = text[:DETAIL_CHARACTERS].encode("unicode_escape").decode("ascii")
        return cls(
            reason, detail if len(detail) <= DETAIL_CHARACTERS else detail[: DETAIL_CHARACTERS - 3] + "..."
        )


class Transaction(NamedTuple):
    """What upstream requests. `type` is CREDIT or DEBIT (an enum index); `amount` is in minor units, above zero."""

    transaction_id: str
    wallet_id: str
    type: int
    amount: int
    currency: str
    occurred_us: int
    group_id: str | None = None
    metadata: tuple[tuple[str, str], ...] = ()

    @property
    def occurred_at(self) -> datetime:
        """When it happened by the upstream clock, aware UTC."""
        return from_us(self.occurred_us)


class Order(NamedTuple):
    """The part of a valid transaction that decides its outcome, and the bytes that are carried along.

    `transaction_id` is the UUID's 16 bytes and `wallet` the wallet id's UTF-8; `body` is the canonical encoding
    and `content` the digest that two postings of one transaction share.
    """

    transaction_id: bytes
    wallet: bytes
    type: int
    amount: int
    currency: str
    body: bytes
    content: bytes


class LedgerEntry(NamedTuple):
    """One accepted transaction in its wallet's sequence; `hash` chains it to the one before."""

    transaction: Transaction
    sequence: int
    balance: int
    recorded_ms: int
    source_partition: int
    source_offset: int
    hash: bytes

    @property
    def recorded_at(self) -> datetime:
        """When the ledger recorded it, aware UTC."""
        return from_ms(self.recorded_ms)


class Balance(NamedTuple):
    """A summary of a wallet's newest entry; the value of the balance table and of its changelog."""

    wallet_id: str
    currency: str
    balance: int
    sequence: int
    recorded_ms: int
    source_partition: int
    source_offset: int
    hash: bytes


class Snapshot(NamedTuple):
    """A balance brought forward: the fields of Balance, then the reason (an enum index)."""

    wallet_id: str
    currency: str
    balance: int
    sequence: int
    recorded_ms: int
    source_partition: int
    source_offset: int
    hash: bytes
    reason: int
