"""Batches of every codec, small and huge, read as they were sent, in memory that has a bound."""

import gc
import gzip
import random
import struct
import tracemalloc
import weakref
from collections.abc import Callable, Iterable
from functools import partial
from types import SimpleNamespace
from typing import Any

import cramjam
import pytest
import zstandard
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import TopicPartition

from topics.fetching import FetchResult, SourceRecords
from topics.inflation import GZIP, HEADER, LARGEST_WINDOW_BYTES, LZ4, SNAPPY, ZSTD, Batches, Bounds
from topics.source import READABLE_HEADERS, Headers, Sizes, Source, Unkept

MOST_BYTES, BATCH_BYTES = 2_048, 65_536
CODECS = {"none": 0, "gzip": GZIP, "snappy": SNAPPY, "lz4": LZ4, "zstd": ZSTD}
#: Of so much nothing like it may ever be held.
HUGE, LITTLE = 40_000_000, 4_000_000

PACK: dict[int, Callable[[bytes], Any]] = {
    GZIP: gzip.compress,
    LZ4: cramjam.lz4.compress,
    ZSTD: zstandard.compress,
}

Sent = tuple[bytes | None, bytes | None, Headers]


def batch(records: Iterable[Sent], codec: int = 0, base: int = 0) -> bytes:
    """As a producer sends it, at offset `base`."""
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1 << 30)
    for at, (key, value, headers) in enumerate(records):
        builder.append(at, 1_000 + at, key, value, [*headers])
    return with_crc(struct.pack(">q", base) + bytes(builder.build())[8:])


def packed_as(plain: bytes, codec: int, packed: bytes) -> bytes:
    """A batch that was built without compression, with its records packed by other means."""
    attributes = struct.pack(">h", codec)
    whole = plain[:8] + struct.pack(">i", HEADER - 12 + len(packed)) + plain[12:21] + attributes
    return with_crc(whole + plain[23:HEADER] + packed)


def with_crc(whole: bytes) -> bytes:
    return whole[:17] + struct.pack(">I", calc_crc32c(whole[21:])) + whole[21:]


def reader(fetched: bytes, bounds: Bounds, start: int = 0) -> SourceRecords:
    return SourceRecords(TopicPartition("t", 3), Batches(fetched), [], start, None, bounds, True, 1)


def read(fetched: bytes, most: int | None = None) -> list[list[Source]]:
    """What comes of the bytes of a fetch, run by run; a batch that is given up is fetched again."""
    bounds, runs, done = Bounds(BATCH_BYTES, MOST_BYTES), list[list[Source]](), False
    records = reader(fetched, bounds)
    unpacked = records.unpacked()
    while not done:
        bounds.left = BATCH_BYTES
        run, done = records.take(unpacked, most)
        runs.append(run)
        if done and run and records._records.holds_much:
            records, done = reader(fetched, bounds, run[-1].offset + 1), False
            unpacked = records.unpacked()
    return runs


def flat(runs: list[list[Source]]) -> list[Source]:
    return [record for run in runs for record in run]


def assert_read(found: list[Source], sent: list[Sent]) -> None:
    assert [(one.offset, one.timestamp_ms) for one in found] == [(at, 1_000 + at) for at in range(len(sent))]
    for one, (key, value, headers) in zip(found, sent, strict=True):
        sizes = Sizes.of(Source(0, 0, key, value, headers))
        if isinstance(one, Unkept):
            assert sizes.exceed(MOST_BYTES)
            assert tuple(one.sizes) == tuple(sizes)
            assert (one.key, one.value, one.headers) == (None, None, ())
        else:
            assert (one.key, one.value, [*one.headers]) == (key, value, [*headers])


