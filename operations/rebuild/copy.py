"""Copy the input into a topic with another number of partitions: with its times, exactly once, resumable.

Each batch is one Kafka transaction: the records, and the offsets of the live input up to which they go, under the
group `<shadow>.copy`. So a copy that was killed continues where its last transaction ended. The order is by time,
keeping each partition's: recorded_at of an entry is its record's timestamp, or the partition's newest one if that is
later, so in any other order a record could get a later one than it had. A partition that was read to its end counts
as complete up to the moment just before we asked for that end.
"""

import time
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Generic, NamedTuple, Self, TypeVar

from confluent_kafka import TopicPartition, murmur2

from config.errors import Refused
from config.logs import EventLog
from config.settings import LARGEST_RECORD_BYTES
from operations.rebuild.input import list_schemas
from operations.rebuild.place import Rebuild
from topics import group_offsets
from topics.cluster import all_there, describe, input_bytes
from topics.exactly_once import ExactlyOnce, Outgoing
from topics.incoming import Incoming
from topics.names import GROWTH_BYTES
from topics.source import Sizes, Source

T = TypeVar("T")

#: It is not known what a partition holds next.
UNKNOWN = None
#: Most records in one transaction, and about how many bytes.
BATCH_RECORDS, BATCH_BYTES = 20_000, 8 * 1024 * 1024
CONSUMED = 2_000
READ_WAIT_S = 0.1
#: A partition with this many records or bytes waiting for their turn is not read further.
WAITING, WAITING_BYTES = 20_000, 8 * 1024 * 1024
#: Stands in the copy for a record that its topic cannot take: zeros, larger than any pipeline's limit.
STAND_IN = bytes(LARGEST_RECORD_BYTES + 1)
#: Clock difference between brokers, and to us, that does not change the order of records.
CLOCKS_DIFFER_MS = 2_000
LOOK_EVERY_S = 0.5
#: Commit the offsets again after this long: Kafka forgets them after a week without a commit.
TELL_EVERY_S = 3_600.0

log = EventLog("operations.rebuild")


class Held(NamedTuple, Generic[T]):
    """A record that waits for its turn: at this time, from this partition."""

    order_ms: int
    partition: int
    record: T


Moved = Held[Source]
_order = attrgetter("order_ms")


class Merge(Generic[T]):
    """Merges partitions by time, a stretch at a time.

    Within a partition the offset order stays, even if a clock went back: such a record counts as having its
    predecessor's time.
    """

    def __init__(self, partitions: int) -> None:
        self._held: list[list[Held[T]]] = [[] for _ in range(partitions)]
        self._highest: list[int] = [-(2**63)] * partitions

    def add(self, partition: int, timestamp_ms: int, record: T) -> None:
        """Add the next record of a partition."""
        self._highest[partition] = max(self._highest[partition], timestamp_ms)
        self._held[partition].append(Held(self._highest[partition], partition, record))

    def waiting(self, partition: int) -> int:
        """How many records of a partition are waiting."""
        return len(self._held[partition])

    def first(self, partition: int) -> T | None:
        """The oldest waiting record of a partition, or None."""
        held = self._held[partition]
        return held[0].record if held else None

    def ready(self, complete_to: Sequence[float | None]) -> list[Held[T]]:
        """The records whose turn it is, in order; they are removed.

        `complete_to` gives for each partition the time up to which nothing more can come, if known. If it is
        UNKNOWN, only nothing older than its newest waiting record can come.
        """
        limit = min(
            known if known is not UNKNOWN else held[-1].order_ms if held else float("-inf")
            for known, held in zip(complete_to, self._held, strict=True)
        )
        found: list[Held[T]] = []
        for partition, held in enumerate(self._held):
            end = bisect_right(held, limit, key=_order)
            found += held[:end]
            self._held[partition] = held[end:]
        found.sort(key=_order)  # stable, and fast for a few sorted runs
        return found


def placed(key: bytes | None, partition: int, before: int, after: int) -> int:
    """The partition among `after` of a record that was in this one among `before`.

    The copy must not change what a record becomes. So a misrouted record goes to a partition where its key does not
    belong either, if there is more than one; a record without a key belongs nowhere.
    """
    if not key:
        return partition % after
    home = murmur2(key, after)
    return home if murmur2(key, before) == partition else (home + 1) % after


def copyable(record: Source, most_bytes: int, limit_bytes: int) -> bool:
    """Whether a record becomes in the copy what it is in the input.

    The topic takes `most_bytes`. A header's name is copied up to U+0000: what is TOO_LARGE only with the rest of
    such names must not come below the shadow's `limit_bytes`.
    """
    sizes = Sizes.of(record)
    fits = not sizes.exceed(most_bytes)
    if not fits or not sizes.nul:
        return fits
    cut = record._replace(headers=[(name.partition("\0")[0], content) for name, content in record.headers])
    return sizes.exceed(limit_bytes) == Sizes.of(cut).exceed(limit_bytes)


