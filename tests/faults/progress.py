"""How long the workers and the sinks stood still, seen from outside by looking again and again."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from confluent_kafka import Consumer, KafkaException, TopicPartition

from config.settings import Settings
from topics.clients import librdkafka
from topics.names import Topics

LOOK_S = 0.2
ASK_S = 2.0
#: The end of a topic counts the marks that end transactions, so a reader of everything is a few offsets short.
MARKS = 8
#: A client that has failed for so long is made again, and the report says why: who cannot see must not tell of a stall.
RENEW_S = 30.0
#: What is shorter than this is the rhythm of batches.
WORTH_TELLING_S = 1.0

#: The worker or a sink by its name, and the partition.
Reader = tuple[str, int]
#: What counts as progress of a sink, and which topic it reads.
SINKS = ("ledger", "snapshots", "rejections")


@dataclass(frozen=True)
class Stall:
    """One reader made no progress in one partition, from one second of the run to another, with records to read."""

    #: `worker` or `sink`.
    reader: str
    partition: int
    from_s: float
    to_s: float

    @property
    def length_s(self) -> float:
        """How long it was."""
        return self.to_s - self.from_s


@dataclass
class _Standing:
    position: int
    #: When it was last seen to move, or to have nothing to do.
    since: float


class _Clients:
    """What one thread asks Kafka with; neither ever subscribes.

    An admin client could be asked as well, but a question about a group that runs into its time-out may end the whole
    program by an assertion (librdkafka issue 4605).
    """

    def __init__(self, settings: Settings) -> None:
        self.group, self.log = (
            Consumer(
                librdkafka(
                    settings,
                    group_id=settings.group,
                    isolation_level=isolation,
                    enable_auto_commit=False,
                    topic_metadata_refresh_interval_ms=2_000,
                    log_level=0,
                )
            )
            for isolation in ("read_uncommitted", "read_committed")
        )

    def close(self) -> None:
        """Close both."""
        self.group.close()
        self.log.close()


class Progress:
    """Looks at the group's offsets and at the sinks' positions in a thread of its own.

    What cannot be seen, since a server is away, has not moved. A position that was set back has not either: what
    counts from then on is progress from there.
    """

    def __init__(self, settings: Settings, began: float) -> None:
        self._settings = settings
        self._topics = Topics.of(settings)
        self._began = began
        self._connection: psycopg.Connection[Any] | None = None
        self._standing: dict[Reader, _Standing] = {}
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._watch, args=[look], name="progress")
            for look in (self._worker, self._sinks)
        ]
        self._lock = threading.Lock()
        self.stalls: list[Stall] = []
        #: Why clients had failed for RENEW_S, and were made again.
        self.renewed: list[str] = []

    def start(self) -> None:
        """Begin to look."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Look no more; what stands still at this moment is told as well. A second time does nothing."""
        if self._ended.is_set():
            return
        self._ended.set()
        for thread in self._threads:
            thread.join()
        if self._connection:
            self._connection.close()
        for (reader, partition), standing in self._standing.items():
            self._tell(reader, partition, standing.since, time.monotonic())

    def standing(self, for_s: float) -> list[str]:
        """Who has had something to do and made no progress for so long at this moment."""
        now = time.monotonic()
        with self._lock:
            return [
                f"{reader} in partition {partition} at {standing.position}"
                for (reader, partition), standing in self._standing.items()
                if now - standing.since > for_s
            ]

    def _watch(self, look: Callable[[_Clients], dict[Reader, tuple[int, int]]]) -> None:
        clients, looked = _Clients(self._settings), time.monotonic()
        while not self._ended.wait(LOOK_S):
            try:
                seen = look(clients)
            except (KafkaException, psycopg.Error) as failure:
                if time.monotonic() - looked > RENEW_S:
                    self.renewed.append(f"{look.__name__}: {failure}")
                    clients.close()
                    clients, looked = _Clients(self._settings), time.monotonic()
                continue
            looked = now = time.monotonic()
            with self._lock:
                for (reader, partition), (position, end) in seen.items():
                    self._see(reader, partition, position, end, now)
        clients.close()

    def _see(self, reader: str, partition: int, position: int, end: int, now: float) -> None:
        standing = self._standing.setdefault((reader, partition), _Standing(position, now))
        if position > standing.position or end - position <= MARKS:
            self._tell(reader, partition, standing.since, now)
            standing.since = now
        standing.position = position

    def _tell(self, reader: str, partition: int, since: float, now: float) -> None:
        if now - since >= WORTH_TELLING_S:
            role = "worker" if reader == "worker" else "sink"
            self.stalls.append(Stall(role, partition, since - self._began, now - self._began))

    def _worker(self, clients: _Clients) -> dict[Reader, tuple[int, int]]:
        """The group's offset and the read-committed end of each partition of the input."""
        wanted = [TopicPartition(self._topics.transactions, at) for at in range(self._settings.partitions)]
        found = clients.group.committed(wanted, timeout=ASK_S)
        ends = self._ends(clients, self._topics.transactions)
        return {
            ("worker", at.partition): (at.offset, ends[at.partition])
            for at in found
            if at.offset >= 0 and at.partition in ends
        }

    def _sinks(self, clients: _Clients) -> dict[Reader, tuple[int, int]]:
        """The position of each sink and the read-committed end of what it reads, by partition."""
        if self._connection is None or self._connection.closed or self._connection.broken:
            if self._connection:
                self._connection.close()
            dsn = self._settings.postgres.get_secret_value()
            self._connection = psycopg.connect(
                dsn, autocommit=True, connect_timeout=2, tcp_user_timeout=2_000
            )
        query = "SELECT sink, partition, next_offset FROM sink_positions WHERE sink = ANY(%s)"
        found: Sequence[tuple[str, int, int]] = self._connection.execute(query, [[*SINKS]]).fetchall()
        ends = {sink: self._ends(clients, getattr(self._topics, sink)) for sink in SINKS}
        return {
            (sink, partition): (position, ends[sink][partition])
            for sink, partition, position in found
            if partition in ends[sink]
        }

    def _ends(self, clients: _Clients, topic: str) -> dict[int, int]:
        """Where each partition ends for a reader of what is committed."""
        partitions = range(self._settings.partitions)
        asked = (
            clients.log.get_watermark_offsets(TopicPartition(topic, at), timeout=ASK_S) for at in partitions
        )
        return {at: found[1] for at, found in zip(partitions, asked, strict=True) if found}


def longest(stalls: Sequence[Stall], reader: str, from_s: float, to_s: float) -> float:
    """The longest stall of this reader that began in this span, in seconds; 0 if there was none."""
    return max(_lengths(stalls, reader, from_s, to_s), default=0.0)


def _lengths(stalls: Sequence[Stall], reader: str, from_s: float, to_s: float) -> Iterator[float]:
    return (stall.length_s for stall in stalls if stall.reader == reader and from_s <= stall.from_s < to_s)
