"""The words of a fold: the records that come in, what it asks of the past, and what it puts out."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from schemas.records import Balance
from streams.wallet import Known

Headers = Sequence[tuple[str, bytes | None]]

#: librdkafka reads no record with more than 100,000 headers, and a rejection adds six.
MOST_HEADERS = 100_000 - 6
#: What one header takes in memory beside its bytes, about.
HEADER_OBJECTS_BYTES = 192


class Source(NamedTuple):
    """One record of the input as it came; `timestamp_ms` is the broker's, or the producer's in a history."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class Sizes(NamedTuple):
    """What a record measures, in bytes, and how many headers it has; `nul`: whether a name of these holds a NUL."""

    key: int
    value: int
    headers: int
    header_bytes: int
    nul: bool

    @classmethod
    def of(cls, record: Source) -> "Sizes":
        """Of any record, also of one whose bytes were let go of."""
        if isinstance(record, Unkept):
            return record.sizes
        _, _, key, value, headers = record
        size = sum(len(name.encode()) + len(content or b"") for name, content in headers)
        nul = any("\0" in name for name, _ in headers)
        return cls(len(key or b""), len(value or b""), len(headers), size, nul)

    @property
    def total(self) -> int:
        """What a pipeline's limit counts."""
        return self.key + self.value + self.header_bytes

    @property
    def held(self) -> int:
        """What the record takes in memory, about."""
        return self.total + HEADER_OBJECTS_BYTES * self.headers

    def exceed(self, most_bytes: int) -> bool:
        """Whether a record is TOO_LARGE for a pipeline with this limit."""
        return self.total > most_bytes or self.headers > MOST_HEADERS

    def __str__(self) -> str:
        return f"key {self.key}, value {self.value}, {self.headers} headers {self.header_bytes}"


class Unkept(Source):
    """A record that is TOO_LARGE and was let go of while it came in: where it stood, when, and what it measured."""

    sizes: Sizes

    @classmethod
    def of(cls, offset: int, timestamp_ms: int, sizes: Sizes) -> "Unkept":
        """A record of these sizes."""
        one = cls(offset, timestamp_ms, None, None, ())
        one.sizes = sizes
        return one


class Derived(NamedTuple):
    """One record for a derived topic."""

    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    headers: list[tuple[str, str | bytes | None]] | None = None


class Past(Protocol):
    """What a fold asks of the history of its partition, a batch at a time."""

    def balances(self, wallets: set[bytes]) -> dict[bytes, Balance]:
        """The newest balances of those of these wallets (UTF-8 of their ids) that have one."""

    def known(self, ids: list[bytes]) -> dict[bytes, Known]:
        """What was posted under those of these ids (see `posted_id`) that were posted."""


class Outputs:
    """What a run of records causes, held aside until its Kafka transaction has committed."""

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
