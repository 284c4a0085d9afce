"""Runs sinks: each one a thread, a consumer of its topic's group and a connection to Postgres.

One batch from top to bottom: records are gathered from Kafka's queue (`_gather`), told apart by position
into new ones and ones written before (`_batch`), made into rows (`prepare`), written with their positions
in one transaction (`sinks.writer`), and only then told to the group, for tools that show lag. Where a sink
really stands is in Postgres. While one batch is being written, by a thread of its own, the next one is
gathered and prepared; no more than these two are in memory.
"""

import os
import socket
import time
import uuid
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event, Thread

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from config.clients import librdkafka
from config.cluster import check
from config.errors import ConfigurationError, NotReachable, Stopped
from config.logs import EventLog
from config.settings import Settings
from config.topics import Topics
from sinks.ledger import LedgerSink
from sinks.observer import Observer
from sinks.positions import Fenced, Move, Position
from sinks.rejections import RejectionSink
from sinks.sink import Record, Sink
from sinks.snapshots import SnapshotSink
from sinks.writer import Batch, Writer, prepare

log = EventLog("sinks.consumer")

NAMES = ("ledger", "snapshots", "rejections")

#: Records taken from librdkafka at a time, so that a batch of large ones is noticed before it is all there.
SLICE_RECORDS = 250
BATCH_BYTES = 16 * 1024 * 1024
#: What librdkafka fetches ahead while Postgres works.
QUEUE_KBYTES = 16 * 1024
#: Answers of Kafka that waiting does not change.
FINAL = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
    }
)
ASK_S = 10.0
JOIN_S = 0.2
#: A write may wait long for Postgres; who is thought dead meanwhile is fenced, so being patient is safe.
MAX_POLL_INTERVAL_MS = 600_000


