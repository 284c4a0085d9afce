"""Up to which input positions the tables are complete; every answer carries this.

A mark joins three things, read in this order: 1. the input offset C up to which the worker has committed, 2. then the
ends of `ledger` and `rejections`, open transactions included, 3. the last record before each end, once the followers
have passed it. Everything decided below C is before these ends. So once both sinks' positions, which commit with the
rows, are past these records, every input record below C is in the tables.
"""

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Event, Lock, Thread
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from config.errors import WalletError
from config.logs import EventLog
from config.settings import Settings
from config.times import rfc3339
from console.database import Connection, rows
from console.following import Follower
from schemas.records import from_ms
from topics.clients import looking
from topics.cluster import ASK_S, all_there, offsets_of, quiet_admin
from topics.names import Topics

log = EventLog("console.freshness")

LOOK_EVERY_S = 0.4
#: Marks that are kept of a partition; beyond that every second one goes, so that they reach back ever further.
MOST_MARKS = 1_024
#: Samples for the charts: a quarter of an hour.
SAMPLE_EVERY_S = 2.0
MOST_SAMPLES = 450

#: Where the sinks are: topic and partition, next offset.
Positions = Mapping[tuple[str, int], int]


class Mark(NamedTuple):
    """Rows before these offsets of `ledger` and `rejections` hold all of the input below `decided`."""

    decided: int
    ledger: int
    rejections: int
    last_ms: int | None
    at_end: bool


@dataclass
class Sample:
    """One look at the pipeline as a whole, for charts."""

    at: datetime
    decided: int
    input_end: int


@dataclass
class Partition:
    """What is known of one partition."""

    marks: deque[Mark] = field(default_factory=deque)
    #: Found, and not passed by the followers yet: the offset, the two ends, whether it was all of the input.
    pending: tuple[int, int, int, bool] | None = None
    input_end: int = 0
    decided: int = 0


class CompleteUntil(NamedTuple):
    """Every input record below these positions is in the tables."""

    recorded_at: datetime | None
    positions: dict[int, int]

    def fields(self) -> dict[str, Any]:
        """As the API writes it."""
        return {
            "recorded_at": None if self.recorded_at is None else rfc3339(self.recorded_at),
            "positions": {str(at): str(offset) for at, offset in self.positions.items()},
        }

    def has(self, source: tuple[int, int]) -> bool:
        """Whether what came of this input record is in the tables."""
        return self.positions.get(source[0], 0) > source[1]


class Freshness(Thread):
    """Looks at Kafka until `stop` is set, and answers from memory."""

    def __init__(self, settings: Settings, ledger: Follower, rejections: Follower, stop: Event) -> None:
        super().__init__(name="console-freshness", daemon=True)
        self._settings, self._ledger, self._rejections, self._stopping = settings, ledger, rejections, stop
        self._names = Topics.of(settings)
        self._lock = Lock()
        self._partitions = {at: Partition() for at in range(settings.partitions)}
        self.samples: deque[Sample] = deque(maxlen=MOST_SAMPLES)
        #: Why the last look failed; None if it did not.
        self.problem: str | None = "it was not asked yet"

    # -- answers

    def complete_until(self, positions: Positions) -> CompleteUntil:
        """How complete tables are whose sinks are at these positions, read before or with the rows."""
        found, lagging, all_of_it = dict[int, int](), list[int](), list[int]()
        with self._lock:
            for at, partition in self._partitions.items():
                ledger = positions.get((self._names.ledger, at), 0)
                rejections = positions.get((self._names.rejections, at), 0)
                mark = next(
                    (
                        one
                        for one in reversed(partition.marks)
                        if one.ledger <= ledger and one.rejections <= rejections
                    ),
                    None,
                )
                found[at] = mark.decided if mark else 0
                if mark and mark.last_ms is not None:
                    (all_of_it if mark.at_end else lagging).append(mark.last_ms)
        # A partition that is read to its end misses nothing, however old its last record is.
        times = [min(lagging)] if lagging else [max(all_of_it)] if all_of_it else []
        return CompleteUntil(from_ms(times[0]) if times else None, found)

    def decided(self, partition: int) -> int:
        """Everything below this input offset is decided, and the followers have seen the outcomes."""
        with self._lock:
            marks = self._partitions[partition].marks
            return marks[-1].decided if marks else 0

    def input_end(self, partition: int) -> int:
        """The end of the input, a moment ago."""
        return self._partitions[partition].input_end

    def lag(self) -> dict[int, tuple[int, int]]:
        """By partition: up to where the worker has committed, and the end of the input."""
        return {at: (one.decided, one.input_end) for at, one in self._partitions.items()}

    # -- the thread

    def run(self) -> None:
        """Look, and again after a failure."""
        sampled_at, failed = 0.0, False
        while not self._stopping.is_set():
            consumer: Consumer | None = None
            try:
                admin = quiet_admin(self._settings)
                # It never joins this group. Ask for what is committed, without waiting for open transactions.
                conf = looking(self._settings, self._settings.group, isolation_level="read_uncommitted")
                consumer = Consumer(conf | {"log_level": 0})
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
        names, partitions = self._names, [*self._partitions]
        input_ends = offsets_of(admin, [(names.transactions, at) for at in partitions])
        # 1. What is decided, 2. then the ends of the topics: in this order.
        committed = {
            one.partition: max(0, one.offset)
            for one in consumer.committed(
                [TopicPartition(names.transactions, at) for at in partitions], ASK_S
            )
            if one.error is None
        }
        ends = all_there(
            admin, [(topic, at) for topic in (names.ledger, names.rejections) for at in partitions]
        )
        with self._lock:
            for at, partition in self._partitions.items():
                partition.input_end = input_ends[names.transactions, at].end
                partition.decided = committed.get(at, partition.decided)
                if partition.pending is None and at in committed:
                    whole = committed[at] >= partition.input_end
                    partition.pending = (
                        committed[at], ends[names.ledger, at], ends[names.rejections, at], whole,
                    )  # fmt: skip
                self._pass(at, partition)

    def _pass(self, at: int, partition: Partition) -> None:
        """Make a mark of what is pending, once the followers have passed both ends."""
        ledger, rejections = self._ledger.places.get(at), self._rejections.places.get(at)
        if partition.pending is None or ledger is None or rejections is None:
            return
        decided, ledger_end, rejections_end, whole = partition.pending
        if ledger.position < ledger_end or rejections.position < rejections_end:
            return
        # 3. The last records; if more have come since, the mark comes later but is not wrong.
        times = [one for one in (ledger.last_ms, rejections.last_ms) if one is not None]
        mark = Mark(decided, ledger.seen, rejections.seen, max(times, default=None), whole)
        marks = partition.marks
        if marks and marks[-1][:3] == mark[:3]:
            marks.pop()
        marks.append(mark)
        if len(marks) > MOST_MARKS:
            partition.marks = deque([*[*marks][::2], mark])
        partition.pending = None

    def _sample(self) -> None:
        lag = self.lag().values()
        self.samples.append(Sample(datetime.now(UTC), sum(one for one, _ in lag), sum(end for _, end in lag)))


async def sink_positions(connection: Connection) -> dict[tuple[str, int], int]:
    """Positions of the sinks whose rows are outcomes of input records."""
    found = await rows(
        connection,
        "SELECT topic, partition, next_offset FROM sink_positions WHERE sink IN ('ledger', 'rejections')",
    )
    return {(topic, partition): offset for topic, partition, offset in found}