def anything(chance: random.Random) -> Sent:
    """A record that is mostly small; some are too large, by their value or by their headers."""
    size = chance.choice([0, 1, 10, 200, 1_900, 2_100, 3, 3, 3, 50_000])
    value = None if chance.random() < 0.1 else bytes([chance.randrange(256)]) * size
    key = None if chance.random() < 0.1 else b"key-%d" % chance.randrange(99)
    names = ("plain", "nul\0", "ünï", "long" * chance.choice([1, 1, 1, 700]))
    headers = [
        (chance.choice(names), None if chance.random() < 0.3 else bytes(chance.randrange(30)))
        for _ in range(chance.choice([0, 0, 0, 1, 3, 80]))
    ]
    return key, value, headers


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_a_fetch_that_is_let_go_of_half_read_is_gone_at_once(codec: int) -> None:
    state = SimpleNamespace(paused=False, position=0)
    state.consumed_to = partial(setattr, state, "position")
    assignment = SimpleNamespace(active=True, state_value=lambda _: state)
    records = reader(batch([(b"key", b"value", ())] * 9, codec), Bounds(BATCH_BYTES, MOST_BYTES))
    result = FetchResult(TopicPartition("t", 3), assignment=assignment, partition_records=records, backoff=0)
    assert [one.offset for one in result.getall(2)] == [0, 1]
    assert [one.offset for one in result.getall(3)] == [2, 3, 4]
    gone = weakref.ref(records)
    gc.disable()
    try:
        del records, result
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
@pytest.mark.parametrize("count", [1, 7, 400])
@pytest.mark.parametrize("most", [None, 11])
def test_batches_are_read_as_they_were_sent(codec: int, count: int, most: int | None) -> None:
    sent = [anything(chance) for chance in map(random.Random, range(count))]
    runs = read(batch(sent, codec), most)
    assert_read(flat(runs), sent)
    assert all(len(run) <= (most or count) for run in runs)


@pytest.mark.parametrize("codec", [GZIP, LZ4, ZSTD], ids=["gzip", "lz4", "zstd"])
def test_a_batch_that_inflates_to_more_than_memory_is_for_is_read_in_pieces(codec: int) -> None:
    sent: list[Sent] = [(b"k", b"before", ()), (b"k", bytes(HUGE), ()), (b"k", b"after", ())]
    fetched = batch(sent, codec)
    tracemalloc.start()
    try:
        found = flat(read(fetched))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < LITTLE
    assert [one.value for one in found] == [b"before", None, b"after"]
    assert isinstance(found[1], Unkept)
    assert found[1].sizes == Sizes(1, HUGE, 0, 0, nul=False)


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_a_run_ends_where_its_bytes_are_used_up(codec: int) -> None:
    sent: list[Sent] = [(b"k", bytes(2_000), ()) for _ in range(1_000)]
    fetched = b"".join(batch(sent[at : at + 20], codec, at) for at in range(0, 1_000, 20))
    runs = read(fetched)
    assert [one.offset for one in flat(runs)] == [*range(1_000)]
    assert max(len(run) for run in runs) * 2_000 <= 2 * BATCH_BYTES
    runs = read(batch(sent, codec))
    assert [one.offset for one in flat(runs)] == [*range(1_000)]


def test_headers_count_for_what_they_take_in_memory() -> None:
    sent: list[Sent] = [(b"k", b"", [("h", b"")] * 300) for _ in range(100)]
    runs = read(batch(sent))
    assert_read(flat(runs), sent)
    assert max(map(len, runs)) <= 3


@pytest.mark.parametrize("codec", [0, ZSTD], ids=["none", "zstd"])
def test_a_record_with_more_headers_than_anybody_reads_is_let_go_of(codec: int) -> None:
    sent: list[Sent] = [(b"k", b"v", [("", None)] * (READABLE_HEADERS + 1)), (b"k", b"v", ())]
    first, second = flat(read(batch(sent, codec)))
    assert isinstance(first, Unkept)
    assert first.sizes == Sizes(1, 1, READABLE_HEADERS + 1, 0, nul=False)
    assert second.value == b"v"


