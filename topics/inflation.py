"""Inflate the batches of a fetch in bounded memory, whatever a producer has compressed.

A batch of 1 MB on the wire can inflate to gigabytes. One that stays within a bound is inflated at once, into the same
memory each time, and unpacked by aiokafka's compiled reader. Any other is inflated piece by piece and read record by
record (`topics.records`), keeping only what a rejection or an entry may hold. So is what aiokafka cannot read:
headers that are not text, or bytes after the end of the compressed data.
"""

import gzip
import io
import mmap
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any, cast

import cramjam
import lz4.frame
import zstandard
from aiokafka.codec import snappy_decode
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.memory_records import MemoryRecords

from topics.records import Frame, Read, read_records

#: A batch is its offset, its length and that many bytes; the header ends before the records, which are compressed.
LENGTH_AT, OVERHEAD, HEADER = 8, 12, 61
#: The codec is in three bits of the attributes.
ATTRIBUTES_AT = 22
CODEC = 0b111
GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4
#: What a zstd producer may have its readers keep of the past. Nearly all keep less than the first; a decoder that
#: keeps more does not live longer than one run. Above the second no client inflates, and no broker takes it.
WINDOW_BYTES, LARGEST_WINDOW_BYTES = 8 << 20, 128 << 20
#: Bytes inflated at a time if not everything is kept.
PIECE_BYTES = 256 * 1024
#: Java's snappy streams: a header, then pieces with their lengths.
XERIAL, XERIAL_HEADER = b"\x82SNAPPY\0", 16

_length = struct.Struct(">i").unpack_from
#: What the codecs raise, each in its way: gzip the first three, lz4 the fourth.
_NOT_INFLATED = (OSError, EOFError, zlib.error, RuntimeError, cramjam.DecompressionError, zstandard.ZstdError)


class Bounds:
    """Limits of one consumer: for a batch, for a record, and for what one fetch returns (`left`).

    `appended` is set by the fetch: whether its last record has the broker's time, if it ended before the batches did.
    """

    def __init__(self, batch_bytes: int, record_bytes: int) -> None:
        self.batch_bytes = batch_bytes
        self.record_bytes = record_bytes
        self.left = batch_bytes
        self.appended = False
        self._scratch: memoryview | None = None

    def __call__(self, value: bytes | None) -> bytes | None:
        """Nothing: aiokafka takes the bounds for a deserializer, its one way to hand something to a reader."""
        return value

    @property
    def scratch(self) -> memoryview:
        """What a batch is inflated into: memory that is used again, and that costs nothing until it is written to."""
        if self._scratch is None:
            self._scratch = memoryview(mmap.mmap(-1, self.batch_bytes))
        return self._scratch


class Batches:
    """The batches in the bytes of one fetch, in place of aiokafka's MemoryRecords, whose methods it has."""

    #: Set by the reader before the first batch.
    bounds: Bounds
    partition: int

    def __init__(self, fetched: bytes) -> None:
        self._fetched = fetched
        self._records = MemoryRecords(fetched)
        self._start = self._end = 0
        self._batch: Any = None
        self._again = False
        self._compressed: Compressed | None = None

    def size_in_bytes(self) -> int:
        """All bytes, those of a batch that was cut off included."""
        return len(self._fetched)

    def has_next(self) -> bool:
        """Whether another whole batch follows."""
        return self._again or bool(self._records.has_next())

    def next_batch(self) -> Any:
        """The next one: aiokafka's own, unless it is compressed."""
        if self._again:
            self._again = False
            # Anew: aiokafka's is in the middle of its records.
            self._batch = DefaultRecordBatch(self._fetched[self._start : self._end])
            return self._bounded(careful=True)
        batch = self._batch = self._records.next_batch()
        start = self._start = self._end
        self._end = start + OVERHEAD + _length(self._fetched, start + LENGTH_AT)[0]
        # What is older than Kafka 0.11 is another class; no broker of today takes such any more.
        if isinstance(batch, DefaultRecordBatch) and batch.compression_type:
            return self._bounded(careful=False)
        self._compressed = None
        self.bounds.left -= self._end - start
        return batch

    def _bounded(self, *, careful: bool) -> "Compressed":
        raw = memoryview(self._fetched)[self._start : self._end]
        self._compressed = Compressed(self.partition, self._batch, raw, self.bounds, careful=careful)
        return self._compressed

    def read_carefully(self) -> bool:
        """Go back to the batch that is being read, which aiokafka cannot read; not if it is read record by record."""
        self._again = self._compressed is None or not self._compressed.careful
        return self._again

    @property
    def appended(self) -> bool:
        """Whether the records that are being read have the broker's time, not their producers'."""
        return bool(self._batch.timestamp_type)

    @property
    def holds_much(self) -> bool:
        """Whether what has been begun may not be kept for the next run."""
        return self._compressed is not None and self._compressed.holds_much


