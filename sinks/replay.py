"""Replay one sink's records: compare them with existing rows, and insert those that are missing.

A batch from top to bottom: the sink makes its rows, then in one PostgreSQL transaction 1. the replay's cursor is
locked, 2. the sink's position is moved, or only checked to be still ours, 3. rows below the highest offset ever
written are compared, and rows beyond it go in by COPY, 4. the cursor is moved.
"""

import os
import socket
import uuid
from collections.abc import Mapping, Sequence
from threading import Event

import psycopg

from config.asking import ask_again, growing
from config.errors import NotReachable, Refused, Stopped
from config.logs import EventLog
from config.settings import Settings
from sinks import positions, replay_positions
from sinks.batch import Batch, Prepared, prepare, write_or_compare
from sinks.positions import Holder, Move, NotAsLeft, Origin, Position
from sinks.postgres import READER, WRITER, Connection, connect, one_line, reason_to_wait
from sinks.postgres.migrations import check
from sinks.postgres.months import make_months, months_of
from sinks.replay_positions import REPLAY, Stretch
from sinks.sink import Record, Sink
from sinks.tables import count_missing
from topics.cluster import identity, quiet_admin

log = EventLog("sinks.replay")


def unfinished(settings: Settings, sink: Sink) -> list[Stretch]:
    """The last replay of a sink if it is unfinished; none otherwise."""
    with connect(settings, READER) as connection:
        check(connection)
        found = replay_positions.stretches(connection, Holder(sink.name, sink.topic, ""))
    return [] if all(one.finished for one in found) else found


def positions_of(settings: Settings, sink: Sink) -> dict[int, Position]:
    """A sink's positions, by partition."""
    with connect(settings, READER) as connection:
        check(connection)
        return positions.read(connection, sink.name, sink.topic)


def origin_of(settings: Settings, sink: Sink) -> Origin:
    """Which cluster and topic a sink reads here."""
    return Origin(*identity(quiet_admin(settings), sink.topic))