@pytest.mark.parametrize("codec", [0, GZIP, LZ4, ZSTD], ids=["none", "gzip", "lz4", "zstd"])
@pytest.mark.parametrize("length", [4, 3_000, 200_000])
def test_headers_whose_name_is_not_utf8_are_taken_as_none(codec: int, length: int) -> None:
    good: Sent = (b"k", b"v", [("trace", b"1")])
    sent = [good, (b"k", b"bad", [("trace", b"1"), ("?" * length, bytes(9))]), good, good]
    plain = batch(sent).replace(b"?" * length, b"?" * (length - 1) + b"\xff")
    fetched = with_crc(plain)
    if codec:
        fetched = packed_as(plain, codec, bytes(PACK[codec](plain[HEADER:])))
    sent[1] = (b"k", b"bad", ())
    assert_read(flat(read(fetched)), sent)


def test_what_producers_may_do_within_a_codec_is_read() -> None:
    sent: list[Sent] = [(b"k", bytes([at % 256]) * 1_000, ()) for at in range(2_000)]
    plain = batch(sent)
    records = plain[HEADER:]
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=27, enable_ldm=True)
    wide = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    ways = [
        (ZSTD, wide.compress(records) + wide.flush()),
        (SNAPPY, bytes(cramjam.snappy.compress_raw(records))),
    ]
    assert zstandard.get_frame_parameters(ways[0][1]).window_size == LARGEST_WINDOW_BYTES
    for codec, packed in ways:
        assert_read(flat(read(packed_as(plain, codec, packed))), sent)


@pytest.mark.parametrize("codec", [GZIP, SNAPPY, LZ4, ZSTD], ids=["gzip", "snappy", "lz4", "zstd"])
@pytest.mark.parametrize("count", [3, 2_000])
def test_a_batch_that_cannot_be_inflated_is_told_by_its_place(codec: int, count: int) -> None:
    """Not as whatever its codec raises, which would be a traceback that names nothing."""
    sent: list[Sent] = [(b"k", bytes(100), ())] * count
    plain = batch(sent, base=70)
    packed = bytes({**PACK, SNAPPY: cramjam.snappy.compress_raw}[codec](plain[HEADER:]))
    with pytest.raises(CorruptRecordException, match="the batch at 70 of partition 3 "):
        read(packed_as(plain, codec, packed[: len(packed) // 2]))


@pytest.mark.parametrize("behind", [b"", b"garbage", None], ids=["nothing", "garbage", "a second frame"])
@pytest.mark.parametrize("count", [3, 2_000], ids=["small", "large"])
@pytest.mark.parametrize("codec", [GZIP, LZ4, ZSTD], ids=["gzip", "lz4", "zstd"])
def test_what_stands_behind_the_end_of_a_batch_stops_nobody(
    codec: int, count: int, behind: bytes | None
) -> None:
    """Brokers take such a batch, so it must not stop its partition for good."""
    sent: list[Sent] = [(b"k", bytes([at % 256]) * 100, ()) for at in range(count)]
    plain = batch(sent)
    tail = bytes(PACK[codec](b"more" * 10)) if behind is None else behind
    fetched = packed_as(plain, codec, bytes(PACK[codec](plain[HEADER:])) + tail)
    assert_read(flat(read(fetched)), sent)


@pytest.mark.parametrize("count", [3, 2_000], ids=["small", "large"])
@pytest.mark.parametrize("codec", [GZIP, LZ4, ZSTD], ids=["gzip", "lz4", "zstd"])
def test_a_batch_may_be_compressed_in_several_pieces(codec: int, count: int) -> None:
    sent: list[Sent] = [(b"k", bytes(100), ()) for _ in range(count)]
    plain = batch(sent)
    middle = HEADER + (len(plain) - HEADER) // 2
    packed = b"".join(bytes(PACK[codec](piece)) for piece in (plain[HEADER:middle], plain[middle:]))
    assert_read(flat(read(packed_as(plain, codec, packed))), sent)
