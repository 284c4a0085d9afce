"""What the worker's code takes for confluent-kafka's Producer and Consumer, on the simulated broker.

Errors are real KafkaErrors with the codes and flags that librdkafka gives.
"""

from collections.abc import Callable, Sequence

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from tests.simulation.broker import Broker, Decided, Header, Log, OldEpoch, Stored, Transaction
from tests.simulation.processes import Process, Stage

CREATE_TIME = 1
Report = Callable[[KafkaError | None, Message], None]
Value = str | int | float | bool


def failed(code: int, *, fatal: bool = False, retriable: bool = False, abortable: bool = False) -> KafkaException:
    """An error as librdkafka raises it."""
    return KafkaException(KafkaError(code, None, fatal, retriable, abortable))


class Link:
    """A client's way to the broker: it ends with the process that has it."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.stage: Stage = broker.stage
        self._process: Process | None = broker.stage.running

    def effect(self, what: str) -> None:
        """As Stage.effect."""
        self.stage.effect(what)

    @property
    def alive(self) -> bool:
        """Whether the process lives: a dead one's clean-up reaches nobody."""
        return self._process is None or not self._process.dead


class Producer(Link):
    """A transactional producer. What it was given waits in its queue, as librdkafka's linger has it."""

    def __init__(self, broker: Broker, conf: dict[str, Value]) -> None:
        super().__init__(broker)
        self._id = str(conf["transactional.id"])
        self._epoch: int | None = None
        self._fenced = False
        self._begun = False
        #: A delivery that failed: what is left of the transaction must be aborted.
        self._broken = False
        self._queue: list[tuple[str, Stored, Report | None]] = []
        self._reports: list[tuple[Report, KafkaError | None, Message]] = []

    def init_transactions(self, timeout: float) -> None:
        """Fence the former owner."""
        self.effect("init_transactions")
        match self.stage.fault("init_transactions", 0.03, 0.03):
            case 1:
                self._timed_out(timeout)
            case 2:
                self._epoch = self.broker.begin_epoch(self._id)
                self._timed_out(timeout)
        self._epoch = self.broker.begin_epoch(self._id)

    def begin_transaction(self) -> None:
        """Begin; the broker hears of it with the first record."""
        self._refuse_fenced()
        if self._epoch is None or self._begun:
            raise failed(KafkaError._STATE)
        self._begun, self._broken = True, False

    def produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        callback: Report | None,
        on_delivery: Report | None,
        timestamp: int,
        headers: Sequence[Header] = (),
    ) -> None:
        """Queue a record; sooner or later it is sent."""
        assert callback is None
        if self._fenced:
            raise failed(KafkaError._FATAL, fatal=True)
        if not self._begun:
            raise failed(KafkaError._STATE)
        self.effect(f"produce to {topic}")
        if self.stage.fault("queue full", 0.005):
            raise BufferError
        record = Stored(partition, key, value, timestamp, tuple(headers))
        self._queue.append((topic, record, on_delivery))
        if self.broker.eager or self.stage.fault("send at once", 0.3):
            self._send()

    def poll(self, timeout: float) -> int:
        """Send what is queued and call what is to be reported."""
        self._send()
        return self._report()

    def _send(self) -> None:
        queue, self._queue = self._queue, []
        for topic, record, report in queue:
            partition = record.offset
            try:
                assert self._epoch is not None
                offset = self.broker.append(self._id, self._epoch, topic, record)
            except OldEpoch:
                self._fenced = True
                return
            if report is not None:
                told = Message(topic, partition, offset, record.key, record.value)
                self._reports.append((report, None, told))

    def _report(self) -> int:
        reports, self._reports = self._reports, []
        for report, error, message in reports:
            report(error, message)
        return len(reports)

    def send_offsets_to_transaction(
        self, offsets: Sequence[TopicPartition], metadata: object, timeout: float
    ) -> None:
        """Have the group's offsets commit with the transaction."""
        self.effect("send_offsets_to_transaction")
        self._misbehave("send_offsets_to_transaction", timeout)
        transaction = self._asked()
        for one in offsets:
            transaction.offsets[one.topic] = one.offset

    def commit_transaction(self, timeout: float) -> None:
        """Send everything, then commit; the answer may never come."""
        self._refuse_fenced()
        if not self._begun:
            raise failed(KafkaError._STATE)
        self._send()
        self._report()
        self._refuse_fenced()
        self.effect("commit")
        self._misbehave("commit", timeout)
        if self._broken:
            raise failed(KafkaError._INCONSISTENT, abortable=True)
        unanswered = self.stage.fault("commit unanswered", 0.04)
        self._end(commits=True)
        if unanswered:
            self._timed_out(timeout)
        self._begun = False

    def abort_transaction(self, timeout: float) -> None:
        """Roll back."""
        self._refuse_fenced()
        self.effect("abort")
        match self.stage.fault("abort", 0.03, 0.03):
            case 1:
                self._timed_out(timeout)
            case 2:
                self._end(commits=False)
                self._timed_out(timeout)
        self._queue, self._reports = [], []
        self._end(commits=False)
        self._begun = False

    def purge(self) -> None:
        """Forget what was not sent."""
        self._queue = []

    def close(self) -> bool:
        """Let go; an open transaction stays open."""
        self._epoch = None
        return True

    def _misbehave(self, about: str, timeout: float) -> None:
        """What Kafka may answer instead: try later, abort, or something that says nothing."""
        match self.stage.fault(about, 0.02, 0.02, 0.005):
            case 1:
                self._timed_out(timeout)
            case 2:
                raise failed(KafkaError.INVALID_TXN_STATE, abortable=True)
            case 3:
                raise failed(KafkaError._FAIL)

    def _timed_out(self, timeout: float) -> None:
        self.stage.clock.sleep(timeout)
        raise failed(KafkaError._TIMED_OUT, retriable=True)

    def _refuse_fenced(self) -> None:
        if self._fenced:
            raise failed(KafkaError._FENCED, fatal=True)

    def _asked(self) -> Transaction:
        try:
            assert self._epoch is not None
            return self.broker.current(self._id, self._epoch)
        except OldEpoch:
            self._fenced = True
            raise failed(KafkaError._FENCED, fatal=True) from None

    def _end(self, *, commits: bool) -> None:
        try:
            assert self._epoch is not None
            self.broker.end(self._id, self._epoch, commits=commits)
        except OldEpoch:
            self._fenced = True
            raise failed(KafkaError._FENCED, fatal=True) from None
        except Decided:
            raise failed(KafkaError.INVALID_TXN_STATE, fatal=True) from None


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
        """Begin and last stable offset; None if there is no answer in time."""
        self.effect(f"ask the end of {at.topic}")
        if self.stage.fault("no answer", 0.003):
            self.stage.clock.sleep(timeout)
            return None
        return 0, self._stable(self.broker.log(at.topic))

    def committed(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        """The group's offsets; -1001 where there is none."""
        self.effect("ask the group's offset")
        if self.stage.fault("no answer", 0.003):
            raise failed(KafkaError._TIMED_OUT)
        found = [(one, self.broker.committed(one.topic)) for one in partitions]
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
        start, stable = self._positions[topic], self._stable(log)
        records = log.visible(start)
        if len(records) > most:
            self._positions[topic] = records[most].offset
            return [as_message(topic, one) for one in records[:most]]
        self._positions[topic] = max(start, stable)
        found = [as_message(topic, one) for one in records]
        if self._ends_told.get(topic) != self._positions[topic]:
            self._ends_told[topic] = self._positions[topic]
            end = KafkaError(KafkaError._PARTITION_EOF)
            found.append(Message(topic, offset=self._positions[topic], error=end))
        return found

    def _stable(self, log: Log) -> int:
        assert self._committed_only, "everything of ours reads read-committed"
        return log.stable

    def close(self) -> None:
        """Nothing to let go of."""


def as_message(topic: str, one: Stored) -> Message:
    """A stored record as a consumer gets it."""
    headers = [(name, value) for name, value in one.headers]
    return Message(
        topic, 0, one.offset, one.key, one.value, headers, timestamp=(CREATE_TIME, one.timestamp_ms)
    )
