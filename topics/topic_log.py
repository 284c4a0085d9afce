"""Read one topic without joining a group: its ends, its records in bulk, and the place of a time.

The place of a time in a partition is before the first record at or after that time. Kafka's lookup cannot find it: the
log also holds transaction marks with the broker's clock, and among records with older dates it returns one of those.
So its answer is only where the search starts.
"""

import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from config.errors import NotReachable
from config.settings import Settings
from topics.causes import because
from topics.clients import Value, looking
from topics.cluster import passes
from topics.consuming import consume, ready
from topics.names import Topics
from topics.tail import newest

ASK_S = 10.0
#: Entries to take from librdkafka at a time, and seconds to wait for them.
SLICE_RECORDS = 10_000
SLICE_WAIT_S = 0.05


class Log(NamedTuple):
    """Begin and end of a partition; `stable` is how far it can be read, read-committed."""

    begin: int
    stable: int
    end: int


class TopicLog:
    """One topic, read by partition from known offsets. Not thread-safe.

    `group` is named to Kafka for its rights, but never joined. Raises NotReachable if Kafka does not answer in time.
    """

    def __init__(self, settings: Settings, topic: str, group: str | None = None) -> None:
        self.topic, self.partitions = topic, settings.partitions
        self._settings, self._group = settings, group or f"{settings.prefix}.verify"
        self._open: list[Consumer] = []
        self._stall_s = settings.read_stall_s
        # The ledger's times never go back. Elsewhere they may: in the input what its senders say, in rejections what
        # their sources had, in snapshots the close of an earlier day after the newest entry's.
        self._in_order = topic == Topics.of(settings).ledger
        self._upstreams = Topics.of(settings).is_upstreams(topic)

    def close(self) -> None:
        """Close the connections."""
        for consumer in self._open:
            consumer.close()

    @cached_property
    def _one(self) -> Consumer:
        return self._reader(fetch_message_max_bytes=65_536, queued_min_messages=1)

    @cached_property
    def _many(self) -> Consumer:
        # Upstream's records may inflate to a multiple of what is fetched.
        size: dict[str, Value] = {} if self._upstreams else {"fetch_message_max_bytes": 8 * 1024 * 1024}
        return self._reader(**size, **ready(upstreams=self._upstreams))

    @cached_property
    def _all(self) -> Consumer:
        return self._reader(isolation_level="read_uncommitted")

    def _reader(self, **more: Value) -> Consumer:
        consumer = looking(self._settings, self._group, fetch_wait_max_ms=10, **more)
        self._open.append(consumer)
        return consumer

    def log(self, partition: int) -> Log:
        """The partition's ends now; asks for `stable` first, so that stable == end means no open transaction."""
        begin, end = self._watermarks(self._all, partition)
        return Log(begin, self._watermarks(self._one, partition)[1], end)

    def first_from(self, partition: int, offset: int, end: int) -> Message | None:
        """The first committed record from `offset` to `end` (excluded), or None."""
        if offset >= end:
            return None
        self._one.assign([TopicPartition(self.topic, partition, offset)])
        deadline = time.monotonic() + self._stall_s
        while time.monotonic() < deadline:
            message = self._one.poll(1.0)
            if message is None:
                continue
            if not self._is_end(message, partition, end):
                return message if message.error() is None and (message.offset() or 0) < end else None
            return None
        raise self._away(partition, f"nothing came from offset {offset} on")

    def first_at(self, partition: int, at_ms: int, begin: int, end: int) -> Message | None:
        """The first record from `begin` on with a timestamp of `at_ms` or later, or None.

        Starts where the broker says: in the ledger with a binary search, elsewhere by reading on.
        """
        low = max(begin, self._hint(partition, at_ms, end))
        found = self.first_from(partition, low, end)
        if found is None or found.timestamp()[1] >= at_ms:
            return found
        low = (found.offset() or 0) + 1
        if self._in_order:
            low = self.boundary(partition, low, end, lambda message: message.timestamp()[1] >= at_ms)
            return self.first_from(partition, low, end)
        return self._by_reading(partition, at_ms, low, end)

    def boundary(self, partition: int, low: int, high: int, is_behind: Callable[[Message], bool]) -> int:
        """The offset from `low` to `high` just after the last committed record for which `is_behind` is false.

        A binary search: `is_behind` must be true for all records after one for which it is.
        """
        while low < high:
            middle = (low + high) // 2
            found = self.first_from(partition, middle, high)
            if found is None or is_behind(found):
                high = middle
            else:
                low = (found.offset() or 0) + 1
        return low

    def _hint(self, partition: int, at_ms: int, end: int) -> int:
        """An offset before which nothing has that time or a later one, neither records nor marks."""
        if at_ms < 0:
            return 0  # records may have such times, but Kafka cannot look them up
        try:
            (hint,) = self._one.offsets_for_times([TopicPartition(self.topic, partition, at_ms)], ASK_S)
        except KafkaException as error:
            raise self._away(partition, error.args[0].str()) from None
        return hint.offset if hint.offset >= 0 else end

    def _by_reading(self, partition: int, at_ms: int, begin: int, end: int) -> Message | None:
        for messages in self.slices(partition, begin, end):
            for message in messages:
                if message.timestamp()[1] >= at_ms:
                    return message
        return None

    def last_before(self, partition: int, begin: int, end: int) -> Message | None:
        """The last committed record from `begin` to `end` (excluded), searched backwards."""
        return newest(begin, end, lambda start: self.slices(partition, start, end), lambda message: message)

    def slices(
        self, partition: int, begin: int, end: int, most: int = SLICE_RECORDS
    ) -> Iterator[list[Message]]:
        """Committed records from `begin` to `end` (excluded), a bounded number at a time.

        Waits for an open transaction before the end, as long as anything arrives within `WALLET_STALL_S`.
        """
        if begin >= end:
            return
        self._many.assign([TopicPartition(self.topic, partition, begin)])
        heard_at = time.monotonic()
        ended = False
        while not ended:
            messages = consume(self._many, most, SLICE_WAIT_S, upstreams=self._upstreams)
            records = [message for message in messages if message.error() is None]
            for message in messages if len(records) < len(messages) else ():
                ended = self._is_end(message, partition, end) or ended
            if records and (records[-1].offset() or 0) >= end:
                records, ended = (
                    records[: bisect_left(records, end, key=lambda message: message.offset() or 0)],
                    True,
                )
            if messages:
                heard_at = time.monotonic()
            elif time.monotonic() - heard_at > self._stall_s:
                raise self._away(
                    partition,
                    f"nothing came for {self._stall_s:g} s: Kafka is away, or a transaction is open",
                )
            if records:
                yield records

    def _is_end(self, message: Message, partition: int, end: int) -> bool:
        """Whether this message means that nothing more comes before `end`; raises errors that waiting cannot fix."""
        error = message.error()
        if error is None:
            return False
        if error.code() == KafkaError._PARTITION_EOF:
            return (message.offset() or 0) >= end
        if not passes(error):
            raise because(error, self._away(partition, error.str()))
        return False

    def _watermarks(self, consumer: Consumer, partition: int) -> tuple[int, int]:
        try:
            found: Any = consumer.get_watermark_offsets(TopicPartition(self.topic, partition), ASK_S)
        except KafkaException as error:
            raise self._away(partition, error.args[0].str()) from None
        if found is None:
            raise self._away(partition, "its ends are unknown")
        begin, end = found
        return begin, end

    def _away(self, partition: int, reason: str) -> NotReachable:
        return NotReachable(f"{self.topic} partition {partition} could not be read: {reason}")