class Replay:
    """Writes one sink's replay. Not for several threads. Raises WalletErrors only."""

    def __init__(self, settings: Settings, sink: Sink, stop: Event) -> None:
        self._settings = settings
        self._sink = sink
        self._stop = stop
        owner = f"{REPLAY}{socket.gethostname()}:{os.getpid()}:{uuid.uuid4()}"
        self._holder = Holder(sink.name, sink.topic, owner)
        self._origin = origin_of(settings, sink)
        self._positions: dict[int, Position] = {}
        self._connection = self._connect(settings.startup_wait_s)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def abandon(self) -> None:
        """Forget an unfinished replay; what it inserted stays. Raises Refused while one runs."""
        replay_positions.refuse_if_living(self._connection, self._holder)
        replay_positions.forget(self._connection, self._holder)

    def begin(self, begins: Mapping[int, int], wanted: Sequence[Stretch] | None = None) -> list[Stretch]:
        """Take the sink's positions and record what to replay, all or nothing; returns it.

        `wanted` None resumes the unfinished replay. Raises Refused while the sink or another replay of it runs, while
        an earlier one is unfinished or none is to resume, and for a stretch that would leave a hole behind the sink's
        position.
        """
        replay_positions.refuse_if_living(self._connection, self._holder)
        try:
            with self._connection.transaction():
                self._positions = replay_positions.take(self._connection, self._holder, self._origin, begins)
                last = replay_positions.stretches(self._connection, self._holder)
                is_finished = all(one.finished for one in last)
                if wanted is None:
                    if is_finished:
                        raise Refused(
                            f"sink {self._sink.name} has no unfinished replay: there is nothing to resume"
                        )
                    wanted = last
                elif not is_finished:
                    raise Refused(told_unfinished(self._sink.name, last))
                else:
                    replay_positions.begin(self._connection, self._holder, wanted)
                for one in wanted:
                    self._refuse_hole(one)
        except psycopg.errors.LockNotAvailable:
            raise Refused(
                f"another session locks the positions of sink {self._sink.name}: find it in pg_stat_activity, "
                "then run this again"
            ) from None
        return list(wanted)

    def _refuse_hole(self, stretch: Stretch) -> None:
        stand = self._positions[stretch.partition].next_offset
        if stretch.next_offset > stand:
            raise Refused(
                f"sink {self._sink.name} has read {self._sink.topic} partition {stretch.partition} up to offset "
                f"{stand} only: a replay from {stretch.next_offset} would leave a hole; start at {stand} or before"
            )

    def prepare(self, move: Move, records: Sequence[Record]) -> Prepared:
        """A batch whose one move is the replay's cursor; raises Stopped for a record that does not decode."""
        high_offset = self._positions[move.partition].high_offset
        replayed = [record for record in records if (record.offset() or 0) < high_offset]
        fresh = records[len(replayed) :]
        return prepare(self._sink, Batch([move], fresh, replayed))

    def write(self, prepared: Prepared) -> None:
        """Write a batch, or find that it is already written.

        Raises Stopped for a row that differs and when a sink has taken over, NotReachable when PostgreSQL stays
        away for longer than `WALLET_STARTUP_WAIT_S`, or is away when the replay is stopped.
        """

        def attempt() -> None:
            try:
                if self._connection.closed:
                    self._connection = self._connect(wait_s=0)
                self._write(prepared)
            except (psycopg.Error, NotReachable) as error:
                doing = f"the replay of {self._sink.name} cannot write"
                reason = reason_to_wait(error, doing, self._connection)
                log.warning("waiting_for_postgres", reason=reason)
                raise NotReachable(f"PostgreSQL is away: {reason}") from None

        pauses = growing(self._settings.retry_wait_s)
        ask_again(attempt, NotReachable, pauses, self._settings.startup_wait_s, self._stop)

    def _write(self, prepared: Prepared) -> None:
        # In transactions of their own: see sinks.writer.
        make_months(self._connection, months_of(prepared.fresh.days), self._settings, stop=self._stop)
        make_months(
            self._connection,
            months_of(prepared.replayed.days),
            self._settings,
            unless_sealed=True,
            stop=self._stop,
        )
        try:
            write_or_compare(self._sink, prepared, self._transaction)
        except NotAsLeft:
            raise self._fenced() from None

    def _transaction(self, prepared: Prepared) -> None:
        (move,) = prepared.batch.moves
        partition, expected, next_offset = move[:3]
        position = self._positions[partition]
        moved = Position(max(position.next_offset, next_offset), max(position.high_offset, next_offset))
        with self._connection.transaction():
            # 1. The replay's cursor. An earlier attempt may have committed although its answer never came.
            stand = replay_positions.cursor(self._connection, self._holder, partition)
            if stand == next_offset != expected:
                self._positions[partition] = moved
                return
            if stand != expected:
                raise Stopped(
                    f"the replay of {self._sink.name} is not where it was left in partition {partition} ({stand}, "
                    f"not {expected}): was the database restored? Check it, give this replay up with --abandon, "
                    "and start another"
                )
            # 2. The sink's position, moved if the replay goes beyond it: a replaced owner writes nothing.
            own = move._replace(expected=position.next_offset, next_offset=moved.next_offset)
            positions.advance(self._connection, self._holder, [own])
            # 3. The rows.
            inserted = prepared.put(self._connection)
            # 4. The replay's own cursor.
            replay_positions.advance(self._connection, self._holder, move, prepared.batch.records, inserted)
        self._positions[partition] = moved

    def stretches(self) -> list[Stretch]:
        """The replay's progress in PostgreSQL; raises NotReachable while that is away."""
        try:
            if self._connection.closed:
                self._connection = self._connect(wait_s=0)
            return replay_positions.stretches(self._connection, self._holder)
        except (psycopg.OperationalError, NotReachable) as error:
            reason = str(error) if isinstance(error, NotReachable) else one_line(error)
            raise NotReachable(
                f"PostgreSQL is away: {reason}; what was read is written, continue with "
                f"`wallet replay {self._sink.name} --resume`"
            ) from None

    def _fenced(self) -> Stopped:
        living = replay_positions.living(self._connection, self._holder)
        named = "; ".join(map(str, living)) or "it has ended since"
        return Stopped(
            f"sink {self._sink.name} was started during the replay and took its positions back: {named}"
        )

    def _connect(self, wait_s: float) -> Connection:
        name = positions.session_name(self._sink.name, self._holder.owner)
        return _checked(connect(self._settings, WRITER, wait_s=wait_s, name=name))


class Trial:
    """A dry run: compares rows as a replay does, and writes none."""

    def __init__(self, settings: Settings, sink: Sink) -> None:
        self._sink = sink
        self._holder = Holder(sink.name, sink.topic, "")
        # Comparing needs a temporary table, which needs a writer's right.
        self._connection = _checked(connect(settings, WRITER, name="wallet replay, dry run"))
        try:
            positions.refuse_other_topic(self._connection, self._holder, origin_of(settings, sink))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def running(self) -> str | None:
        """What is running that would make a replay refuse, if anything."""
        try:
            replay_positions.refuse_if_living(self._connection, self._holder)
        except Refused as refusal:
            return str(refusal)
        return None

    def missing(self, records: Sequence[Record]) -> int:
        """How many of these records have no row; raises Stopped for one whose row differs, NotReachable."""
        missing = 0
        try:
            with self._connection.transaction(force_rollback=True):
                for table, rows in self._sink.rows(records).tables:
                    missing = count_missing(self._connection, table, rows)
        except psycopg.OperationalError as error:
            raise NotReachable(f"PostgreSQL is away: {one_line(error)}") from None
        return missing


def _checked(connection: Connection) -> Connection:
    """The connection, to a database of this code's version; closed before Refused is raised for another."""
    try:
        check(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def told_unfinished(sink: str, stretches: Sequence[Stretch]) -> str:
    """One line that says how much of an unfinished replay is left, and what to do about it."""
    left = sum(one.to_offset - one.next_offset for one in stretches)
    return (
        f"a replay of sink {sink} is unfinished, with {left} offsets left: continue with "
        f"`wallet replay {sink} --resume`, or give it up with `wallet replay {sink} --abandon`"
    )
