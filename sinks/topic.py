"""The Kafka side of a sink: a member of one topic's group that never guesses where to read."""

import time
from collections.abc import Callable, Mapping
from threading import Event, Thread
from typing import TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from config.asking import ask_again, growing
from config.errors import NotReachable, Refused, Stopped
from config.logs import EventLog
from config.settings import Settings
from sinks.observer import Observer
from sinks.positions import Origin
from sinks.sink import Record, Sink
from topics.causes import DENIED, because, unanswered
from topics.clients import member
from topics.cluster import ASK_S, Offsets, ids, quiet_admin, topic_id
from topics.consuming import bytes_of, ready, slice_of, watermarks
from topics.names import Topics
from topics.silence import Silence

log = EventLog("sinks.topic")

#: How long a rebalance waits at most for a member that does not poll because it waits for PostgreSQL. Then the member
#: leaves its group, and is fenced if another takes over. Not longer: after a broker's restart Kafka 4.3 may remember
#: members that are gone, and only this time-out ends the wait for them (docs/reliability.md).
REBALANCE_S = 60.0
#: How often to report, to readiness and to the log, that the group has assigned no partitions for longer than that.
OWED_SAY_S, OWED_LOG_S = 5.0, 60.0
ASK_AGAIN_S = 1.0
#: Whether Kafka is silent: how long a sink waits for an answer, and how often it asks until there is one. Records are
#: none, they may have been fetched before.
SILENT_S, ASK_SILENT_S = 1.0, 5.0
#: How long to wait for a batch's first record, and for others while the batch before is being written.
IDLE_S, GATHERED_S = 0.2, 1.0
STEP_S = 0.005
#: Leaving the group takes milliseconds, plus the time that PostgreSQL needs for the batch in hand.
LEAVE_S = 15.0
#: Answers of Kafka that waiting does not change.
FINAL = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
    }
)

Rebalance = Callable[[list[int]], None]
T = TypeVar("T")


