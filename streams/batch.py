"""The types of a fold: what it asks of the past, and what it puts out."""

from typing import NamedTuple, Protocol

from schemas.records import Balance
from streams.wallet import Known


class Derived(NamedTuple):
    """One record for a derived topic."""

    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    headers: list[tuple[str, str | bytes | None]] | None = None


class Past(Protocol):
    """What a fold asks about the history of its partition, a batch at a time."""

    def balances(self, wallets: set[bytes]) -> dict[bytes, Balance]:
        """The newest balances of those of these wallets (UTF-8 of their ids) that have one."""

    def known(self, ids: list[bytes]) -> dict[bytes, Known]:
        """What was posted under those of these ids (see `posted_id`) that were posted."""


class Outputs:
    """The outputs of a batch, kept apart until its Kafka transaction has committed."""

    __slots__ = (
        "balances",
        "changelog",
        "entries",
        "new_ids",
        "next_offset",
        "recorded_ms",
        "rejections",
        "snapshots",
    )

    def __init__(self, next_offset: int, recorded_ms: int) -> None:
        self.entries: list[Derived] = []
        self.rejections: list[Derived] = []
        self.snapshots: list[Derived] = []
        self.balances: dict[bytes, Balance] = {}
        #: The balances as Avro bodies.
        self.changelog: dict[bytes, bytes] = {}
        self.new_ids: dict[bytes, Known] = {}
        self.next_offset = next_offset
        self.recorded_ms = recorded_ms


def posted_id(wallet: bytes, transaction_id: bytes) -> bytes:
    """The key of the id index, of an id's 16 bytes; a wallet id holds no NUL, so no two pairs share a key."""
    return wallet + b"\0" + transaction_id
