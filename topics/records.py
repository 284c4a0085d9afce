"""Records of a batch read one by one, for batches that are not unpacked as a whole (`topics.inflation`).

A record (KIP-98) is its length, attributes, how far its time and its offset are from the batch's, key, value and
headers; numbers are zigzag varints. Of a record that is too large for the pipeline nothing is kept but what it
measures. Headers with a name that is not UTF-8 are taken as none: Kafka's protocol forbids them, brokers let them in,
and no Python client can read them.
"""

import codecs
import re
import struct
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

from aiokafka.errors import CorruptRecordException

from config.logs import EventLog
from topics.source import READABLE_HEADERS, Headers, Sizes

log = EventLog("topics.records")

PIECE_BYTES = 64 * 1024
VARINT_BYTES = 10
COUNT_AT = 57

_utf8 = codecs.getincrementaldecoder("utf-8")
#: What `surrogateescape` makes of bytes that are not UTF-8, and UTF-8 never holds.
_escaped = re.compile("[\udc80-\udcff]").search
_count = struct.Struct(">i").unpack_from


class Frame(NamedTuple):
    """What the header of a batch says about its records."""

    partition: int
    base_offset: int
    first_timestamp: int
    #: The broker's time, for all of them; None where producers' times are kept.
    appended: int | None
    records: int

    @classmethod
    def of(cls, partition: int, batch: Any, raw: memoryview) -> "Frame":
        """Of an aiokafka batch and its bytes."""
        appended = batch.max_timestamp if batch.timestamp_type == 1 else None
        return cls(partition, batch.base_offset, batch.first_timestamp, appended, _count(raw, COUNT_AT)[0])


class Read(NamedTuple):
    """A record under the names that aiokafka's have, and what it measures; one that is too large without its bytes."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    sizes: Sizes


def read_records(stream: IO[bytes], frame: Frame, most_bytes: int) -> Iterator[Read]:
    """The records of a batch in their order; those of more than `most_bytes` without their bytes."""
    records = _Records(stream, frame, most_bytes)
    for _ in range(frame.records):
        yield records.next()


class _Records:
    """Takes records from a stream: each field if there is room for it, else only its size."""

    def __init__(self, stream: IO[bytes], frame: Frame, most_bytes: int) -> None:
        self._take, self._frame, self._most_bytes = stream.read, frame, most_bytes

    def next(self) -> Read:
        """The next one."""
        frame = self._frame
        self._varint()  # its length, which is that of its fields
        self._exactly(1)  # attributes: there are none yet
        since, behind = self._varint(), self._varint()
        offset = frame.base_offset + behind
        timestamp = frame.first_timestamp + since if frame.appended is None else frame.appended
        key_bytes, key = self._field(self._most_bytes)
        value_bytes, value = self._field(self._most_bytes - key_bytes)
        count, header_bytes, nul, headers = self._headers(self._most_bytes - key_bytes - value_bytes)
        if headers is None:
            log.warning("headers_unreadable", partition=frame.partition, offset=offset)
            count, header_bytes, nul, headers = 0, 0, False, []
        sizes = Sizes(key_bytes, value_bytes, count, header_bytes, nul)
        if sizes.exceed(self._most_bytes, READABLE_HEADERS):
            return Read(offset, timestamp, None, None, (), sizes)
        return Read(offset, timestamp, key, value, headers, sizes)

    def _headers(self, room: int) -> tuple[int, int, bool, list[tuple[str, bytes | None]] | None]:
        """How many headers, their bytes, whether a name holds a NUL, and those that there is room for.

        None for these where a name is not UTF-8.
        """
        headers: list[tuple[str, bytes | None]] = []
        legal, nul, size, count = True, False, 0, self._varint()
        for _ in range(count):
            name_bytes, name = self._name()
            value_bytes, value = self._field(room - size - name_bytes)
            size += name_bytes + value_bytes
            if name is None:
                legal = False
                continue
            nul = nul or "\0" in name
            if size <= room and len(headers) < READABLE_HEADERS:
                headers.append((name, value))
        return count, size, nul, headers if legal else None

    def _name(self) -> tuple[int, str | None]:
        """A header's name and its bytes: None where it is not UTF-8; where it is too long to keep, only its NUL."""
        size = self._varint()
        if size <= self._most_bytes:
            try:
                return size, self._exactly(size).decode()
            except UnicodeDecodeError:
                return size, None
        decoder, nul, legal = _utf8("surrogateescape"), False, True
        for piece in self._pieces(size):
            text = decoder.decode(piece)
            nul, legal = nul or "\0" in text, legal and not _escaped(text)
        legal = legal and not decoder.decode(b"", final=True)
        return size, ("\0" if nul else "") if legal else None

    def _field(self, room: int) -> tuple[int, bytes | None]:
        """A field that may be null, and its size; nothing of one that there is no room for."""
        size = self._varint()
        if size < 0:
            return 0, None
        if size <= room:
            return size, self._exactly(size)
        for _ in self._pieces(size):
            pass
        return size, None

    def _pieces(self, size: int) -> Iterator[bytes]:
        for at in range(0, size, PIECE_BYTES):
            yield self._exactly(min(PIECE_BYTES, size - at))

    def _exactly(self, size: int) -> bytes:
        taken = self._take(size)
        if len(taken) < size:
            at = f"the batch at {self._frame.base_offset} of partition {self._frame.partition}"
            raise CorruptRecordException(f"{at} ends within a record")
        return taken

    def _varint(self) -> int:
        number = shift = 0
        for _ in range(VARINT_BYTES):
            byte = self._exactly(1)[0]
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return (number >> 1) ^ -(number & 1)
            shift += 7
        raise CorruptRecordException("a number of more than 64 bits in a batch")