class TopicReader:
    """Reads one sink's topic as a member of its group. `assign` says where to read from."""

    def __init__(self, settings: Settings, sink: Sink, stop: Event, observer: Observer) -> None:
        self._settings = settings
        self._sink = sink
        self._stop = stop
        self._observer = observer
        self._silence = Silence(log, sink=sink.name)
        #: When to ask whether Kafka is silent; never while its client has a connection.
        self._ask_silent_at = float("inf")
        self._failure: BaseException | None = None
        self._upstreams = Topics.of(settings).is_upstreams(sink.topic)
        #: Partitions that were taken away since the last slice: their gathered records are stale.
        self._let_go: set[int] = set()
        self._share: set[int] = set()
        #: Since when the group owes this member an assignment; None once it has given one, even an empty one.
        self._owed_since: float | None = None
        self._owed_said_at = self._owed_logged_at = float("-inf")
        self._admin: AdminClient | None = None
        self._consumer = self._new_consumer()

    def _new_consumer(self) -> Consumer:
        return member(
            self._settings,
            self._settings.sink_group(self._sink.name),
            self._client_error,
            isolation_level="read_committed",
            auto_offset_reset="error",
            partition_assignment_strategy="cooperative-sticky",
            session_timeout_ms=int(self._settings.session_timeout_s * 1_000),
            max_poll_interval_ms=int(_patience_s(self._settings) * 1_000),
            **ready(upstreams=self._upstreams),
        )

    def join(self, assigned: Rebalance, revoked: Rebalance) -> None:
        """Join the group; `gather` and `leave` call the two with partition numbers.

        `gather` raises what they raise.
        """

        def call(rebalance: Rebalance, partitions: list[TopicPartition]) -> None:
            try:
                rebalance([partition.partition for partition in partitions])
            except BaseException as error:  # noqa: BLE001 - librdkafka's callback must not raise; gather does
                self._failure = error

        def on_assign(_: Consumer, partitions: list[TopicPartition]) -> None:
            self._share.update(partition.partition for partition in partitions)
            self._owed_since = None
            call(assigned, partitions)

        def on_revoke(_: Consumer, partitions: list[TopicPartition]) -> None:
            gone = {partition.partition for partition in partitions}
            self._let_go |= gone
            self._share -= gone
            if not self._share:
                self._owed_since = time.monotonic()
            call(revoked, partitions)

        self._share.clear()
        self._owed_since = time.monotonic()
        self._consumer.subscribe(
            [self._sink.topic], on_assign=on_assign, on_revoke=on_revoke, on_lost=on_revoke
        )

    def join_anew(self, assigned: Rebalance, revoked: Rebalance) -> None:
        """Leave the group and join it as a new member; `revoked` is called on the way, which may raise."""
        if not self._left():
            raise Stopped(f"sink {self._sink.name} could not leave its group within {LEAVE_S:g} s")
        if self._failure:
            raise self._failure
        self._let_go.clear()
        self._consumer = self._new_consumer()
        self.join(assigned, revoked)

    def leave(self) -> None:
        """Leave the group, so that others take over at once; if that fails, they do after the session time-out."""
        if not self._left():
            log.warning(
                "stop_hangs",
                sink=self._sink.name,
                after_s=LEAVE_S,
                consequence="the group notices after the session time-out",
            )

    def _left(self) -> bool:
        """Close the consumer, for a bounded time: after a broker was away it may wait for ever."""
        closing = Thread(target=self._consumer.close, name=f"sink-{self._sink.name}-leaves", daemon=True)
        closing.start()
        closing.join(LEAVE_S)
        return not closing.is_alive()

    def assign(self, offsets: Mapping[int, int]) -> None:
        """Also read these partitions, each from its offset; call it while they are being assigned."""
        self._consumer.incremental_assign(self._partitions(offsets))

    def tell_group(self, offsets: Mapping[int, int]) -> None:
        """Commit offsets to the group, for tools that show lag; our own code does not read them."""
        try:
            self._consumer.commit(offsets=self._partitions(offsets), asynchronous=True)
        except KafkaException as error:
            log.debug("group_not_told", sink=self._sink.name, reason=str(error))

    def gather(self, is_writing: Callable[[], bool] = lambda: False) -> list[Record]:
        """Records for one batch; none if none come for a while.

        The first one waits for others for `WALLET_SINK_WAIT_MS`, and while the batch before is being written; no more
        come than a batch may have. Raises Stopped for an error of Kafka that waiting does not cure.
        """
        self._say_owed()
        gathered = list(self._consumer.consume(1, IDLE_S))
        self._let_go.clear()
        began, size = time.monotonic(), bytes_of(gathered)
        soon, at_last = began + self._settings.sink_wait_ms / 1_000, began + GATHERED_S
        most_rows, most_bytes = self._settings.sink_batch_rows, self._settings.sink_batch_bytes
        while gathered and len(gathered) < most_rows and size < most_bytes and not self._failure:
            wanted = min(slice_of(upstreams=self._upstreams), most_rows - len(gathered))
            left_s = STEP_S if is_writing() else min(STEP_S, soon - time.monotonic())
            some = self._consumer.consume(wanted, max(0.0, left_s))
            # While we waited, a partition may have gone and come back from an earlier position.
            gathered = [record for record in gathered if record.partition() not in self._let_go]
            self._let_go.clear()
            gathered += some
            size += bytes_of(some)
            now = time.monotonic()
            if len(some) < wanted and now >= (at_last if is_writing() else soon):
                break
        if self._failure:
            # Before any error among the records: if a callback did not assign, librdkafka does.
            raise self._failure
        if time.monotonic() >= self._ask_silent_at:
            self._ask_silent()
        return [record for record in gathered if not self._is_error(record)]

    def log(self, partition: int) -> Offsets:
        """Where a partition begins and ends; waits for a Kafka that does not answer."""
        topic = self._sink.topic
        return self._asked(
            lambda: Offsets(*watermarks(self._consumer, topic, partition, ASK_S)),
            f"return the offsets of {topic} {partition}",
        )

    def origin(self) -> Origin:
        """Kafka's ids of this cluster and this topic; waits as `log` does."""
        topic = self._sink.topic
        return self._asked(lambda: Origin(*ids(self._asker(), topic)), f"return its id and that of {topic}")

    def is_still(self, origin: Origin) -> bool:
        """Whether the records gathered so far came from this topic; False if stopped before Kafka answered.

        If a topic is made again, a consumer silently continues from the old offsets. A topic id never comes back: if it
        is unchanged, no other topic was read. Raises Refused if it has changed.
        """
        topic, wait_s = self._sink.topic, float("inf")
        try:
            found = self._asked(lambda: topic_id(self._asker(), topic), f"return the id of {topic}", wait_s)
        except NotReachable:
            return False
        if found != origin.topic_id:
            raise Refused(
                f"topic {topic} was made again while sink {self._sink.name} read it: it had id "
                f"{origin.topic_id} and now has {found}; see docs/operations/replay.md"
            )
        return True

    def _asker(self) -> AdminClient:
        if self._admin is None:
            self._admin = quiet_admin(self._settings)
        return self._admin

    def _asked(self, ask: Callable[[], T], what: str, wait_s: float | None = None) -> T:
        """The answer, within `wait_s` (WALLET_STARTUP_WAIT_S); raises NotReachable, or Refused for a missing right."""

        def attempt() -> T:
            try:
                answer = ask()
            except KafkaException as failure:
                self._say_away(failure.args[0].str())
                raise
            self._answered()
            return answer

        wait_s = self._settings.startup_wait_s if wait_s is None else wait_s
        pauses = growing(ASK_AGAIN_S, ASK_AGAIN_S)
        try:
            return ask_again(attempt, KafkaException, pauses, wait_s, self._stop, unless=_is_denied)
        except KafkaException as failure:
            raise unanswered(what, failure.args[0], wait_s) from None

    def _is_error(self, record: Record) -> bool:
        error = record.error()
        if error is None:
            return False
        where = f"{self._sink.topic} partition {record.partition()}"
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            raise Stopped(f"{where} does not hold the offset of the sink's position ({error.str()})")
        if error.fatal() or error.code() in FINAL:
            raise because(error, Stopped(f"{where} cannot be read: {error.str()}"))
        log.warning("kafka_says", sink=self._sink.name, where=where, reason=error.str())
        return True

    def _say_owed(self) -> None:
        """Report that the group assigns no partitions, which no client does: its coordinator may be down for good."""
        now = time.monotonic()
        if self._owed_since is None or now < max(
            self._owed_since + self._owed_s, self._owed_said_at + OWED_SAY_S
        ):
            return
        self._owed_said_at = now
        reason = (
            f"the group {self._settings.sink_group(self._sink.name)} has assigned no partitions for "
            f"{now - self._owed_since:.0f} s: is its coordinator up (docs/operations/runbooks/lost-broker.md)?"
        )
        self._observer.waiting(self._sink.name, reason)
        if now - self._owed_logged_at >= OWED_LOG_S:
            self._owed_logged_at = now
            log.warning("group_gives_no_share", sink=self._sink.name, reason=reason)

    @property
    def _owed_s(self) -> float:
        return _patience_s(self._settings) + self._settings.session_timeout_s

    def _client_error(self, error: KafkaError) -> None:
        """Only ask about it: librdkafka keeps trying."""
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._ask_silent_at = time.monotonic()

    def _ask_silent(self) -> None:
        try:
            self._consumer.list_topics(self._sink.topic, SILENT_S)
        except KafkaException as error:
            self._say_away(error.args[0].str())
        else:
            self._answered()

    def _say_away(self, reason: str) -> None:
        self._observer.waiting(self._sink.name, reason)
        self._silence.noticed(reason)
        self._ask_silent_at = time.monotonic() + ASK_SILENT_S

    def _answered(self) -> None:
        self._ask_silent_at = float("inf")
        if self._silence.over():
            self._observer.goes_on(self._sink.name)

    def _partitions(self, offsets: Mapping[int, int]) -> list[TopicPartition]:
        return [TopicPartition(self._sink.topic, number, offset) for number, offset in offsets.items()]


def _is_denied(failure: KafkaException) -> bool:
    return failure.args[0].code() in DENIED


def _patience_s(settings: Settings) -> float:
    """How long the group waits for a busy member, in seconds: never less than a write may take."""
    return max(REBALANCE_S, 2 * settings.postgres_timeout_s, settings.session_timeout_s)
