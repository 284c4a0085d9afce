"""The answers' shapes, for the OpenAPI document. Answers are made without them; tests hold them against each other."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Int64 = Field(pattern=r"^-?[0-9]+$")
Position = Field(pattern=r"^[0-9]+:[0-9]+$", description="partition:offset of the input")
Hash = Field(pattern=r"^[0-9a-f]{64}$")
Time = Field(json_schema_extra={"format": "date-time"})


class Shape(BaseModel):
    """What an answer has, and nothing else."""

    model_config = ConfigDict(extra="forbid", strict=True)


class ProblemFields(BaseModel):
    """RFC 9457; some have further members."""

    type: str
    title: str
    status: int
    detail: str


class CompleteUntil(Shape):
    """Every input record below these positions is in the tables."""

    recorded_at: str | None = Time
    positions: dict[str, str]


class Stamped(Shape):
    """An answer from the tables."""

    complete_until: CompleteUntil


class WalletFields(Shape):
    """A wallet."""

    wallet_id: str
    currency: str
    opened_at: str = Time


class Wallets(Stamped):
    """Some wallets, by the bytes of their ids."""

    wallets: list[WalletFields]
    next: str | None


class Wallet(WalletFields, Stamped):
    """A wallet and its newest entry."""

    balance: str = Int64
    sequence: str = Int64
    recorded_at: str = Time
    source: str = Position
    hash: str = Hash


class Balance(Stamped):
    """A balance, and what it stands for: `source`, `at` or `effective_at`."""

    wallet_id: str
    currency: str
    balance: str = Int64
    source: str | None = None
    at: str | None = None
    effective_at: str | None = None


class Entry(Shape):
    """An entry of the ledger."""

    wallet_id: str
    sequence: str = Int64
    transaction_id: str
    type: Literal["CREDIT", "DEBIT"]
    amount: str = Int64
    currency: str
    occurred_at: str = Time
    group_id: str | None
    metadata: dict[str, str]
    balance: str = Int64
    recorded_at: str = Time
    source: str = Position
    hash: str = Hash


class Statement(Stamped):
    """Entries in their order; `opening` is the balance before the first that is shown, `closing` after the last."""

    wallet_id: str
    currency: str
    opening: str = Int64
    entries: list[Entry]
    closing: str = Int64
    next: str | None


class ProofEntry(Shape):
    """The bytes of an entry without its hash, and the hash."""

    sequence: str = Int64
    entry: str = Field(json_schema_extra={"contentEncoding": "base64"})
    hash: str = Hash


class Proof(Stamped):
    """`sha256(previous hash ‖ entry) = hash`, entry by entry from `previous_hash` on."""

    wallet_id: str
    from_sequence: str = Int64
    previous_hash: str = Hash
    entries: list[ProofEntry]
    next: str | None


class Group(Stamped):
    """The legs of a movement; complete: they sum to zero in every currency."""

    group_id: str
    legs: list[Entry]
    sums: dict[str, str]
    complete: bool


class RejectionFields(Shape):
    """A rejection in short; `key` in base64."""

    source: str = Position
    reason: str
    detail: str
    at: str = Time
    key: str | None


class Rejections(Stamped):
    """Rejections by their source."""

    rejections: list[RejectionFields]
    next: str | None


class Rejection(RejectionFields, Stamped):
    """A rejection with its bytes in base64, and what could be decoded of them."""

    value: str | None
    headers: list[tuple[str, str | None]] = Field(strict=False)
    decoded: dict[str, Any] | None
    not_decoded: str | None


class Outcome(Shape):
    """What became of a record of the input."""

    source: str = Position
    outcome: Literal["posted", "rejected"]
    entry: Entry | None = None
    reason: str | None = None
    detail: str | None = None


class Pending(Shape):
    """It is not decided yet."""

    source: str = Position
    outcome: Literal["pending"]


class Sums(Shape):
    """One currency's sums."""

    credits: str = Int64
    debits: str = Int64
    balance: str = Int64
    wallets: str = Int64


class TrialBalance(Stamped):
    """Sums of all wallets, by currency."""

    at: str | None = Time
    currencies: dict[str, Sums]


class Day(Shape):
    """A day in UTC and the balance at its end."""

    day: str
    closing: str = Int64
    entries: str = Int64
    credits: str = Int64
    debits: str = Int64


class Daily(WalletFields, Stamped):
    """Closings, day by day."""

    days: list[Day]


class Range(Shape):
    """Offsets of a partition of the ledger, the last excluded."""

    partition: int
    from_offset: str = Int64
    to_offset: str = Int64


class Seal(Shape):
    """A sealed month; each seal covers the one before it."""

    month: str
    entries: str = Int64
    amount: str = Int64
    hash: str = Hash
    previous_seal: str | None
    seal: str = Hash
    sealed_at: str = Time
    ranges: list[Range]


class Seals(Stamped):
    """Sealed months, the first one first."""

    seals: list[Seal]


class Place(Shape):
    """Where a reader is in a partition."""

    reader: str
    topic: str
    partition: int
    position: str | None
    end: str = Int64
    lag: str = Int64
    progress_at: str | None


class Pipeline(Stamped):
    """The state of the pipeline, as `wallet status --json` tells it."""

    prefix: str
    workers: int | None
    places: list[Place]
    rejections: dict[str, str]
    postgres_problem: str | None


class TransactionFields(BaseModel):
    """A transaction as `wallet send` takes it; `amount` in minor units, as a string or a whole number."""

    model_config = ConfigDict(extra="forbid")

    transaction_id: str = Field(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")
    wallet_id: str = Field(min_length=1, max_length=128)
    type: Literal["CREDIT", "DEBIT"]
    amount: str | int
    currency: str = Field(pattern=r"^[A-Z]{3}$")
    occurred_at: str = Time
    group_id: str | None = Field(None, min_length=1, max_length=128)
    metadata: dict[str, str] | None = None
