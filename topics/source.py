"""One record of a topic as it came, and its sizes."""

from collections.abc import Sequence
from typing import NamedTuple

Headers = Sequence[tuple[str, bytes | None]]

#: librdkafka reads no record with more than 100,000 headers, and a rejection adds six.
READABLE_HEADERS = 100_000
MOST_HEADERS = READABLE_HEADERS - 6
#: About how much memory one header takes in addition to its bytes.
HEADER_OBJECTS_BYTES = 192


class Source(NamedTuple):
    """One record of the input as it came; `timestamp_ms` is the broker's, or the producer's in a history."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class Sizes(NamedTuple):
    """A record's sizes in bytes, and its number of headers; `nul`: whether a header name holds a NUL."""

    key: int
    value: int
    headers: int
    header_bytes: int
    nul: bool

    @classmethod
    def of(cls, record: Source) -> "Sizes":
        """The sizes of any record, also of one whose bytes were discarded."""
        if isinstance(record, Unkept):
            return record.sizes
        _, _, key, value, headers = record
        size = sum(len(name.encode()) + len(content or b"") for name, content in headers)
        nul = any("\0" in name for name, _ in headers)
        return cls(len(key or b""), len(value or b""), len(headers), size, nul)

    @property
    def total(self) -> int:
        """The size that a pipeline's limit applies to."""
        return self.key + self.value + self.header_bytes

    @property
    def held(self) -> int:
        """About how much memory the record takes."""
        return self.total + HEADER_OBJECTS_BYTES * self.headers

    def exceed(self, most_bytes: int, most_headers: int = MOST_HEADERS) -> bool:
        """Whether a record is TOO_LARGE for a pipeline with this limit."""
        return self.total > most_bytes or self.headers > most_headers

    def __str__(self) -> str:
        return f"key {self.key}, value {self.value}, {self.headers} headers {self.header_bytes}"


class Unkept(Source):
    """A record that is TOO_LARGE and was discarded while it was read: offset, time and sizes."""

    sizes: Sizes

    @classmethod
    def of(cls, offset: int, timestamp_ms: int, sizes: Sizes) -> "Unkept":
        """A record of these sizes."""
        one = cls(offset, timestamp_ms, None, None, ())
        one.sizes = sizes
        return one
