# ruff: noqa: ARG002 - the signatures are confluent-kafka's
"""What the worker's code takes for confluent-kafka's Producer, on the simulated broker.

Errors are real KafkaErrors with the codes and flags that librdkafka gives.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from confluent_kafka import KafkaError, Message, TopicPartition

from tests.simulation.broker import Broker, Decided, Header, OldEpoch, Stored, Transaction
from tests.simulation.clients import Link, Value, failed
from topics.clients import RETRY_BACKOFF_MS

Report = Callable[[KafkaError | None, Message], None]


class Producer(Link):
    """A transactional producer. What it was given waits in its queue, as librdkafka's linger has it."""

    def __init__(self, broker: Broker, conf: dict[str, Value]) -> None:
        super().__init__(broker)
        self._id = str(conf["transactional.id"])
        self._epoch: int | None = None
        self._fenced = False
        self._begun = False
        #: Whether the broker has heard of the transaction: of its end it hears only then.
        self._known = False
        self._queue: list[tuple[str, Stored, Report | None]] = []
        self._reports: list[tuple[Report, KafkaError | None, Message]] = []
        #: By topic: records that are written while their answer is not there yet, and those whose sequence
        #: numbers an abort has given to others, which the broker then takes for repetitions (as librdkafka does).
        self._unanswered: Counter[str] = Counter()
        self._repeated: Counter[str] = Counter()
        #: Whether a record of this transaction is on its way for too long.
        self._undelivered = False

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
        self.broker.be_back()
        self._refuse_fenced()
        if self._epoch is None or self._begun:
            raise failed(KafkaError._STATE)
        self._begun, self._known, self._undelivered = True, False, False

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
        """Queue a record; sooner or later it is sent.

        A `callback` that is given, be it None, hides `on_delivery`, as in confluent-kafka.
        """
        if self._fenced:
            raise failed(KafkaError._FATAL, fatal=True)
        if not self._begun:
            raise failed(KafkaError._STATE)
        self.effect(f"produce to {topic}")
        if self.stage.fault("queue full", 0.005):
            raise BufferError
        record = Stored(partition, key, value, timestamp, tuple(headers))
        self._queue.append((topic, record, callback))
        if self.broker.eager or self.stage.fault("send at once", 0.3):
            self._send()

    def poll(self, timeout: float) -> int:
        """Send what is queued and call what is to be reported."""
        self._send()
        return self._report()

    def flush(self, timeout: float) -> int:
        """Send what is queued, whatever the answers; how much of it is left. One that was fenced does not say so."""
        self.effect("flush")
        self.poll(timeout)
        if self._fenced:
            raise SystemError
        return len(self._queue)

    def _send(self) -> None:
        queue, self._queue = self._queue, []
        unanswered = bool(queue) and self.stage.fault("answers lost", 0.1)
        if queue and self.stage.fault("produce late", 0.01):
            # Its answer does not come in time; nor does it arrive, for now.
            topic, record, _ = queue.pop()
            assert self._epoch is not None
            self.broker.underway.append(partial(self.broker.append, self._id, self._epoch, topic, record))
            self._undelivered = True
        for topic, record, report in queue:
            partition = record.offset
            try:
                assert self._epoch is not None
                if self._repeated[topic]:
                    self._repeated[topic] -= 1
                    self.broker.current(self._id, self._epoch)
                    self._known = True
                    offset = 0
                else:
                    offset = self.broker.append(self._id, self._epoch, topic, record)
                    self._known = True
                    self._unanswered[topic] += bool(unanswered)
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
        if self.stage.fault("offsets unanswered", 0.02):
            self._timed_out(timeout)

    def commit_transaction(self, timeout: float) -> None:
        """Send everything, then commit; the answer may never come."""
        self._refuse_fenced()
        if not self._begun:
            raise failed(KafkaError._STATE)
        self._send()
        if self._undelivered or (self._unanswered and self.stage.fault("delivery", 0.3)):
            raise failed(KafkaError._INCONSISTENT, abortable=True)  # asked for too long
        self._unanswered.clear()  # asked again until it is known
        self._report()
        self._refuse_fenced()
        self.effect("commit")
        self._misbehave("commit", timeout)
        self._end_late("commit late", timeout, commits=True)
        self._send_again()
        unanswered = self.stage.fault("commit unanswered", 0.04)
        self._end(commits=True)
        if unanswered:
            self._timed_out(timeout)
        self._begun = False

    def abort_transaction(self, timeout: float) -> None:
        """Roll back."""
        self._refuse_fenced()
        self.effect("abort")
        self._end_late("abort late", timeout, commits=False)
        match self.stage.fault("abort", 0.03, 0.03):
            case 1:
                self._timed_out(timeout)
            case 2:
                self._end(commits=False)
                self._timed_out(timeout)
        self._queue, self._reports = [], []
        self._repeated += self._unanswered
        self._unanswered.clear()
        self._end(commits=False)
        self._begun = False

    def purge(self) -> None:
        """Forget what was not sent."""
        self._queue = []

    def close(self) -> bool:
        """Let go; an open transaction stays open. One that was fenced complains."""
        self._epoch = None
        if self._fenced:
            raise SystemError
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
            self._known = True
            return self.broker.current(self._id, self._epoch)
        except OldEpoch:
            self._fenced = True
            raise failed(KafkaError._FENCED, fatal=True) from None

    def _end_late(self, about: str, timeout: float, *, commits: bool) -> None:
        if self._known and self.stage.fault(about, 0.02):
            assert self._epoch is not None
            self.broker.underway.append(partial(self.broker.end, self._id, self._epoch, commits=commits))
            self._timed_out(timeout)

    def _send_again(self) -> None:
        """A connection breaks while a commit is under way; on the next one librdkafka sends it again by itself."""
        if self._known and self.stage.fault("commit sent again", 0.02):
            assert self._epoch is not None
            self.broker.underway.append(partial(self.broker.end, self._id, self._epoch, commits=True))
            self.stage.clock.sleep(RETRY_BACKOFF_MS / 1_000)

    def _end(self, *, commits: bool) -> None:
        if not self._known:
            return
        try:
            assert self._epoch is not None
            self.broker.end(self._id, self._epoch, commits=commits)
        except OldEpoch:
            self._fenced = True
            raise failed(KafkaError._FENCED, fatal=True) from None
        except Decided:
            raise failed(KafkaError.INVALID_TXN_STATE, fatal=True) from None