def run(settings: Settings, names: Sequence[str], stop: Event, observer: Observer | None = None) -> None:
    """Run these sinks until `stop` is set, which one that fails does too; raises the first failure.

    Raises WalletErrors only, among them NotReachable at the start and Stopped when a sink must not go on.
    """
    topics = Topics.of(settings)
    sinks: dict[str, Sink] = {
        "ledger": LedgerSink(topics.ledger),
        "snapshots": SnapshotSink(topics.snapshots),
        "rejections": RejectionSink(topics.rejections),
    }
    if unknown := set(names) - set(sinks):
        raise ConfigurationError(f"no such sink: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    check(settings)
    failures: list[BaseException] = []
    threads = [
        Thread(
            target=_run_one,
            name=f"sink-{name}",
            args=(settings, sinks[name], stop, observer or Observer(), failures),
        )
        for name in dict.fromkeys(names)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            # In short pieces, so that the main thread goes on to hear signals.
            thread.join(JOIN_S)
    if failures:
        raise failures[0]


def _run_one(
    settings: Settings, sink: Sink, stop: Event, observer: Observer, failures: list[BaseException]
) -> None:
    try:
        Consumption(settings, sink, stop, observer).run()
    except BaseException as error:  # noqa: BLE001 - raised again by run, in the thread that called it
        log.warning("sink_stopped", sink=sink.name, reason=str(error) or type(error).__name__)
        failures.append(error)
        stop.set()


class Consumption:
    """One sink's consumer, from joining the group to leaving it."""

    def __init__(self, settings: Settings, sink: Sink, stop: Event, observer: Observer) -> None:
        self._settings = settings
        self._sink = sink
        self._stop = stop
        self._observer = observer
        owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4()}"
        self._writer = Writer(settings, sink, owner, stop, observer)
        self._hand = ThreadPoolExecutor(1, thread_name_prefix=f"sink-{sink.name}-writer")
        self._in_hand: tuple[Batch, Future[bool]] | None = None
        #: Of the partitions that are ours; next_offset counts the batch that is being written as done.
        self._positions: dict[int, Position] = {}
        #: Partitions that another owner took, and until when the group may still say that they are ours.
        self._fenced: dict[int, float] = {}
        self._failure: BaseException | None = None
        self._kafka_away = False
        self._consumer = Consumer(
            librdkafka(
                settings,
                group_id=settings.sink_group(sink.name),
                enable_auto_commit=False,
                isolation_level="read_committed",
                auto_offset_reset="error",
                partition_assignment_strategy="cooperative-sticky",
                session_timeout_ms=int(settings.session_timeout_s * 1_000),
                max_poll_interval_ms=MAX_POLL_INTERVAL_MS,
                queued_max_messages_kbytes=QUEUE_KBYTES,
            )
            | {"error_cb": self._kafka_error}
        )

    def run(self) -> None:
        """Read and write until told to stop; then leave the group, with nothing begun left undone."""
        try:
            self._consumer.subscribe(
                [self._sink.topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
            )
            while not self._stop.is_set():
                records = self._gather()
                self._raise_failure()
                if batch := self._batch(records):
                    self._write(batch)
                elif self._in_hand and self._in_hand[1].done():
                    self._finish()
            self._finish()
        finally:
            # The one in hand is finished even if the next one failed: what was begun is not lost.
            self._hand.shutdown()
            self._consumer.close()
            self._writer.close()

    # -- reading

    def _gather(self) -> list[Record]:
        """Records for one batch: as many as it may have, or what comes within `WALLET_SINK_WAIT_MS`."""
        deadline = time.monotonic() + self._settings.sink_wait_ms / 1_000
        gathered: list[Record] = []
        size = 0
        while len(gathered) < self._settings.sink_batch_rows and size < BATCH_BYTES:
            wanted = min(SLICE_RECORDS, self._settings.sink_batch_rows - len(gathered))
            some = self._consumer.consume(wanted, max(0.0, deadline - time.monotonic()))
            gathered += some
            size += sum(map(len, some))
            if len(some) < wanted or self._failure:
                break
        return gathered

    def _batch(self, records: Iterable[Record]) -> Batch | None:
        """Split by position; what is of a partition that we do not own any more falls out."""
        fresh: list[Record] = []
        replayed: list[Record] = []
        stands = {partition: position.next_offset for partition, position in self._positions.items()}
        for record in records:
            if error := record.error():
                self._record_error(record, error)
                continue
            self._kafka_away = False
            partition, offset = record.partition(), record.offset()
            assert partition is not None and offset is not None  # noqa: S101, PT018 - only of a record to be sent
            if offset >= stands.get(partition, offset + 1):
                (fresh if offset >= self._positions[partition].high_offset else replayed).append(record)
                stands[partition] = offset + 1
        moves = [
            Move(partition, position.next_offset, stands[partition])
            for partition, position in self._positions.items()
            if stands[partition] != position.next_offset
        ]
        return Batch(moves, fresh, replayed) if moves else None

    def _record_error(self, record: Record, error: KafkaError) -> None:
        where = f"{self._sink.topic} partition {record.partition()}"
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            raise Stopped(f"{where} does not hold the offset of the sink's position ({error.str()})")
        if error.fatal() or error.code() in FINAL:
            raise Stopped(f"{where} cannot be read: {error.str()}")
        log.warning("kafka_says", sink=self._sink.name, where=where, reason=error.str())

    # -- writing

    def _write(self, batch: Batch) -> None:
        """Prepare a batch while the one before is being written, then hand it over."""
        prepared = prepare(self._sink, batch)
        self._finish()
        if any(move.partition not in self._positions for move in batch.moves):
            prepared = prepare(self._sink, batch.only(self._positions))
        self._in_hand = prepared.batch, self._hand.submit(self._writer.write, prepared)
        for partition, _, next_offset in prepared.batch.moves:
            high_offset = max(next_offset, self._positions[partition].high_offset)
            self._positions[partition] = Position(next_offset, high_offset)

    def _finish(self) -> None:
        """Wait until what is in hand is written; raises what kept it from being written."""
        while self._in_hand:
            (batch, writing), self._in_hand = self._in_hand, None
            try:
                written = writing.result()
            except Fenced as fence:
                self._drop(fence.partitions)
                rest = prepare(self._sink, batch.only(self._positions))
                self._in_hand = rest.batch, self._hand.submit(self._writer.write, rest)
            else:
                if written:
                    self._tell_group(batch.moves)

    def _tell_group(self, moves: Iterable[Move]) -> None:
        offsets = [TopicPartition(self._sink.topic, move.partition, move.next_offset) for move in moves]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            log.debug("group_not_told", sink=self._sink.name, reason=str(error))

    def _drop(self, partitions: Collection[int]) -> None:
        """Let go of partitions that another owner took. The group should take them from us, too."""
        for partition in partitions:
            log.warning("fenced", sink=self._sink.name, partition=partition)
            del self._positions[partition]
            self._fenced[partition] = time.monotonic() + self._settings.session_timeout_s
        self._consumer.pause([TopicPartition(self._sink.topic, partition) for partition in partitions])

    # -- the group's rebalances; called from within consume and close

    def _assigned(self, _: Consumer, assigned: list[TopicPartition]) -> None:
        try:
            self._finish()
            found = self._claim([partition.partition for partition in assigned])
            self._consumer.incremental_assign(
                [TopicPartition(self._sink.topic, number, at.next_offset) for number, at in found.items()]
            )
            self._positions |= found
            log.info("assigned", sink=self._sink.name, partitions=sorted(self._positions))
            self._observer.assigned(self._sink.name, sorted(self._positions))
        except BaseException as error:  # noqa: BLE001 - librdkafka's callback would swallow it; raised after it
            self._failure = error

    def _claim(self, partitions: Iterable[int]) -> dict[int, Position]:
        """Positions of these partitions, now ours; raises Stopped for one outside of its topic's log."""
        logs = {number: self._ends(number) for number in partitions}
        found = self._writer.claim({number: begin for number, (begin, _) in logs.items()}) or {}
        for number, position in found.items():
            begin, end = logs[number]
            if not begin <= position.next_offset <= end:
                raise Stopped(
                    f"sink {self._sink.name} stands at offset {position.next_offset} of {self._sink.topic} "
                    f"partition {number}, which holds {begin} to {end}: records were deleted, or it is "
                    "another topic than this database was filled from"
                )
        return found

    def _ends(self, partition: int) -> tuple[int, int]:
        """First offset and end of a partition's log; waits for a Kafka that does not answer."""
        deadline = time.monotonic() + self._settings.startup_wait_s
        while True:
            try:
                ends = self._consumer.get_watermark_offsets(
                    TopicPartition(self._sink.topic, partition), ASK_S
                )
            except KafkaException as error:
                reason = error.args[0].str()
            else:
                if ends:
                    return ends
                reason = "time-out"
            self._say_kafka_is_away(reason)
            if self._stop.wait(1.0) or time.monotonic() > deadline:
                raise NotReachable(
                    f"Kafka does not tell the offsets of {self._sink.topic} partition {partition}: {reason}"
                )

    def _revoked(self, _: Consumer, revoked: list[TopicPartition]) -> None:
        """Finish what is in hand, so that the next owner begins after it."""
        try:
            self._finish()
        except BaseException as error:  # noqa: BLE001 - librdkafka's callback would swallow it; raised after it
            self._failure = error
        for partition in revoked:
            self._positions.pop(partition.partition, None)
            self._fenced.pop(partition.partition, None)
        log.info("revoked", sink=self._sink.name, partitions=sorted(p.partition for p in revoked))

    def _raise_failure(self) -> None:
        if self._failure:
            raise self._failure
        now = time.monotonic()
        if late := [partition for partition, deadline in self._fenced.items() if now > deadline]:
            raise Stopped(
                f"sink {self._sink.name} lost {self._sink.topic} partitions {late} to another owner, yet its "
                "group says they are its own: does another pipeline write to this database?"
            )

    # -- Kafka away: librdkafka goes on trying by itself

    def _kafka_error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._say_kafka_is_away(error.str())

    def _say_kafka_is_away(self, reason: str) -> None:
        self._observer.waiting(self._sink.name, reason)
        if not self._kafka_away:
            log.warning("waiting_for_kafka", sink=self._sink.name, reason=reason)
        self._kafka_away = True
