"""How far the workers are: below which input offset every outcome is decided, and was read here.

Three things, in this order: 1. the input offset C up to which the worker has committed, 2. then the ends of `ledger`
and `rejections`, open transactions included, 3. until the followers have passed both. Everything decided below C is
before these ends. How far the tables are, PostgreSQL says itself (`wallet_complete_until`).
"""

import time
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Event, Thread

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from config.errors import WalletError
from config.logs import EventLog
from config.settings import Settings
from console.following import Follower
from console.outcomes import Source
from topics import group_offsets
from topics.clients import standalone
from topics.cluster import all_there, offsets_in, quiet_admin
from topics.names import Topics

log = EventLog("console.freshness")

LOOK_EVERY_S = 0.4
#: Samples for the charts: a quarter of an hour.
SAMPLE_EVERY_S = 2.0
MOST_SAMPLES = 450


@dataclass
class Sample:
    """One look at the pipeline as a whole, for charts."""

    at: datetime
    decided: int
    input_end: int


@dataclass
class Partition:
    """What is known of one partition."""

    input_end: int = 0
    #: Committed by the worker, a moment ago.
    decided: int = 0
    #: The same, once the followers have seen the outcomes.
    seen: int = 0
    #: Committed, and not passed by the followers yet: the offset and the two ends.
    pending: tuple[int, int, int] | None = None


class Freshness(Thread):
    """Looks at Kafka until `stop` is set, and answers from memory."""

    def __init__(self, settings: Settings, ledger: Follower, rejections: Follower, stop: Event) -> None:
        super().__init__(name="console-freshness", daemon=True)
        self._settings, self._ledger, self._rejections, self._stopping = settings, ledger, rejections, stop
        self._names = Topics.of(settings)
        self._partitions = {at: Partition() for at in range(settings.partitions)}
        #: When the newest look began whose answers are here, by the monotonic clock.
        self.looked_at = 0.0
        self.samples: deque[Sample] = deque(maxlen=MOST_SAMPLES)
        #: Why the last look failed; None if it did not.
        self.problem: str | None = "it was not asked yet"

    # -- answers

    def decided(self, partition: int) -> int:
        """Everything below this input offset is decided, and the followers have seen the outcomes."""
        return self._partitions[partition].seen

    def lag(self) -> dict[int, tuple[int, int]]:
        """By partition: up to where the worker has committed, and the end of the input."""
        return {at: (one.decided, one.input_end) for at, one in self._partitions.items()}

    def has_not(self, source: Source, asked_at: float) -> bool:
        """Whether a look that began after `asked_at` has seen that the input does not reach this position."""
        return self.looked_at > asked_at and source[1] >= self._partitions[source[0]].input_end

    # -- the thread

    def run(self) -> None:
        """Look, and again after a failure."""
        sampled_at, failed = 0.0, False
        while not self._stopping.is_set():
            consumer: Consumer | None = None
            try:
                admin = quiet_admin(self._settings)
                # It never joins this group. Ask for what is committed, without waiting for open transactions.
                group, level = self._settings.group, "read_uncommitted"
                consumer = standalone(self._settings, group, log_level=0, isolation_level=level)
                while not self._stopping.wait(LOOK_EVERY_S):
                    self._look(admin, consumer)
                    self.problem, failed = None, False
                    if time.monotonic() - sampled_at >= SAMPLE_EVERY_S:
                        sampled_at = time.monotonic()
                        self._sample()
            except (WalletError, KafkaException) as error:
                self.problem = str(error)
                if not failed:
                    log.warning("freshness_not_known", reason=str(error))
                failed = True
                self._stopping.wait(1.0)
            finally:
                if consumer is not None:
                    consumer.close()

    def _look(self, admin: AdminClient, consumer: Consumer) -> None:
        began_at = time.monotonic()
        names, partitions = self._names, [*self._partitions]
        input_ends = offsets_in(admin, [(names.transactions, at) for at in partitions])
        # 1. What is decided, 2. then the ends of the topics: in this order.
        committed = {
            at: max(0, one.offset)
            for at, one in group_offsets.asked_by(
                consumer, [TopicPartition(names.transactions, at) for at in partitions]
            ).items()
        }
        ends = all_there(
            admin, [(topic, at) for topic in (names.ledger, names.rejections) for at in partitions]
        )
        for at, partition in self._partitions.items():
            partition.input_end = input_ends[names.transactions, at].end
            partition.decided = committed[at]
            if partition.pending is None:
                partition.pending = committed[at], ends[names.ledger, at], ends[names.rejections, at]
            self._pass(at, partition)
        self.looked_at = began_at

    def _pass(self, at: int, partition: Partition) -> None:
        """What is pending is seen, once the followers have passed both ends."""
        ledger, rejections = self._ledger.positions.get(at), self._rejections.positions.get(at)
        if partition.pending is None or ledger is None or rejections is None:
            return
        # 3. The followers.
        decided, ledger_end, rejections_end = partition.pending
        if ledger >= ledger_end and rejections >= rejections_end:
            partition.seen, partition.pending = decided, None

    def _sample(self) -> None:
        lag = self.lag().values()
        self.samples.append(Sample(datetime.now(UTC), sum(one for one, _ in lag), sum(end for _, end in lag)))
