"""Run sinks: each one a thread, a consumer of its topic's group and a connection to PostgreSQL.

One batch from top to bottom: records are gathered from Kafka's queue (`sinks.topic`), divided by position
into new ones and ones written before (`_batch`), made into rows (`prepare`), written with their positions
in one transaction (`sinks.writer`), and only then committed to the group, for tools that show lag. The
positions that count are in PostgreSQL. While a thread writes one batch, the next one is gathered and
prepared; no more than these two are in memory.

Before every batch, and every few seconds without one, a sink checks that its positions are as it left them.
If not, another owner took them, or the database was restored from a backup: then the sink leaves its group,
joins it again to get its partitions, and continues from the positions that it finds.
"""

import os
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from threading import Event, Thread

from config.errors import ConfigurationError
from config.logs import EventLog
from config.settings import Settings
from sinks.archive.sink import ArchiveSink, Bell, Keeper
from sinks.batch import Batch, Prepared, prepare
from sinks.completeness import FOLLOWED, Completeness
from sinks.holdings import Holdings
from sinks.ledger import LedgerSink
from sinks.metrics import Vitals
from sinks.names import ARCHIVE, SINKS, topic_of
from sinks.observer import Observer, Observers
from sinks.positions import Lost, Move, Origin, Position
from sinks.rejections import RejectionSink
from sinks.sink import Record, Sink
from sinks.snapshots import SnapshotSink
from sinks.topic import TopicReader
from sinks.writer import Writer
from topics import rights
from topics.cluster import agreed
from topics.lag import OpenInput
from topics.names import Topics
from vitals.health import observed

log = EventLog("sinks.consumer")

JOIN_S = 0.2
#: How often a sink that writes nothing checks its positions.
LOOK_EVERY_S = 3.0


def run(
    settings: Settings,
    names: Sequence[str],
    stop: Event,
    open_input: OpenInput,
    observer: Observer | None = None,
) -> None:
    """Run these sinks until `stop` is set, which a failing sink also sets; raises the first failure.

    `open_input` is how the input is read: by the archive, and to know what is complete.
    Raises only WalletErrors, such as NotReachable at the start and Stopped when a sink must not continue.
    """
    wanted = sinks_of(settings, names)
    checked = _checked(settings, wanted, stop)
    if checked is None:
        return
    settings = checked
    vitals = Vitals(settings, {sink.name: sink.topic for sink in wanted})
    bell = Bell()
    follows = Completeness(settings, stop, open_input) if {*FOLLOWED} & {*names} else None
    observers = Observers(vitals, bell, *(one for one in (follows, observer) if one))
    failures: list[BaseException] = []
    keeper = Keeper(settings, open_input, bell, stop, vitals, failures) if ARCHIVE in names else None
    running = [_Running(settings, sink, stop, observers, failures) for sink in wanted]
    with closing(vitals), observed(settings, vitals):
        for one in running:
            one.start()
        if keeper:
            keeper.start()
        if follows:
            follows.start()
        for one in running:
            one.wait()
        if keeper:
            keeper.join()
        if follows:
            follows.join()
    if failures:
        raise failures[0]


def sinks_of(settings: Settings, names: Iterable[str]) -> list[Sink]:
    """The sinks with these names, each once; raises ConfigurationError for a name that no sink has."""
    topics, names = Topics.of(settings), dict.fromkeys(names)
    kinds: dict[str, Callable[[str], Sink]] = {
        kind.name: kind for kind in (LedgerSink, SnapshotSink, RejectionSink, ArchiveSink)
    }
    if unknown := names.keys() - kinds.keys():
        raise ConfigurationError(
            f"no such sink: {', '.join(sorted(unknown))}; choose from {', '.join(SINKS)}"
        )
    return [kinds[name](topic_of(topics, name)) for name in names]


