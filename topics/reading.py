"""Reading one partition of one topic up to an end that is known before, a stretch at a time."""

import time

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from config.errors import NotReachable
from config.settings import Settings
from topics.causes import because
from topics.clients import looking
from topics.cluster import passes
from topics.consuming import consume, ready
from topics.names import Topics

#: `consume` waits so long for as many records as were asked for; at the end of a topic that is time lost.
READ_WAIT_S = 0.05


class Reading:
    """One topic's consumer, read-committed, used for one partition after the other."""

    def __init__(self, settings: Settings, topic: str) -> None:
        self.topic = topic
        self._stall_s = settings.read_stall_s
        self._upstreams = Topics.of(settings).is_upstreams(topic)
        self._partition, self._end, self._at_end = -1, 0, True
        self._consumer = Consumer(
            looking(
                settings,
                f"{settings.prefix}.verify",
                fetch_wait_max_ms=50,
                **ready(upstreams=self._upstreams),
            )
        )

    def start(self, partition: int, begin: int, end: int) -> None:
        """Go to a partition, to read what is committed of it from `begin` to before `end`.

        An open transaction before `end` is waited for.
        """
        self._partition, self._end, self._at_end = partition, end, begin >= end
        if not self._at_end:
            self._consumer.assign([TopicPartition(self.topic, partition, begin)])

    def next(self, count: int) -> list[Message]:
        """The next records, up to so many or about GATHERED_BYTES; none only at the end.

        Raises NotReachable when nothing comes for `WALLET_STALL_S`.
        """
        found: list[Message] = []
        heard_at = time.monotonic()
        while not self._at_end and not found:
            messages = consume(self._consumer, count, READ_WAIT_S, upstreams=self._upstreams)
            records = [message for message in messages if message.error() is None]
            if len(records) < len(messages):
                self._end_or_raise(messages)
            # Offsets only grow: what lies beyond the end is at the end of the list.
            while records and (records[-1].offset() or 0) >= self._end:
                self._at_end = True
                records.pop()
            found += records
            if messages:
                heard_at = time.monotonic()
            elif time.monotonic() - heard_at > self._stall_s:
                raise self._away(
                    f"nothing came for {self._stall_s:g} s: Kafka is away, or an open transaction is in the way"
                )
        return found

    def begin_now(self, partition: int) -> int:
        """The first offset that a partition holds at this moment."""
        return self._offsets_now(partition)[0]

    def end_now(self, partition: int) -> int:
        """The read-committed end of a partition at this moment."""
        return self._offsets_now(partition)[1]

    def _offsets_now(self, partition: int) -> tuple[int, int]:
        found = self._consumer.get_watermark_offsets(
            TopicPartition(self.topic, partition), self._stall_s, cached=False
        )
        if found is None:
            raise self._away("its end is not known")
        return found

    def close(self) -> None:
        """Close the consumer."""
        self._consumer.close()

    def _end_or_raise(self, messages: list[Message]) -> None:
        for message in messages:
            error = message.error()
            if error is None:
                continue
            if error.code() == KafkaError._PARTITION_EOF:
                self._at_end = self._at_end or (message.offset() or 0) >= self._end
            elif not passes(error):
                raise because(error, self._away(error.str()))

    def _away(self, reason: str) -> NotReachable:
        return NotReachable(f"{self.topic} partition {self._partition} could not be read: {reason}")
