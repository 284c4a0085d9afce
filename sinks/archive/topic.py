"""Kafka as the archive asks it: the end of a month in a partition, what is still to come, and entries in bulk.

Nothing here joins a group. Offsets are not looked up by time alone: the marks of transactions lie in the log, too,
with the clock of the broker, so among entries that carry old dates the broker would name one of them.
"""

import time
from bisect import bisect_left
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from config.clients import librdkafka, looking
from config.cluster import passes
from config.errors import NotReachable
from config.settings import Settings

ASK_S = 10.0
#: Entries that are taken from librdkafka at a time; it waits for as many, or so long.
SLICE_RECORDS = 10_000
SLICE_WAIT_S = 0.05
#: The last record is looked for in windows that grow by this factor: the newest offsets may be marks.
TAIL_OFFSETS, TAIL_GROWTH = 16, 16


class Log(NamedTuple):
    """Where a partition begins and ends; `stable` is how far it can be read, read-committed."""

    begin: int
    stable: int
    end: int


class TopicLog:
    """One topic, read by partition from offsets that are known. Not for several threads.

    Raises NotReachable when Kafka does not answer within its time.
    """

    def __init__(self, settings: Settings, topic: str) -> None:
        self.topic = topic
        self._stall_s = settings.read_stall_s
        group = settings.sink_group("archive")
        self._one = _reader(settings, group, fetch_message_max_bytes=65_536, queued_min_messages=1)
        self._many = _reader(
            settings,
            group,
            fetch_message_max_bytes=8 * 1024 * 1024,
            queued_min_messages=300_000,
            queued_max_messages_kbytes=64 * 1024,
        )
        self._all = _reader(settings, group, isolation_level="read_uncommitted")

    def close(self) -> None:
        """Close the connections."""
        for consumer in (self._one, self._many, self._all):
            consumer.close()

    def log(self, partition: int) -> Log:
        """The partition's ends at this moment; what is open is asked first, so that stable == end means none."""
        begin, end = self._watermarks(self._all, partition)
        return Log(begin, self._watermarks(self._one, partition)[1], end)

    def first_from(self, partition: int, offset: int, end: int) -> Message | None:
        """The first committed record from `offset` on and before `end`; None where there is none."""
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
        """The first record from `begin` on with a timestamp of `at_ms` or later; None where there is none.

        Timestamps must not decrease. Looks where the broker says first, then halves what is left.
        """
        asked = TopicPartition(self.topic, partition, at_ms)
        try:
            (hint,) = self._one.offsets_for_times([asked], ASK_S)
        except KafkaException as error:
            raise self._away(partition, error.args[0].str()) from None
        # Before the hint there is nothing of that time, neither records nor marks.
        low = max(begin, hint.offset) if hint.offset >= 0 else end
        found = self.first_from(partition, low, end)
        if found is None or found.timestamp()[1] >= at_ms:
            return found
        low, high, latest = (found.offset() or 0) + 1, end, None
        while low < high:
            middle = (low + high) // 2
            found = self.first_from(partition, middle, high)
            if found is None:
                high = middle
            elif found.timestamp()[1] >= at_ms:
                high, latest = middle, found
            else:
                low = (found.offset() or 0) + 1
        return latest

    def last_before(self, partition: int, begin: int, end: int) -> Message | None:
        """The last committed record from `begin` on and before `end`, looked for from its end back."""
        window = TAIL_OFFSETS
        while begin < end:
            start = max(begin, end - window)
            last = None
            for messages in self.slices(partition, start, end):
                last = messages[-1]
            if last is not None or start == begin:
                return last
            window *= TAIL_GROWTH
        return None

    def slices(self, partition: int, begin: int, end: int) -> Iterator[list[Message]]:
        """Committed records from `begin` to before `end`, many at a time."""
        if begin >= end:
            return
        self._many.assign([TopicPartition(self.topic, partition, begin)])
        heard_at = time.monotonic()
        ended = False
        while not ended:
            messages = self._many.consume(SLICE_RECORDS, SLICE_WAIT_S)
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
                raise self._away(partition, f"nothing came for {self._stall_s:g} s")
            if records:
                yield records

    def _is_end(self, message: Message, partition: int, end: int) -> bool:
        """Whether this says that nothing more comes before `end`; raises for what waiting does not mend."""
        error = message.error()
        if error is None:
            return False
        if error.code() == KafkaError._PARTITION_EOF:
            return (message.offset() or 0) >= end
        if not passes(error):
            raise self._away(partition, error.str())
        return False

    def _watermarks(self, consumer: Consumer, partition: int) -> tuple[int, int]:
        try:
            found: Any = consumer.get_watermark_offsets(TopicPartition(self.topic, partition), ASK_S)
        except KafkaException as error:
            raise self._away(partition, error.args[0].str()) from None
        if found is None:
            raise self._away(partition, "its ends are not known")
        begin, end = found
        return begin, end

    def _away(self, partition: int, reason: str) -> NotReachable:
        return NotReachable(f"{self.topic} partition {partition} could not be read: {reason}")


def _reader(settings: Settings, group: str, **more: str | int) -> Consumer:
    return Consumer(looking(settings, group, fetch_wait_max_ms=10, **more))


def committed(settings: Settings, topic: str, partitions: Collection[int]) -> dict[int, int | None]:
    """The workers' offsets in the input; one that a transaction is still changing is waited for.

    None where there is none.
    """
    # It never joins: the group is the workers'.
    asker = Consumer(librdkafka(settings, group_id=settings.group, isolation_level="read_committed"))
    try:
        found = asker.committed([TopicPartition(topic, one) for one in partitions], ASK_S)
    except KafkaException as error:
        raise NotReachable(f"Kafka did not tell the workers' offsets: {error.args[0].str()}") from None
    finally:
        asker.close()
    if wrong := [one for one in found if one.error]:
        raise NotReachable(f"Kafka did not tell the workers' offsets: {wrong[0].error}")
    return {one.partition: one.offset if one.offset >= 0 else None for one in found}
