"""A PostgreSQL of a few tables: transactions, row locks, unique keys, sessions that break.

The statements of `sinks.positions` are executed as they are written there: their conditions are read from
the text, so that a condition that is missing there is missing here. Of `sinks.tables` the two functions
`copy` and `reconcile` are stood for as a whole; that their SQL does what they say is tested on a real
server. Isolation is READ COMMITTED: a statement sees what others have committed, and what its own
transaction did; who wants a row that another transaction has changed waits for that to end.

Beside that it watches what no real server can: every transaction that commits must have written or compared
exactly the rows of the records that its positions have moved over, and only a position's owner moves it.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import psycopg

from tests.simulation.processes import Process, Stage

LOCK_TRIES = 5
_CLAIM = (
    "INSERT INTO sink_positions AS p "
    "( sink, topic, partition, next_offset, high_offset, owner, partitions, cluster_id, topic_id ) "
    "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (sink, topic, partition) DO UPDATE "
    "SET owner = excluded.owner, partitions = excluded.partitions, "
    "cluster_id = excluded.cluster_id, topic_id = excluded.topic_id "
    "WHERE p.next_offset BETWEEN %s AND %s AND coalesce(p.cluster_id, excluded.cluster_id) = excluded.cluster_id "
    "AND coalesce(p.topic_id, excluded.topic_id) = excluded.topic_id RETURNING next_offset, high_offset"
)
_OWNED = "SELECT partition, next_offset FROM sink_positions WHERE "
_ADVANCE = (
    "UPDATE sink_positions AS p "
    "SET next_offset = m.next_offset, high_offset = greatest(p.high_offset, m.next_offset), "
    "input_offset = greatest(p.input_offset, m.input_offset), recorded_at = greatest(p.recorded_at, m.recorded_at), "
    "updated_at = now() FROM unnest(%s::int[], %s::bigint[], %s::bigint[], %s::bigint[], %s::timestamptz[]) "
    "AS m (partition, expected, next_offset, input_offset, recorded_at) WHERE "
)
_OWNERS = "SELECT DISTINCT owner FROM sink_positions WHERE sink = %s AND topic = %s AND owner <> %s"
_OTHERS = (
    "SELECT cluster_id, topic_id FROM sink_positions "
    "WHERE sink = %s AND topic = %s AND (cluster_id <> %s OR topic_id <> %s) LIMIT 1"
)
_STAND = "SELECT next_offset FROM sink_positions WHERE sink = %s AND topic = %s AND partition = %s"
_FOUND = "SELECT partition, next_offset, owner FROM sink_positions WHERE "
_SESSIONS = (
    "SELECT application_name FROM pg_stat_activity "
    "WHERE datname = current_database() AND application_name = ANY(%s)"
)
_CONDITION = re.compile(r"(?:p\.)?(\w+) = (%s|m\.(\w+))|%s IS NOT NULL")

#: Fields of a binary COPY row that a table knows it by, with the table's name.
Key = tuple[object, ...]


class At(NamedTuple):
    """One row of sink_positions."""

    next_offset: int
    high_offset: int
    owner: str
    cluster_id: str | None = None
    topic_id: str | None = None


class Answer:
    """What a statement returned: a cursor as far as it is used."""

    def __init__(self, rows: Sequence[tuple[Any, ...]] = ()) -> None:
        self._rows = list(rows)
        self.rowcount = len(self._rows)

    def fetchone(self) -> tuple[Any, ...] | None:
        """The first row."""
        return self._rows[0] if self._rows else None

    def fetchall(self) -> list[tuple[Any, ...]]:
        """All rows."""
        return self._rows


@cache
def _one_line(statement: str) -> str:
    return " ".join(statement.split())


class Content(NamedTuple):
    """What is committed: positions by partition, and rows by table and identity."""

    positions: dict[int, At]
    rows: dict[Key, bytes]


class Postgres:
    """The server."""

    def __init__(self, stage: Stage, rows_of: Mapping[int, Sequence[tuple[int, Sequence[bytes]]]]) -> None:
        self.stage = stage
        self.content = Content({}, {})
        #: Every state there ever was, as backups.
        self.backups: list[Content] = []
        self.sessions: list[Session] = []
        self.locks: dict[Key, Session] = {}
        self.wrong: list[str] = []
        self._rows_of = rows_of
        self._partition_of = {
            row: partition for partition, records in rows_of.items() for _, rows in records for row in rows
        }

    def commit(self, session: "Session") -> None:
        """Make a session's changes everybody's."""
        self._watch(session)
        self.backups.append(Content(dict(self.content.positions), dict(self.content.rows)))
        self.content.positions.update(session.positions)
        self.content.rows.update(session.rows)
        session.forget()

    def _watch(self, session: "Session") -> None:
        wanted: Counter[bytes] = Counter()
        for partition, after in session.positions.items():
            before = self.content.positions.get(partition, after)
            if after.next_offset < before.next_offset:
                self.wrong.append(f"position of {partition} moved back to {after.next_offset}")
            if after.next_offset != before.next_offset and not session.name.endswith(
                before.owner.rpartition(":")[2]
            ):
                self.wrong.append(f"position of {partition} moved by another than its owner")
            for offset, rows in self._rows_of[partition]:
                if before.next_offset <= offset < after.next_offset:
                    wanted.update(rows)
        if wanted != session.offered:
            moved = {at: (self.content.positions.get(at), to) for at, to in session.positions.items()}
            self.wrong.append(f"rows that are not those of the positions' moves {moved}")

    # -- what happens to it

    def restore(self, which: int) -> None:
        """Put a backup back; every session ends."""
        self.break_all()
        backup = self.backups[which]
        self.content = Content(dict(backup.positions), dict(backup.rows))

    def break_all(self) -> None:
        """Restart: what is not committed is gone."""
        for session in self.sessions:
            session.end()

    def break_those_of(self, process: Process) -> None:
        """The server notices that a client is gone."""
        for session in self.sessions:
            if session.process is process:
                session.end()

    def set_position(self, partition: int, at: At) -> None:
        """What an operator does who wants a replay."""
        if ("position", partition) not in self.locks:
            self.content.positions[partition] = at


class Session:
    """A connection, as far as the sinks use it."""

    def __init__(self, server: Postgres, name: str) -> None:
        self.server = server
        self.name = name
        self.closed = False
        self.process = server.stage.running
        self.positions: dict[int, At] = {}
        self.rows: dict[Key, bytes] = {}
        #: Rows that this transaction wrote or found to be there.
        self.offered: Counter[bytes] = Counter()
        self.opened_s: float | None = None
        server.sessions.append(self)

    def end(self) -> None:
        """The session is over; what it had open is rolled back."""
        self.closed = True
        self.forget()

    close = end

    def forget(self) -> None:
        """No transaction is open, no lock is held."""
        self.positions, self.rows, self.offered, self.opened_s = {}, {}, Counter(), None
        for key in [key for key, holder in self.server.locks.items() if holder is self]:
            del self.server.locks[key]

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """What psycopg's does: commit at the end, roll back where something is raised."""
        self.reach("begin")
        self.opened_s = self.server.stage.clock.now_s
        try:
            yield
        except Exception:
            self.forget()
            raise
        self.reach("commit")
        unanswered = self.server.stage.fault("commit unanswered", 0.05)
        self.server.commit(self)
        if unanswered:
            self.end()
            raise psycopg.OperationalError("the connection is lost")

    def reach(self, what: str) -> None:
        """Send a statement to the server, if it can be reached."""
        self.server.stage.effect(what)
        if self.server.stage.fault("connection lost", 0.01):
            self.end()
        if self.closed:
            raise psycopg.OperationalError("the connection is lost")

    def lock(self, key: Key) -> None:
        """Have a row to oneself; waits for who has it, not for ever."""
        for _ in range(LOCK_TRIES):
            holder = self.server.locks.get(key)
            if holder is None or holder is self:
                self.server.locks[key] = self
                return
            self.server.stage.wait(1.0, f"waits for the lock of {key}")
            if self.closed:
                raise psycopg.OperationalError("the connection is lost")
        raise psycopg.errors.LockNotAvailable("canceling statement due to lock timeout")

    # -- statements of sinks.positions

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Answer:
        """One statement; alone it is its own transaction."""
        text = _one_line(statement)
        self.reach(text[:40])
        answer = self._execute(text, list(parameters))
        if self.opened_s is None:
            self.server.commit(self)
        return answer

    def _execute(self, text: str, parameters: list[Any]) -> Answer:
        if text == _CLAIM:
            return self._claim(*parameters[2:4], *parameters[5:6], *parameters[7:])
        if text.startswith(_ADVANCE):
            return self._advance(text.removeprefix(_ADVANCE).split(" RETURNING ")[0], parameters)
        if text.startswith("SELECT pg_terminate_backend"):
            return self._terminate(*parameters)
        if text.startswith("SELECT"):
            return Answer(self._select(text, parameters))
        assert text in {"RESET ROLE", "SET ROLE wallet_writer"}, f"not known to the simulation: {text}"
        return Answer()

    def _select(self, text: str, parameters: list[Any]) -> list[tuple[Any, ...]]:
        # A transaction sees what it has changed itself.
        rows = (self.server.content.positions | self.positions).items()
        if text == _SESSIONS:
            return [
                (one.name,) for one in self.server.sessions if not one.closed and one.name in parameters[0]
            ]
        if text == _OWNERS:
            return [(row.owner,) for _, row in rows if row.owner != parameters[2]]
        if text == _STAND:
            return [(row.next_offset,) for at, row in rows if at == parameters[2]]
        if text == _OTHERS:
            return [
                (row.cluster_id, row.topic_id)
                for _, row in rows
                if row.cluster_id not in {None, parameters[2]} or row.topic_id not in {None, parameters[3]}
            ][:1]
        which = _OWNED if text.startswith(_OWNED) else _FOUND
        assert text.startswith(which), f"not known to the simulation: {text}"
        holds = _Conditions(text.removeprefix(which), parameters)
        found = [(at, row.next_offset, row.owner) for at, row in rows if holds(at, row, {})]
        return [row[:2] for row in found] if which == _OWNED else list(found)

    def _claim(
        self, partition: int, begin: int, owner: str, cluster: str, topic: str, least: int, most: int
    ) -> Answer:
        self.lock(("position", partition))
        before = self.server.content.positions.get(partition)
        if before is not None and (
            not least <= before.next_offset <= most
            or before.cluster_id not in {None, cluster}
            or before.topic_id not in {None, topic}
        ):
            return Answer()
        after = (before or At(begin, begin, owner))._replace(owner=owner, cluster_id=cluster, topic_id=topic)
        self.positions[partition] = after
        return Answer([(after.next_offset, after.high_offset)])

    def _advance(self, conditions: str, parameters: list[Any]) -> Answer:
        holds = _Conditions(conditions, parameters[5:])
        moved = []
        for partition, expected, next_offset in zip(*parameters[:3], strict=True):
            move = {"partition": partition, "expected": expected, "next_offset": next_offset}
            row = self.server.content.positions.get(partition)
            if row is None or not holds(partition, row, move):
                continue
            self.lock(("position", partition))
            # Who waited looks again at what is there now.
            row = self.server.content.positions[partition]
            if holds(partition, row, move):
                self.positions[partition] = row._replace(
                    next_offset=next_offset, high_offset=max(row.high_offset, next_offset)
                )
                moved.append((partition,))
        return Answer(moved)

    def _terminate(self, names: Sequence[str], open_for_s: float) -> Answer:
        now_s = self.server.stage.clock.now_s
        hung = [
            one
            for one in self.server.sessions
            if one.name in names and one.opened_s is not None and one.opened_s < now_s - open_for_s
        ]
        for one in hung:
            one.end()
        return Answer([(True,) for _ in hung])


class _Conditions:
    """The conditions of a WHERE, joined by AND."""

    def __init__(self, text: str, parameters: list[Any]) -> None:
        self._equal: list[tuple[str, str | None, Any]] = []
        for condition in text.split(" AND "):
            found = _CONDITION.fullmatch(condition)
            assert found, f"not known to the simulation: {condition}"
            parameter = parameters.pop(0) if "%s" in condition else None
            if found[1]:
                self._equal.append((found[1], found[3], parameter))
        assert not parameters

    def __call__(self, partition: int, row: At, move: Mapping[str, int]) -> bool:
        """Whether they hold for this row and this move."""
        values: dict[str, object] = {**row._asdict(), "partition": partition}
        return all(
            column not in values or values[column] == (move[of_move] if of_move else parameter)
            for column, of_move, parameter in self._equal
        )