class Copy:
    """One run of the copy; `step` does a bounded part of it."""

    def __init__(self, place: Rebuild) -> None:
        self._place = place
        self._before, self._after = place.live.partitions, place.shadow.partitions
        self._from, self._to = place.input, place.shadow.input or ""
        settings = place.copying
        self._writer = ExactlyOnce(
            settings,
            settings.group,
            settings.group,
            taken_over=f"another `wallet rebuild` is copying to {self._to}: let it finish",
            again="run it again to continue",
            linger_ms=20,
            queue_buffering_max_messages=4 * BATCH_RECORDS,
            message_max_bytes=1_000_000_000,  # the topic's own limit decides
        )
        self._most_bytes = self._largest()
        self._incoming = Incoming(settings, self._from, self._most_bytes)
        self._by_time = describe(place.client, [self._from])[self._from].on_brokers_time
        self._merge: Merge[Source] = Merge(self._before)
        #: Bytes of the records that wait for their turn, by partition.
        self._waiting_bytes = [0] * self._before
        self._read: list[int] = []
        self._ends: dict[int, int] = {}
        self._asked_ms, self._asked_s, self._told_s = 0.0, 0.0, 0.0
        self._listed: set[int] = set()
        #: The offsets of the live input up to which it is copied.
        self.copied: list[int] = []

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        self._incoming.close()
        self._writer.close()

    def step(self, *, last: bool = False) -> int:
        """Read some records and copy those whose turn it is; returns how many were copied.

        `last`: nobody writes to the input any more, so its last records need not wait for others.
        Raises NotReachable or Stopped; the next run copies what was not committed.
        """
        for partition, (records, position) in self._incoming.fetch(
            self._wanted(), CONSUMED, READ_WAIT_S
        ).items():
            for record in records:
                self._take(partition, record)
            self._read[partition] = max(self._read[partition], position)
        if time.monotonic() - self._asked_s >= LOOK_EVERY_S:
            # 1. The time, 2. then the ends, open transactions included: nothing older can come after these.
            self._asked_ms, self._asked_s = time.time() * 1_000, time.monotonic()
            asked = [(self._from, at) for at in range(self._before)]
            self._ends = {at: end for (_, at), end in all_there(self._place.client, asked).items()}
        held = self._merge.ready([self._complete_to(at, last=last) for at in range(self._before)])
        for one in held:
            self._waiting_bytes[one.partition] -= Sizes.of(one.record).held
        if held and list_schemas(self._place, self._listed):
            log.info("schemas_listed", input=self._to)
        for batch in _batches(held):
            self._write(batch)
        if time.monotonic() - self._told_s > TELL_EVERY_S:
            self._write([])
        return len(held)

    def has_all_before(self, ends: Mapping[int, int]) -> bool:
        """Whether every record before these offsets of the input is copied; transaction marks do not count."""
        return all(self._has_all_before(at, end) for at, end in ends.items())

    def _has_all_before(self, partition: int, end: int) -> bool:
        waiting = self._merge.first(partition)
        return self._read[partition] >= end and (waiting is None or waiting.offset >= end)

    def _open(self) -> None:
        """1. End the transaction that an earlier run left open, 2. read its offsets, 3. continue there."""
        self._writer.open()
        found = group_offsets.offsets(self._place.copying, self._from, range(self._before))
        committed = [found[at] for at in range(self._before)]
        if None in committed:
            ends = all_there(self._place.client, [(self._to, at) for at in range(self._after)])
            if any(ends.values()):
                raise Refused(
                    f"the group {self._place.copying.group} has lost its offsets (Kafka forgets them after a week "
                    f"without a copy), so how far {self._to} is copied is unknown: discard the shadow, start again"
                )
        self.copied = [offset or 0 for offset in committed]
        self._read = [*self.copied]
        # Before the first record, so that a topic with records always has offsets.
        self._write([])
        self._incoming.assign(dict(enumerate(self.copied)))

    def _largest(self) -> int:
        """The largest record that is copied as it is; larger ones are TOO_LARGE in both pipelines."""
        taken = input_bytes(self._place.shadow, describe(self._place.client, [self._to])) or 0
        return max(taken - GROWTH_BYTES, self._place.shadow.max_record_bytes)

    def _take(self, partition: int, record: Source) -> None:
        if not record.timestamp_ms or record.timestamp_ms <= 0:
            raise Refused(
                f"{self._from} partition {partition} offset {record.offset} has no timestamp that a copy could keep: "
                "rebuild with the same number of partitions"
            )
        if not copyable(record, self._most_bytes, self._place.shadow.max_record_bytes):
            sizes = str(Sizes.of(record))
            log.warning("too_large_to_copy", partition=partition, offset=record.offset, sizes=sizes)
            record = Source(record.offset, record.timestamp_ms, None, STAND_IN, ())
        self._merge.add(partition, record.timestamp_ms, record)
        self._waiting_bytes[partition] += Sizes.of(record).held

    def _wanted(self) -> list[int]:
        """The partitions to read: those not far ahead of the others in time, to bound memory."""
        return [
            at
            for at in range(self._before)
            if self._merge.waiting(at) <= WAITING and self._waiting_bytes[at] <= WAITING_BYTES
        ]

    def _complete_to(self, at: int, *, last: bool) -> float | None:
        if at not in self._ends or self._read[at] < self._ends[at]:
            return UNKNOWN
        # With producers' own times, we cannot know what may still come.
        return self._asked_ms - CLOCKS_DIFFER_MS if self._by_time and not last else float("inf")

    def _write(self, batch: Sequence[Moved]) -> None:
        """One transaction: the records, and the offsets up to which the input is copied."""
        copied = [*self.copied]
        for _, partition, record in batch:
            copied[partition] = record.offset + 1
        offsets = [TopicPartition(self._from, at, offset) for at, offset in enumerate(copied)]
        self._writer.write(self._to, map(self._outgoing, batch), offsets)
        self.copied, self._told_s = copied, time.monotonic()

    def _outgoing(self, one: Moved) -> Outgoing:
        _, timestamp_ms, key, value, headers = one.record
        to = placed(key, one.partition, self._before, self._after)
        return value, key, to, timestamp_ms, headers


def _batches(held: list[Moved]) -> list[list[Moved]]:
    batches: list[list[Moved]] = []
    size = BATCH_BYTES
    for one in held:
        if size >= BATCH_BYTES or len(batches[-1]) >= BATCH_RECORDS:
            batches.append([])
            size = 0
        batches[-1].append(one)
        size += Sizes.of(one.record).held
    return batches