class Compressed:
    """One batch, with the methods that aiokafka expects; inflates nothing before its records are read."""

    def __init__(self, partition: int, batch: Any, raw: memoryview, bounds: Bounds, *, careful: bool) -> None:
        self.validate_crc = batch.validate_crc
        self.producer_id = batch.producer_id
        self.base_offset = batch.base_offset
        self.next_offset = batch.next_offset
        self.is_control_batch = batch.is_control_batch
        self.is_transactional = batch.is_transactional
        self.holds_much = False
        self._partition, self._batch, self._raw = partition, batch, raw
        self._bounds, self.careful = bounds, careful

    def __iter__(self) -> Iterator[Any]:
        plain = None if self.careful else self._inflated()
        if plain is None:
            return self._one_by_one()
        self._bounds.left -= len(plain)
        return iter(DefaultRecordBatch(plain))

    def _inflated(self) -> bytes | None:
        """The same batch as if it had come without compression; None where that is more than the bound."""
        codec, packed, scratch = self._batch.compression_type, self._raw[HEADER:], self._bounds.scratch
        try:
            if codec == SNAPPY:
                if HEADER + _snappy_size(packed) > len(scratch):
                    return None
                inflated = snappy_decode(packed)
                end = HEADER + len(inflated)
                scratch[HEADER:end] = inflated
            else:
                end = HEADER + _INTO[codec](packed, scratch[HEADER:])
        except cramjam.DecompressionError:
            # Too large, or broken: reading it one by one will tell.
            return None
        scratch[:HEADER] = self._raw[:HEADER]
        scratch[ATTRIBUTES_AT] &= ~CODEC & 0xFF
        return bytes(scratch[:end])

    def _one_by_one(self) -> Iterator[Read]:
        """The records, all but a piece of them let go of; aiokafka skips those that it has had.

        A decoder with a larger window is created only when one with the usual window fails.
        """
        codec, packed = self._batch.compression_type, self._raw[HEADER:]
        frame = Frame.of(self._partition, self._batch, self._raw)
        for window in (WINDOW_BYTES, LARGEST_WINDOW_BYTES):
            self.holds_much = window > WINDOW_BYTES or (codec == SNAPPY and not _is_xerial(packed))
            stream = io.BufferedReader(_opened(codec, packed, window), PIECE_BYTES)
            try:
                yield from read_records(stream, frame, self._bounds.record_bytes)
            except (*_NOT_INFLATED, CorruptRecordException) as failure:
                if window == LARGEST_WINDOW_BYTES:
                    raise CorruptRecordException(
                        f"the batch at {frame.base_offset} of partition {frame.partition} cannot be inflated: {failure}"
                    ) from None
            else:
                return


class _Blocks(io.RawIOBase):
    """The blocks of a snappy stream, one at a time; each says how much it is, and is at most 22 times its bytes."""

    def __init__(self, packed: memoryview) -> None:
        self._blocks = _blocks(packed)
        self._block = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        while not self._block:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._block = memoryview(bytes(cramjam.snappy.decompress_raw(block)))
        count = min(len(into), len(self._block))
        into[:count], self._block = self._block[:count], self._block[count:]
        return count


class _UpToItsEnd(io.RawIOBase):
    """A stream of any codec but snappy. Brokers take one with more behind its end, so what cannot be read ends it.

    Records that lack then are missed by who reads them; that no byte was changed, the batch's checksum says.
    """

    def __init__(self, file: Any) -> None:
        self._read1, self._begun = file.read1, False

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        try:
            # At most what one step inflates, so nothing is lost that came before an error.
            piece = self._read1(len(into))
        except _NOT_INFLATED:
            if not self._begun:
                raise
            return 0
        self._begun = True
        into[: len(piece)] = piece
        return len(piece)


def _is_xerial(packed: memoryview) -> bool:
    return len(packed) > XERIAL_HEADER and packed[: len(XERIAL)] == XERIAL


def _blocks(packed: memoryview) -> Iterator[memoryview]:
    if not _is_xerial(packed):
        yield packed
        return
    at = XERIAL_HEADER
    while at < len(packed):
        start = at + 4
        at = start + cast("int", _length(packed, at)[0])
        yield packed[start:at]


def _snappy_size(packed: memoryview) -> int:
    return sum(cramjam.snappy.decompress_raw_len(block) for block in _blocks(packed))


_INTO: dict[int, Callable[[memoryview, memoryview], int]] = {
    GZIP: cramjam.gzip.decompress_into,
    LZ4: cramjam.lz4.decompress_into,
    ZSTD: cramjam.zstd.decompress_into,
}


def _opened(codec: int, packed: memoryview, window: int) -> Any:
    """A batch's records as a file, of which no more is inflated than is read."""
    if codec == ZSTD:
        decoder = zstandard.ZstdDecompressor(max_window_size=window)
        return _UpToItsEnd(decoder.stream_reader(packed, read_across_frames=True))
    if codec == SNAPPY:
        return _Blocks(packed)
    file = io.BytesIO(packed)
    if codec == GZIP:
        return _UpToItsEnd(gzip.GzipFile(fileobj=file))
    return _UpToItsEnd(lz4.frame.LZ4FrameFile(file)) if codec == LZ4 else file
