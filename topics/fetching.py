"""Replacements in aiokafka's fetcher: they produce records as the fold reads them, within a memory limit.

Pass `Bounds` to a consumer with `consumer_options`, and set `bounds.left` before each fetch. A run ends when that is
used up, between any two records; a started batch is kept for the next run.
"""

from collections.abc import Iterator
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException

from topics.inflation import Batches, Bounds
from topics.records import Read
from topics.source import READABLE_HEADERS, Sizes, Source, Unkept
from topics.versions import refuse_others

#: Discarded bytes cost only time, so they count this many times less than kept ones.
PASSING = 32
#: Partitions share what one answer of a broker brings.
ANSWER_BYTES = 16 * 1024 * 1024

_new = tuple.__new__


def consumer_options(bounds: Bounds, fetch_bytes: int | None = None) -> dict[str, Any]:
    """Constructor arguments of a consumer that keeps within these bounds.

    `fetch_bytes` is about how much to fetch of a partition; as much as the bounds allow unless said.
    """
    return {
        "value_deserializer": bounds,
        "max_partition_fetch_bytes": fetch_bytes or bounds.batch_bytes,
        "fetch_max_bytes": max(ANSWER_BYTES, bounds.batch_bytes),
    }


class SourceRecords(fetcher.PartitionRecords):  # type: ignore[misc]
    """Unpacks records to what the fold reads; aiokafka's ConsumerRecord costs 3 µs more each."""

    def __init__(self, tp: Any, records: Batches, *more: Any) -> None:
        super().__init__(tp, records, *more)
        records.bounds, records.partition = self._value_deserializer, tp.partition
        self._bounds: Bounds = self._value_deserializer
        self.came_in_bytes = records.size_in_bytes()
        # Not aiokafka's, which refers to this one: together they would keep the bytes of a fetch that is let go of
        # half-read until the next full collection, hours later.
        self._records_iterator = None

    def _consumer_record(self, _: Any, record: Any) -> Source:
        if record.headers or type(record) is Read:
            return self._counted(record)
        return _new(Source, (record.offset, record.timestamp, record.key, record.value, ()))

    def _counted(self, record: Any) -> Source:
        """One with headers, which are many small objects, or one that was read alone, so that nothing counts it yet."""
        source: Source = _new(
            Source, (record.offset, record.timestamp, record.key, record.value, record.headers)
        )
        sizes = record.sizes if type(record) is Read else Sizes.of(source)
        if sizes.exceed(self._bounds.record_bytes, READABLE_HEADERS):
            self._bounds.left -= sizes.total // PASSING
            return Unkept.of(source.offset, source.timestamp_ms, sizes)
        self._bounds.left -= sizes.held
        return source

    def take(self, unpacked: Iterator[Source], most: int | None) -> tuple[list[Source], bool]:
        """The next of its unpacked records that there is room for, and whether these are all."""
        bounds, taken = self._bounds, list[Source]()
        if bounds.left <= 0:
            return taken, False
        for record in unpacked:
            taken.append(record)
            if len(taken) == most or bounds.left <= 0:
                bounds.appended = self._records.appended
                # Drop a decoder that holds much memory, and fetch the batch again.
                return taken, self._records.holds_much
        return taken, True

    def unpacked(self) -> Iterator[Source]:
        """Its records, one by one."""
        while True:
            try:
                yield from super()._unpack_records()
            except (UnicodeDecodeError, CorruptRecordException):
                if not self._records.read_carefully():
                    raise
            else:
                return


class FetchResult(fetcher.FetchResult):  # type: ignore[misc]
    """Returns what a partition's fetch brought in pieces that are also bounded in bytes."""

    _partition_records: SourceRecords | None
    #: Its records, as far as they were not taken.
    _unpacked: Iterator[Source] | None = None

    def calculate_backoff(self) -> float:
        """Always 0: aiokafka's own makes every partition wait for one whose records were not taken yet."""
        return 0.0

    def getall(self, max_records: int | None = None) -> list[Source]:
        """Replaces aiokafka's, which counts records only."""
        if not self.check_assignment(self._topic_partition) or self._partition_records is None:
            return []
        self._unpacked = self._unpacked or self._partition_records.unpacked()
        taken, all_of_it = self._partition_records.take(self._unpacked, max_records)
        self._update_position()
        if all_of_it:
            self._partition_records = None
        return taken

    @property
    def came_in_bytes(self) -> int:
        """What the broker's answer had of it."""
        return 0 if self._partition_records is None else self._partition_records.came_in_bytes


refuse_others("aiokafka")
# aiokafka names these classes in one place and offers no other way in; it has no other user in this process.
fetcher.MemoryRecords = Batches
fetcher.PartitionRecords = SourceRecords
fetcher.FetchResult = FetchResult
