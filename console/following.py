"""Threads that follow `ledger` and `rejections`, read-committed, starting a little before their ends.

What they read goes to the memory of outcomes; their position says up to where the topics are known. They keep no
state, join no group and commit nothing, so any number of consoles can run.
"""

import time
from collections.abc import Callable
from threading import Event, Thread

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from config.asking import NotYet, ask_again
from config.errors import NotReachable, WalletError
from config.logs import EventLog
from config.settings import Settings
from console.outcomes import Outcome, Outcomes, Posted, Refused, Source
from operations.rejections.listing import rejection_in
from schemas.codec import HASH_BYTES
from sinks.archive.entries import source_offset
from topics.causes import because, passes
from topics.clients import standalone
from topics.cluster import offsets_in, quiet_admin, read_pipeline
from topics.consuming import ready, slice_of
from topics.names import Topics

log = EventLog("console.following")

#: Offsets before the end at which a follower starts, to know recent outcomes, too.
BEFORE_THE_END = 2_000
#: A broker that holds back an empty answer does not notice that a transaction has ended, so ask again soon: with 50 ms,
#: clients that send 300 transactions a second would wait twice as long for outcomes.
FETCH_WAIT_MS = 10
POLL_S = 0.2
AGAIN_S = 1.0


#: Parses a record of the topic; None if it is not one of ours.
OutcomeOf = Callable[[Message], tuple[Source, Outcome] | None]


class Follower(Thread):
    """Follows one topic until `stop` is set; waits while Kafka is away."""

    def __init__(
        self, settings: Settings, topic: str, outcomes: Outcomes, outcome_of: OutcomeOf, stop: Event
    ) -> None:
        super().__init__(name=f"console-{topic}", daemon=True)
        self._settings, self._topic, self._outcomes = settings, topic, outcomes
        self._outcome_of, self._stopping = outcome_of, stop
        self._upstreams = Topics.of(settings).is_upstreams(topic)
        #: By partition, the offset before which everything was seen; another dict when the follower starts over.
        self.positions: dict[int, int] = {}

    def run(self) -> None:
        """Follow, and again after a failure."""
        while not self._stopping.is_set():
            try:
                self._follow()
            except (WalletError, KafkaException) as error:
                log.warning("follower_waits", topic=self._topic, reason=str(error))
            except Exception:
                log.exception("follower_failed", topic=self._topic)
            self.positions = {}
            self._stopping.wait(AGAIN_S)

    def _follow(self) -> None:
        partitions = range(self._settings.partitions)
        ends = offsets_in(quiet_admin(self._settings), [(self._topic, at) for at in partitions])
        starts = {at: max(one.begin, one.end - BEFORE_THE_END) for (_, at), one in ends.items()}
        consumer = standalone(
            self._settings,
            f"{self._settings.prefix}.console",
            log_level=0,
            fetch_wait_max_ms=FETCH_WAIT_MS,
            **ready(upstreams=self._upstreams),
        )
        try:
            consumer.assign([TopicPartition(self._topic, at, start) for at, start in starts.items()])
            self.positions = positions = dict(starts)
            while not self._stopping.is_set():
                first = consumer.poll(POLL_S)
                if first is not None:
                    # Take what else is there, without waiting.
                    self._take([first, *consumer.consume(slice_of(upstreams=self._upstreams), 0)], positions)
        finally:
            consumer.close()

    def _take(self, messages: list[Message], positions: dict[int, int]) -> None:
        told: list[tuple[Source, Outcome]] = []
        reached: dict[int, int] = {}
        for message in messages:
            error = message.error()
            at, offset = message.partition() or 0, message.offset() or 0
            if error is None:
                if (found := self._outcome_of(message)) is not None:
                    told.append(found)
                reached[at] = offset + 1
            elif error.code() == KafkaError._PARTITION_EOF:
                reached[at] = offset
            elif not passes(error):
                raise because(error, NotReachable(f"{self._topic} cannot be followed: {error.str()}"))
        # The memory first: whoever sees the position must find the outcomes before it.
        self._outcomes.tell(told)
        for at, position in reached.items():
            positions[at] = max(positions[at], position)


def posted_in(message: Message) -> tuple[Source, Outcome] | None:
    """A record of the ledger."""
    value = message.value()
    if not value or len(value) <= HASH_BYTES:
        return None
    source = (message.partition() or 0, source_offset(value))
    return source, Posted(message.offset() or 0, message.key() or b"", value)


def refused_in(message: Message) -> tuple[Source, Outcome] | None:
    """A record of `rejections`."""
    found = rejection_in(message)
    if found is None:
        return None
    return (found.partition, found.source_offset), Refused(found.offset, found.reason, found.detail)


def pipeline_settings(settings: Settings, stop: Event) -> Settings | None:
    """The settings with what `init` has fixed, as soon as Kafka answers; None if stopped before."""
    said_at = 0.0

    def ask() -> Settings:
        pipeline = read_pipeline(settings.model_copy(update={"startup_wait_s": 5.0}))
        if pipeline is None:
            topic = Topics.of(settings).pipeline
            raise NotYet(f"topic {topic} holds no pipeline record: run `wallet init`")
        return pipeline.rule(settings)

    def say(reason: Exception) -> None:
        nonlocal said_at
        if time.monotonic() - said_at > 30:
            log.warning("console_waits_for_kafka", reason=reason)
            said_at = time.monotonic()

    try:
        return ask_again(ask, (WalletError, NotYet), AGAIN_S, stop=stop, waiting=say)
    except (WalletError, NotYet):  # only when told to stop
        return None


def followers(settings: Settings, outcomes: Outcomes, stop: Event) -> tuple[Follower, Follower]:
    """The followers of the ledger and of the rejections."""
    names = Topics.of(settings)
    ledger = Follower(settings, names.ledger, outcomes, posted_in, stop)
    return ledger, Follower(settings, names.rejections, outcomes, refused_in, stop)
