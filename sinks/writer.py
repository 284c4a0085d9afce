"""The Postgres side of a sink: a batch's rows and its positions in one transaction, tried until it is in.

Postgres may go away at any line here. Nothing is lost and nothing comes twice, because after every failure
the positions are read again: they say whether the batch is in.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date
from threading import Event
from typing import NamedTuple, TypeVar

import psycopg

from config.errors import NotReachable, Stopped
from config.logs import EventLog
from config.settings import Settings
from sinks import positions
from sinks.migrations import check
from sinks.months import make_months, make_months_ahead, months_of
from sinks.observer import Observer
from sinks.positions import Fenced, Move, Place, Position
from sinks.postgres import WRITER, Connection, connect, one_line
from sinks.sink import Record, Rows, Sink
from sinks.tables import copy, reconcile

log = EventLog("sinks.writer")

T = TypeVar("T")

FIRST_PAUSE_S = 0.1
#: Errors after which the same may work: also the server's answer to a process that was suspended in the middle
#: of a transaction, and that of a server which is a standby just now.
PASSING = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.IdleInTransactionSessionTimeout,
    psycopg.errors.TransactionTimeout,
    psycopg.errors.ReadOnlySqlTransaction,
    NotReachable,
)
MONTHS_EVERY_S = 3_600.0


class Batch(NamedTuple):
    """Records to write, and the moves of the positions of all their partitions."""

    moves: Sequence[Move]
    fresh: Sequence[Record]
    replayed: Sequence[Record]

    def only(self, partitions: Collection[int]) -> "Batch":
        """The part of the batch that is of these partitions."""
        return Batch(
            [move for move in self.moves if move.partition in partitions],
            [record for record in self.fresh if record.partition() in partitions],
            [record for record in self.replayed if record.partition() in partitions],
        )

    def as_replay(self) -> "Batch":
        """The same batch with every record to be compared."""
        return Batch(self.moves, [], [*self.replayed, *self.fresh])


class Prepared(NamedTuple):
    """A batch with the rows of its records."""

    batch: Batch
    fresh: Rows
    replayed: Rows


def prepare(sink: Sink, batch: Batch) -> Prepared:
    """Make a batch's rows; raises Stopped for a record that does not decode."""
    return Prepared(batch, sink.rows(batch.fresh), sink.rows(batch.replayed))


class Writer:
    """Writes one sink's batches for one owner. Not for several threads."""

    def __init__(self, settings: Settings, sink: Sink, owner: str, stop: Event, observer: Observer) -> None:
        self._settings = settings
        self._sink = sink
        self._place = Place(sink.name, sink.topic, owner)
        self._session_name = positions.session_name(sink.name, owner)
        self._stop = stop
        self._observer = observer
        self._months: set[date] = set()
        self._months_checked_s = float("-inf")
        self._connection = self._connect(settings.startup_wait_s)
        check(self._connection)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def claim(self, begins: Mapping[int, int]) -> dict[int, Position] | None:
        """Become the owner of these partitions and return their positions; None if told to stop meanwhile.

        `begins` are the first offsets of their logs.
        """
        return self._until_done(lambda: self._claim(begins))

    def _claim(self, begins: Mapping[int, int]) -> dict[int, Position]:
        try:
            return {
                partition: positions.claim(self._connection, self._place, partition, begin)
                for partition, begin in begins.items()
            }
        except psycopg.errors.LockNotAvailable:
            limit_s = self._settings.transaction_timeout_s
            if ended := positions.end_hung_sessions(self._connection, self._place, limit_s):
                log.warning("hung_sessions_ended", sink=self._sink.name, sessions=ended, open_for_s=limit_s)
            raise

    def write(self, prepared: Prepared) -> bool:
        """Write a batch, waiting for Postgres as long as it takes; False if told to stop meanwhile.

        Raises Fenced when a partition is not ours any more, Stopped when the rows contradict the tables.
        """
        started = time.monotonic()
        written = self._until_done(lambda: self._write_what_is_missing(prepared))
        if written:
            batch = prepared.batch
            records = len(batch.fresh) + len(batch.replayed)
            self._observer.wrote(self._sink.name, records, time.monotonic() - started)
            tables = [*prepared.fresh.tables, *prepared.replayed.tables]
            newest_ms = batch.fresh[-1].timestamp()[1] if batch.fresh else None
            self._observer.rows(self._sink.name, tables, newest_ms)
        return bool(written)

    def _write_what_is_missing(self, prepared: Prepared) -> bool:
        """One attempt. The one before may have committed although its answer never came."""
        stands = positions.owned(self._connection, self._place)
        batch = prepared.batch
        lost = {
            m.partition for m in batch.moves if stands.get(m.partition) not in {m.expected, m.next_offset}
        }
        if lost:
            raise Fenced(lost)
        missing = {m.partition for m in batch.moves if stands[m.partition] == m.expected}
        if len(missing) < len(batch.moves):
            prepared = prepare(self._sink, batch.only(missing))
        try:
            self._transaction(prepared)
        except psycopg.errors.UniqueViolation:
            # Rows beyond the high offset that are there already: somebody reset the position. Compare.
            self._transaction(prepare(self._sink, prepared.batch.as_replay()))
        return True

    def _transaction(self, prepared: Prepared) -> None:
        batch, fresh, replayed = prepared
        # In transactions of their own: they lock wallets, and must not hold that lock while rows are copied.
        self._make_months(fresh.days, replayed.days)
        with self._connection.transaction():
            # 1. The positions: a zombie is refused before it writes, and who takes a partition over waits
            #    for this transaction.
            positions.advance(self._connection, self._place, batch.moves)
            # 2. What may be there already.
            for table, rows in replayed.tables:
                reconcile(self._connection, table, rows)
            # 3. What is new.
            for table, rows in fresh.tables:
                copy(self._connection, table, rows)

    def _make_months(self, fresh: Collection[int], replayed: Collection[int]) -> None:
        if not (fresh or replayed):
            return
        if time.monotonic() - self._months_checked_s > MONTHS_EVERY_S:
            make_months_ahead(self._connection, self._settings)
            self._months_checked_s = time.monotonic()
        needed = months_of(fresh) - self._months
        make_months(self._connection, needed, self._settings)
        self._months |= needed
        compared = months_of(replayed) - self._months
        make_months(self._connection, compared, self._settings, unless_sealed=True)

    def _until_done(self, attempt: Callable[[], T]) -> T | None:
        """Try until it works; while Postgres is away, wait with growing pauses and on new connections."""
        pause_s, away = FIRST_PAUSE_S, False
        while True:
            try:
                if self._connection.closed:
                    self._connection = self._connect(wait_s=0)
                result = attempt()
            except (psycopg.Error, NotReachable) as error:
                reason = str(error) if isinstance(error, NotReachable) else one_line(error)
                if not (isinstance(error, PASSING) or self._connection.closed):
                    raise Stopped(f"sink {self._sink.name} cannot write its rows: {reason}") from error
                if not away:
                    log.warning("waiting_for_postgres", sink=self._sink.name, reason=reason)
                self._observer.waiting(self._sink.name, reason)
                away = True
            else:
                if away:
                    log.info("postgres_is_back", sink=self._sink.name)
                return result
            if self._stop.wait(pause_s):
                return None
            pause_s = min(2 * pause_s, self._settings.retry_wait_s)

    def _connect(self, wait_s: float) -> Connection:
        return connect(self._settings, WRITER, wait_s=wait_s, name=self._session_name)