def _require(settings: Settings, sinks: Sequence[Sink]) -> None:
    topics = Topics.of(settings)
    for sink in sinks:
        reads = (topics.ledger, topics.transactions) if sink.name == ARCHIVE else ()
        group = {settings.sink_group(sink.name): rights.READ}
        rights.require(settings, dict.fromkeys((sink.topic, *reads), rights.READ), group)


def _checked(settings: Settings, sinks: Sequence[Sink], stop: Event) -> Settings | None:
    """The settings with the pipeline's, once Kafka is as needed and we may read; None if stopped before that.

    librdkafka cannot be interrupted, so a thread asks; on a stop it is left behind, since nothing has begun.
    """
    failures: list[BaseException] = []
    found: list[Settings] = []

    def look() -> None:
        try:
            found.append(agreed(settings))
            _require(settings, sinks)
        except BaseException as error:  # noqa: BLE001 - raised again below
            failures.append(error)

    thread = Thread(target=look, name="sink-check", daemon=True)
    thread.start()
    while thread.is_alive() and not stop.is_set():
        # In short pieces, so that the main thread still gets signals.
        thread.join(JOIN_S)
    if failures:
        raise failures[0]
    return None if stop.is_set() else found[0]


class _Running:
    """One sink in its own thread. Until it has connected it owns nothing, and may be left behind."""

    def __init__(
        self, settings: Settings, sink: Sink, stop: Event, observer: Observer, failures: list[BaseException]
    ) -> None:
        self._settings, self._sink, self._stop, self._observer = settings, sink, stop, observer
        self._failures = failures
        self._connected = Event()
        self._thread = Thread(target=self._run, name=f"sink-{sink.name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wait(self) -> None:
        """Return when it has ended, or when it is stopped while it waits for PostgreSQL at its start."""
        while self._thread.is_alive() and (self._connected.is_set() or not self._stop.is_set()):
            self._thread.join(JOIN_S)

    def _run(self) -> None:
        try:
            consumption = Consumption(self._settings, self._sink, self._stop, self._observer)
            self._connected.set()
            consumption.run()
        except BaseException as error:  # noqa: BLE001 - raised again by run, in the thread that called it
            log.warning("sink_stopped", sink=self._sink.name, reason=str(error) or type(error).__name__)
            self._failures.append(error)
            self._stop.set()


class Consumption:
    """One sink's life, from joining its group to leaving it."""

    def __init__(self, settings: Settings, sink: Sink, stop: Event, observer: Observer) -> None:
        self._settings = settings
        self._sink = sink
        self._stop = stop
        self._observer = observer
        owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4()}"
        self._writer = Writer(settings, sink, owner, stop, observer)
        self._topic = TopicReader(settings, sink, stop, observer)
        self._hand = ThreadPoolExecutor(1, thread_name_prefix=f"sink-{sink.name}-writer")
        self._in_hand: tuple[Batch, Future[bool]] | None = None
        self._holdings = Holdings(settings, sink, observer)
        self._origin: Origin | None = None
        self._look_at_s = 0.0

    def run(self) -> None:
        """Read and write until stopped; then finish what is in hand and leave the group."""
        try:
            self._topic.join(self._assigned, self._revoked)
            while not self._stop.is_set():
                batch = self._batch(self._topic.gather(self._is_writing))
                if batch:
                    self._write(batch)
                elif not self._in_hand:
                    self._look()
                elif self._in_hand[1].done():
                    self._finish()
                self._holdings.check_fences()
                if self._holdings.astray:
                    self._join_anew()
            self._finish()
        finally:
            # The batch in hand is finished even if the next one failed.
            self._hand.shutdown()
            self._topic.leave()
            self._writer.close()

    def _is_writing(self) -> bool:
        return self._in_hand is not None and not self._in_hand[1].done()

    def _batch(self, records: Iterable[Record]) -> Batch | None:
        """Split by position; drops records of partitions that we no longer own."""
        fresh: list[Record] = []
        replayed: list[Record] = []
        next_offsets = self._holdings.next_offsets
        for record in records:
            partition, offset = record.partition(), record.offset()
            assert partition is not None and offset is not None  # noqa: S101, PT018 - only of a record to be sent
            if offset >= next_offsets.get(partition, offset + 1):
                (fresh if offset >= self._holdings.positions[partition].high_offset else replayed).append(
                    record
                )
                next_offsets[partition] = offset + 1
        moves = [
            Move(partition, position.next_offset, next_offsets[partition])
            for partition, position in self._holdings.positions.items()
            if next_offsets[partition] != position.next_offset
        ]
        moving = {move.partition for move in moves}
        others = {partition: at for partition, at in next_offsets.items() if partition not in moving}
        return Batch(moves, fresh, replayed, others) if moves else None

    def _write(self, batch: Batch) -> None:
        """Prepare a batch while the one before is being written, then hand it over."""
        prepared = prepare(self._sink, batch)
        if self._origin and not self._topic.is_still(self._origin):
            return
        self._finish()
        if not batch.partitions <= self._holdings.positions.keys():
            prepared = prepare(self._sink, batch.only(self._holdings.positions))
        self._hand_over(prepared)
        for move in prepared.batch.moves:
            self._holdings.move(move.partition, move.next_offset)

    def _hand_over(self, prepared: Prepared) -> None:
        self._in_hand = prepared.batch, self._hand.submit(self._writer.write, prepared)
        self._look_at_s = time.monotonic() + LOOK_EVERY_S

    def _look(self) -> None:
        """Check the positions from time to time."""
        if not self._holdings.positions or time.monotonic() < self._look_at_s:
            return
        nothing = Batch([], [], [], self._holdings.next_offsets)
        self._in_hand = nothing, self._hand.submit(self._writer.look, nothing)
        self._look_at_s = time.monotonic() + LOOK_EVERY_S

    def _finish(self) -> None:
        """Wait until the batch in hand is written; raises the error if it cannot be."""
        while self._in_hand:
            (batch, writing), self._in_hand = self._in_hand, None
            try:
                written = writing.result()
            except Lost as lost:
                self._holdings.lose(lost)
                rest = batch.only(self._holdings.positions)
                if rest.moves:
                    self._hand_over(prepare(self._sink, rest))
            else:
                if written and batch.moves:
                    self._topic.tell_group({move.partition: move.next_offset for move in batch.moves})
                    self._tell_reached()

    def _tell_reached(self) -> None:
        """Report this sink's positions in PostgreSQL; call it only while nothing is in hand."""
        self._observer.reached(self._sink.name, self._holdings.next_offsets)

    def _join_anew(self) -> None:
        """Ask the group for our partitions: an expelled member that claimed them itself would steal them."""
        self._finish()
        self._holdings.astray = False
        self._topic.join_anew(self._assigned, self._revoked)

    # -- the group's rebalances, in the middle of gather

    def _assigned(self, partitions: list[int]) -> None:
        self._finish()
        found = self._claim(partitions)
        self._topic.assign({partition: position.next_offset for partition, position in found.items()})
        self._holdings.gain(found)
        log.info("assigned", sink=self._sink.name, partitions=sorted(self._holdings.positions))
        self._observer.assigned(self._sink.name, sorted(self._holdings.positions))
        self._tell_reached()

    def _claim(self, partitions: Iterable[int]) -> dict[int, Position]:
        """Positions of these partitions, now ours; raises what `positions.claim` raises."""
        logs = {partition: self._topic.log(partition) for partition in partitions}
        if not logs:
            return {}
        self._origin = self._topic.origin()
        return self._writer.claim(logs, self._origin) or {}

    def _revoked(self, partitions: list[int]) -> None:
        """Finish the batch in hand, so that the next owner begins after it."""
        try:
            self._finish()
        finally:
            self._holdings.let_go(partitions)
            self._tell_reached()
        log.info("revoked", sink=self._sink.name, partitions=sorted(partitions))
