"""The PostgreSQL side of a sink: writes a batch's rows and positions in one transaction, until it succeeds.

PostgreSQL may go away at any line here. Nothing is lost and nothing comes twice, because after every failure
the positions are read again: they show whether the batch is written. It may also come back restored from a
backup; then positions are not as they were left, and `Lost` says so before anything is written.
"""

import time
from collections.abc import Callable, Collection, Mapping
from datetime import date
from threading import Event
from typing import TypeVar

import psycopg

from config.asking import ask_again, growing
from config.errors import ConfigurationError, NotReachable, Refused
from config.logs import EventLog
from config.settings import Settings
from sinks import positions
from sinks.batch import Batch, Prepared, prepare, write_or_compare
from sinks.observer import Observer
from sinks.positions import Holder, NotAsLeft, Origin, Position
from sinks.postgres import Connection, connect, reason_to_wait
from sinks.postgres.migrations import check
from sinks.postgres.months import make_months, make_months_ahead, months_of
from sinks.sink import Sink
from sinks.tables import refuse_missing_rights
from topics.cluster import Offsets
from vitals import spans

log = EventLog("sinks.writer")

T = TypeVar("T")

#: How often to check the months ahead, and how soon again if a lock was in the way.
MONTHS_EVERY_S, MONTHS_AGAIN_S = 3_600.0, 60.0


