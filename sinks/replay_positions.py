"""The progress of a sink's replay, kept in PostgreSQL with the sink's own position, and when one may begin.

A replay owns its sink's positions as the sink would, so the two fence each other: it is refused while the sink
runs, and a sink that is started during the replay takes the positions, so the replay's next batch is refused. Its
own cursor is in `sink_replays` (migration 0008), so the sink's position never goes back.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from config.errors import Refused
from sinks import positions
from sinks.positions import Holder, Move, Origin, Position
from sinks.postgres import WRITER, Connection, as_login

#: The prefix of a position's owner when it is a replay: `replay:host:pid:uuid`.
REPLAY = "replay:"


class Stretch(NamedTuple):
    """One partition of a replay: what it covers, `to_offset` excluded, how far it is, and what it found."""

    partition: int
    from_offset: int
    to_offset: int
    next_offset: int
    read: int = 0
    inserted: int = 0

    @property
    def equal(self) -> int:
        """Records whose rows were there already, the same in every column."""
        return self.read - self.inserted

    @property
    def finished(self) -> bool:
        """Whether nothing is left to read."""
        return self.next_offset >= self.to_offset


class Session(NamedTuple):
    """A session of a sink or of a replay that lives; `owner` where it owns positions."""

    pid: int
    address: str | None
    owner: str | None

    def __str__(self) -> str:
        server = f"PostgreSQL session {self.pid}" + (f" from {self.address}" if self.address else "")
        if self.owner is None:
            return f"a process that owns no partition yet ({server})"
        host, _, process = self.owner.removeprefix(REPLAY).rpartition(":")[0].rpartition(":")
        return f"process {process} on {host} ({server}, owner {self.owner})"


def living(connection: Connection, holder: Holder) -> list[Session]:
    """Sessions of this sink and of its replays, other than this one; may miss a session that is connecting."""
    owners = {
        positions.session_name(holder.sink, owner): owner
        for (owner,) in connection.execute(
            "SELECT DISTINCT owner FROM sink_positions WHERE sink = %s AND topic = %s", holder[:2]
        )
    }
    # The login sees more of its sessions than the role it has taken: their addresses.
    with as_login(connection, WRITER):
        rows = connection.execute(
            """
            SELECT pid, host(client_addr), application_name FROM pg_stat_activity
            WHERE datname = current_database() AND starts_with(application_name, %s) AND pid <> pg_backend_pid()
            ORDER BY pid
            """,
            [f"wallet sink {holder.sink} "],
        ).fetchall()
    return [Session(pid, address, owners.get(name)) for pid, address, name in rows]


def refuse_if_living(connection: Connection, holder: Holder) -> None:
    """Raise Refused that names the process if this sink, or a replay of it, is running."""
    if sessions := living(connection, holder):
        replays = any(one.owner and one.owner.startswith(REPLAY) for one in sessions)
        named = "; ".join(map(str, sessions))
        if replays:
            raise Refused(f"a replay of sink {holder.sink} is running: {named}; wait for it, or stop it")
        raise Refused(f"sink {holder.sink} is running: {named}; stop it first, and start it again afterwards")


def take(
    connection: Connection, holder: Holder, origin: Origin, begins: Mapping[int, int]
) -> dict[int, Position]:
    """Become the owner of these partitions; must run in a transaction.

    Raises Refused while another owner runs, and for positions in another topic.

    `begins` are the first offsets of their logs, where a new position begins.
    """
    # 1. The rows are locked: a sink that claims them does so before the look or after this transaction.
    connection.execute(
        """
        INSERT INTO sink_positions (sink, topic, partition, next_offset, high_offset, owner)
        SELECT %s, %s, partition, begin, begin, %s FROM unnest(%s::int[], %s::bigint[]) AS b (partition, begin)
        ON CONFLICT (sink, topic, partition) DO NOTHING
        """,
        [*holder, list(begins), list(begins.values())],
    )
    where = [holder.sink, holder.topic, list(begins)]
    rows = connection.execute(
        "SELECT partition, next_offset, high_offset FROM sink_positions"
        " WHERE sink = %s AND topic = %s AND partition = ANY(%s) ORDER BY partition FOR UPDATE",
        where,
    ).fetchall()
    positions.refuse_other_topic(connection, holder, origin)
    # 2. An owner that claimed them connected before that, so its session shows.
    refuse_if_living(connection, holder)
    # 3. Now they are ours.
    connection.execute(
        "UPDATE sink_positions SET owner = %s, cluster_id = %s, topic_id = %s"
        " WHERE sink = %s AND topic = %s AND partition = ANY(%s)",
        [holder.owner, *origin, *where],
    )
    return {partition: Position(next_offset, high_offset) for partition, next_offset, high_offset in rows}


def stretches(connection: Connection, holder: Holder) -> list[Stretch]:
    """The last replay of this sink, partition by partition; none if there never was one."""
    rows = connection.execute(
        "SELECT partition, from_offset, to_offset, next_offset, read, inserted FROM sink_replays"
        " WHERE sink = %s AND topic = %s ORDER BY partition",
        holder[:2],
    ).fetchall()
    return [Stretch(*row) for row in rows]


def begin(connection: Connection, holder: Holder, wanted: Sequence[Stretch]) -> None:
    """Put a new replay in the place of the last one; must run in a transaction."""
    forget(connection, holder)
    columns = zip(*((one.partition, one.from_offset, one.to_offset) for one in wanted), strict=True)
    connection.execute(
        """
        INSERT INTO sink_replays (sink, topic, partition, from_offset, to_offset, next_offset)
        SELECT %s, %s, partition, from_offset, to_offset, from_offset
        FROM unnest(%s::int[], %s::bigint[], %s::bigint[]) AS w (partition, from_offset, to_offset)
        """,
        [*holder[:2], *(list(column) for column in columns)],
    )


def forget(connection: Connection, holder: Holder) -> None:
    """Delete the record of the last replay."""
    connection.execute("DELETE FROM sink_replays WHERE sink = %s AND topic = %s", holder[:2])


def cursor(connection: Connection, holder: Holder, partition: int) -> int | None:
    """next_offset of a partition's replay, held until the caller's transaction ends; None where there is none."""
    row = connection.execute(
        "SELECT next_offset FROM sink_replays WHERE sink = %s AND topic = %s AND partition = %s FOR UPDATE",
        [*holder[:2], partition],
    ).fetchone()
    return None if row is None else int(row[0])


def advance(connection: Connection, holder: Holder, move: Move, read: int, inserted: int) -> None:
    """Move a replay's cursor and count what was found, within the caller's transaction that holds it."""
    connection.execute(
        """
        UPDATE sink_replays
        SET next_offset = %s, read = read + %s, inserted = inserted + %s, updated_at = now()
        WHERE sink = %s AND topic = %s AND partition = %s
        """,
        [move.next_offset, read, inserted, *holder[:2], move.partition],
    )
