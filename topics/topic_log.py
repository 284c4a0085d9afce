"""Read one topic without joining a group: its ends, its records in bulk, and the place of a time.

The place of a time in a partition is before the first record at or after that time. Kafka's lookup cannot find it: the
log also holds transaction marks with the broker's clock, and among records with older dates it returns one of those.
So its answer is only where the search starts.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from functools import cached_property
from threading import Event
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from config.errors import NotReachable, WalletError
from config.settings import Settings
from config.stopping import NEVER, go_on
from topics.causes import because
from topics.clients import Value, standalone
from topics.cluster import ASK_S
from topics.consuming import READ_RECORDS, read_to_ends, ready, watermarks
from topics.names import Topics
from topics.tail import newest


class Log(NamedTuple):
    """Begin and end of a partition; `stable` is how far it can be read, read-committed."""

    begin: int
    stable: int
    end: int


class TopicLog:
    """One topic, read by partition from known offsets. Not thread-safe.

    `group` is named to Kafka for its rights, but never joined. Raises NotReachable if Kafka does not answer in time,
    Stopped once `stop` is set.
    """

    def __init__(self, settings: Settings, topic: str, group: str | None = None, stop: Event = NEVER) -> None:
        self.topic, self.partitions, self._stop = topic, settings.partitions, stop
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
        consumer = standalone(self._settings, self._group, fetch_wait_max_ms=10, **more)
        self._open.append(consumer)
        return consumer

    def log(self, partition: int) -> Log:
        """The partition's ends now; in this order: what comes between the answers is not held back."""
        begin, end = self._watermarks(self._all, partition)
        return Log(begin, self._watermarks(self._one, partition)[1], end)

    def first_from(self, partition: int, offset: int, end: int) -> Message | None:
        """The first committed record from `offset` to `end` (excluded), or None."""
        return next((first for (first,) in self._read(self._one, partition, offset, end, 1)), None)

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
        self, partition: int, begin: int, end: int, most: int = READ_RECORDS
    ) -> Iterator[list[Message]]:
        """Committed records from `begin` to `end` (excluded), a bounded number at a time.

        Waits for an open transaction before the end, as long as anything arrives within `WALLET_STALL_S`.
        """
        yield from self._read(self._many, partition, begin, end, most)

    def _read(
        self, consumer: Consumer, partition: int, begin: int, end: int, most: int
    ) -> Iterator[list[Message]]:
        def failed(_: str, error: KafkaError | None) -> WalletError:
            if error is not None:
                return because(error, self._away(partition, error.str()))
            return self._away(
                partition, f"nothing came for {self._stall_s:g} s: Kafka is away, or a transaction is open"
            )

        for records in read_to_ends(
            consumer,
            partition,
            {self.topic: begin},
            {self.topic: end},
            most,
            self._stall_s,
            go_on=lambda: go_on(self._stop),
            failed=failed,
            upstreams=self._upstreams,
        ):
            if before := bisect_left(records, end, key=lambda message: message.offset() or 0):
                yield records[:before]

    def _watermarks(self, consumer: Consumer, partition: int) -> tuple[int, int]:
        try:
            return watermarks(consumer, self.topic, partition, ASK_S)
        except KafkaException as error:
            raise self._away(partition, error.args[0].str()) from None

    def _away(self, partition: int, reason: str) -> NotReachable:
        return NotReachable(f"{self.topic} partition {partition} could not be read: {reason}")