class Writer:
    """Writes one sink's batches for one owner. Not for several threads."""

    def __init__(self, settings: Settings, sink: Sink, owner: str, stop: Event, observer: Observer) -> None:
        self._settings = settings
        self._sink = sink
        self._holder = Holder(sink.name, sink.topic, owner)
        self._session_name = positions.session_name(sink.name, owner)
        self._stop = stop
        self._observer = observer
        self._months: set[date] = set()
        self._months_ahead_at_s = float("-inf")
        self._connection = self._connect(settings.startup_wait_s)
        try:
            self._until_done(self._check)
        except BaseException:
            self.close()
            raise

    def _check(self) -> None:
        check(self._connection)
        refuse_missing_rights(self._connection, [table.name for table, _ in self._sink.rows(()).tables])

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def claim(self, logs: Mapping[int, Offsets], origin: Origin) -> dict[int, Position] | None:
        """Become the owner of these partitions of this topic and return their positions; None if stopped.

        Raises what `positions.claim` raises.
        """
        return self._until_done(lambda: self._claim(logs, origin))

    def _claim(self, logs: Mapping[int, Offsets], origin: Origin) -> dict[int, Position]:
        # The months seen by this session may be gone: the database may have been restored from a backup since.
        check(self._connection)
        self._months.clear()
        self._months_ahead_at_s = float("-inf")
        try:
            return {
                partition: positions.claim(
                    self._connection, self._holder, origin, partition, self._settings.partitions, log
                )
                for partition, log in logs.items()
            }
        except psycopg.errors.LockNotAvailable:
            limit_s = self._settings.transaction_timeout_s
            if ended := positions.end_hung_sessions(self._connection, self._sink.role, self._holder, limit_s):
                log.warning("hung_sessions_ended", sink=self._sink.name, sessions=ended, open_for_s=limit_s)
            raise

    def write(self, prepared: Prepared) -> bool:
        """Write a batch, waiting for PostgreSQL as long as it takes; False if stopped meanwhile.

        Raises Lost when a position is not as it was left, Stopped when the rows contradict the tables.
        """
        started = time.monotonic()
        written = self._until_done(lambda: self._write_what_is_missing(prepared))
        if written:
            batch = prepared.batch
            took_s, group = time.monotonic() - started, self._settings.sink_group(self._sink.name)
            self._observer.wrote(self._sink.name, batch.records, took_s)
            spans.batch(self._sink.topic, group, batch.read(), took_s, sink=self._sink.name)
            tables = [*prepared.fresh.tables, *prepared.replayed.tables]
            newest_ms = batch.fresh[-1].timestamp()[1] if batch.fresh else None
            self._observer.rows(self._sink.name, tables, newest_ms)
        return bool(written)

    def look(self, batch: Batch) -> bool:
        """Check, without writing, that the positions are as they were left; raises Lost if they are not.

        Waits for PostgreSQL as `write` does; False if stopped meanwhile.
        """
        return self._until_done(lambda: self._positions_of(batch)) is not None

    def _positions_of(self, batch: Batch) -> dict[int, int]:
        """The positions of the batch's partitions, each of them before the batch or behind it."""
        next_offsets = positions.owned(self._connection, self._holder)
        left_at = dict(batch.others) | {move.partition: move.expected for move in batch.moves}
        moved_to = {move.partition: move.next_offset for move in batch.moves}
        if lost := {
            partition: at
            for partition, at in left_at.items()
            if next_offsets.get(partition) not in {at, moved_to.get(partition, at)}
        }:
            raise positions.told_apart(self._connection, self._holder, lost)
        return next_offsets

    def _write_what_is_missing(self, prepared: Prepared) -> bool:
        """One attempt. An earlier one may have committed although its answer never came."""
        batch = prepared.batch
        next_offsets = self._positions_of(batch)
        missing = {m.partition for m in batch.moves if next_offsets[m.partition] == m.expected}
        if len(missing) < len(batch.moves):
            prepared = prepare(self._sink, batch.only(missing))
        try:
            write_or_compare(self._sink, prepared, self._transaction)
        except NotAsLeft as fence:
            expected = {m.partition: m.expected for m in batch.moves if m.partition in fence.partitions}
            raise positions.told_apart(self._connection, self._holder, expected) from None
        return True

    def _transaction(self, prepared: Prepared) -> None:
        # In transactions of their own: they lock wallets, and must not hold that lock while rows are copied.
        self._make_months(prepared.fresh.days, prepared.replayed.days)
        with self._connection.transaction():
            # 1. The positions: a zombie is refused before it writes, and a new owner of a partition waits
            #    for this transaction.
            positions.advance(self._connection, self._holder, prepared.batch.moves)
            # 2. The rows.
            prepared.put(self._connection)

    def _make_months(self, fresh: Collection[int], replayed: Collection[int]) -> None:
        if not (fresh or replayed):
            return
        if time.monotonic() >= self._months_ahead_at_s:
            made = make_months_ahead(self._connection, self._settings)
            self._months_ahead_at_s = time.monotonic() + (MONTHS_EVERY_S if made else MONTHS_AGAIN_S)
        needed = months_of(fresh) - self._months
        make_months(self._connection, needed, self._settings, stop=self._stop)
        self._months |= needed
        compared = months_of(replayed) - self._months
        make_months(self._connection, compared, self._settings, unless_sealed=True, stop=self._stop)

    def _until_done(self, attempt: Callable[[], T]) -> T | None:
        """Try until it works; while PostgreSQL is away, wait with growing pauses and on new connections."""
        away = False

        def connected() -> T:
            nonlocal away
            try:
                if self._connection.closed:
                    self._connect_again()
                return attempt()
            except (psycopg.Error, NotReachable) as error:
                doing = f"sink {self._sink.name} cannot write its rows"
                reason = reason_to_wait(error, doing, self._connection)
                if not away:
                    log.warning("waiting_for_postgres", sink=self._sink.name, reason=reason)
                self._observer.waiting(self._sink.name, reason)
                away = True
                raise NotReachable(reason) from None

        try:
            result = ask_again(connected, NotReachable, growing(self._settings.retry_wait_s), stop=self._stop)
        except NotReachable:
            return None
        if away:
            log.info("postgres_is_back", sink=self._sink.name)
            self._observer.goes_on(self._sink.name)
        return result

    def _connect_again(self) -> None:
        try:
            self._connection = self._connect(wait_s=0)
        except (ConfigurationError, Refused) as refusal:
            # It was right before: a backup that replaces the database may be restored in a moment.
            raise NotReachable(str(refusal)) from None

    def _connect(self, wait_s: float) -> Connection:
        return connect(self._settings, self._sink.role, wait_s=wait_s, name=self._session_name)
