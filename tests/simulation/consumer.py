# ruff: noqa: ARG002 - the signatures are confluent-kafka's
"""What the worker's code takes for confluent-kafka's Consumer, on the simulated broker."""

from confluent_kafka import KafkaError, Message, TopicPartition

from tests.simulation.broker import Broker, Log, Stored, Unstable
from tests.simulation.clients import Link, Value, failed

CREATE_TIME = 1


class Consumer(Link):
    """A consumer that was told what to read, and never joins its group."""

    def __init__(self, broker: Broker, conf: dict[str, Value]) -> None:
        super().__init__(broker)
        assert conf.get("auto.offset.reset", "error") == "error"
        self._committed_only = conf.get("isolation.level") == "read_committed"
        self._positions: dict[str, int] = {}
        #: Where the end of a topic was told last.
        self._ends_told: dict[str, int] = {}

    def consumer_group_metadata(self) -> object:
        """What a transaction sends offsets with."""
        return object()

    def get_watermark_offsets(
        self, at: TopicPartition, timeout: float = 0.0, cached: bool = False
    ) -> tuple[int, int] | None:
        """Begin and end, as far as this consumer reads; None if there is no answer in time."""
        self.effect(f"ask the end of {at.topic}")
        if self.stage.fault("no answer", 0.003):
            self.stage.clock.sleep(timeout)
            return None
        log = self.broker.log(at.topic)
        return log.begin, self._end(log)

    def offsets_for_times(self, asked: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        """The ends, read-committed or all there is: nobody asks for another time."""
        self.effect(f"ask the ends, {'committed' if self._committed_only else 'all there is'}")
        assert all(one.offset == -1 for one in asked)
        if self.stage.fault("no answer", 0.003):
            self.stage.clock.sleep(timeout)
            raise failed(KafkaError._TIMED_OUT)
        logs = [self.broker.log(one.topic) for one in asked]
        ends = [self._end(log) for log in logs]
        return [TopicPartition(one.topic, one.partition, end) for one, end in zip(asked, ends, strict=True)]

    def committed(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        """The group's offsets; -1001 where there is none."""
        self.effect("ask the group's offset")
        if self.stage.fault("no answer", 0.003):
            self.stage.clock.sleep(timeout)
            raise failed(KafkaError._TIMED_OUT)
        try:
            found = [
                (one, self.broker.committed(one.topic, stable=self._committed_only)) for one in partitions
            ]
        except Unstable:
            self.stage.clock.sleep(timeout)
            raise failed(KafkaError._TIMED_OUT) from None
        return [TopicPartition(one.topic, one.partition, -1001 if at is None else at) for one, at in found]

    def commit(self, offsets: list[TopicPartition], asynchronous: bool) -> None:
        """Commit offsets outside of any transaction. The worker never does."""
        self.effect("commit offsets")
        for one in offsets:
            self.broker.offsets[one.topic] = one.offset

    def assign(self, partitions: list[TopicPartition]) -> None:
        """Read from these offsets on."""
        self._positions = {one.topic: one.offset for one in partitions}
        self._ends_told = {}

    def consume(self, most: int, timeout: float) -> list[Message]:
        """Some of what there is, with an event wherever a topic's end is reached."""
        self.effect("consume")
        limit = most
        match self.stage.fault("consume", 0.04, 0.03, 0.15, 0.15):
            case 1:
                self.stage.clock.sleep(timeout)
                return []
            case 2:
                return [Message(error=failed(KafkaError._TRANSPORT, retriable=True).args[0])]
            case 3:
                limit = 1
            case 4:
                limit = 5
        found: list[Message] = []
        for topic in self._in_turn():
            if len(found) < limit:
                found += self._read(topic, limit - len(found))
        if not found:
            self.stage.clock.sleep(timeout)
        return found

    def _in_turn(self) -> list[str]:
        topics = list(self._positions)
        return topics[::-1] if self.stage.fault("other topic first", 0.3) else topics

    def _read(self, topic: str, most: int) -> list[Message]:
        """Records of one topic, and its end if it is reached."""
        log = self.broker.log(topic)
        start, end = self._positions[topic], self._end(log)
        assert start >= log.begin, "auto.offset.reset is error"
        records = log.visible(start) if self._committed_only else log.records(start)
        if len(records) > most:
            self._positions[topic] = records[most].offset
            return [as_message(topic, one) for one in records[:most]]
        self._positions[topic] = max(start, end)
        found = [as_message(topic, one) for one in records]
        if self._ends_told.get(topic) != self._positions[topic]:
            self._ends_told[topic] = self._positions[topic]
            told = KafkaError(KafkaError._PARTITION_EOF)
            found.append(Message(topic, offset=self._positions[topic], error=told))
        return found

    def _end(self, log: Log) -> int:
        return log.stable if self._committed_only else log.end

    def close(self) -> None:
        """Nothing to let go of."""


def as_message(topic: str, one: Stored) -> Message:
    """A stored record as a consumer gets it."""
    headers = [(name, value) for name, value in one.headers]
    return Message(
        topic, 0, one.offset, one.key, one.value, headers, timestamp=(CREATE_TIME, one.timestamp_ms)
    )
