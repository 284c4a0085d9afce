"""A sink's position in each partition and its owner, kept in PostgreSQL with the rows.

A position has one owner: one assignment of one process. Claiming it fences the owner before, since every
write moves the position `WHERE owner = mine AND next_offset = expected` in the transaction of its rows. An
owner that finds a changed position asks why (`told_apart`): another living owner took it, or the database was
restored from a backup.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from config.errors import Refused, Stopped
from sinks.postgres import Connection, Role, as_login
from topics.cluster import Offsets


class Position(NamedTuple):
    """The record to read next, and one past the highest ever written: below it rows are compared."""

    next_offset: int
    high_offset: int


class Move(NamedTuple):
    """One partition's position before and after a batch, and how far in the input that is; None if nothing says so."""

    partition: int
    expected: int
    next_offset: int
    #: One past the source of the batch's last record, and that record's time.
    input_offset: int | None = None
    recorded_at: datetime | None = None


class NotAsLeft(Exception):  # noqa: N818 - the name is the message
    """Positions that are not ours, or not where we left them: nothing was written. `told_apart` says why."""

    def __init__(self, partitions: Collection[int]) -> None:
        super().__init__(f"partitions {sorted(partitions)} are not as their owner left them")
        self.partitions = frozenset(partitions)


class Lost(Exception):  # noqa: N818 - the name is the message
    """Positions that are not as this owner left them: nothing was written.

    `fenced` are those that another living owner took. `moved` are the others, with their offsets now, None
    where there is no row: the database was restored from a backup, or somebody set them.
    """

    def __init__(self, fenced: Collection[int], moved: Mapping[int, int | None]) -> None:
        super().__init__(f"another owner has partitions {sorted(fenced)}; {sorted(moved)} were moved")
        self.fenced = frozenset(fenced)
        self.moved = dict(moved)


class Holder(NamedTuple):
    """The owner of a position: the sink, its topic, and the assignment."""

    sink: str
    topic: str
    owner: str


class Origin(NamedTuple):
    """What offsets refer to, independent of names: Kafka's ids of the cluster and the topic."""

    cluster_id: str
    topic_id: str


def claim(
    connection: Connection, holder: Holder, origin: Origin, partition: int, partitions: int, log: Offsets
) -> Position:
    """Take the position over and return it; a partition never read starts at the beginning of its log.

    `partitions` is how many the pipeline has.

    Waits for a batch that the former owner is committing: it holds the row. Raises Refused for a position in another
    topic, and Stopped for one outside of this topic's log; then nothing is taken over. Positions of an earlier release
    do not say which topic they belong to: then it is this one.
    """
    begin, end = log.begin, log.end
    row = connection.execute(
        """
        INSERT INTO sink_positions AS p (
            sink, topic, partition, next_offset, high_offset, owner, partitions, cluster_id, topic_id
        ) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
        ON CONFLICT (sink, topic, partition) DO UPDATE
        SET owner = excluded.owner, partitions = excluded.partitions,
            cluster_id = excluded.cluster_id, topic_id = excluded.topic_id
        WHERE p.next_offset BETWEEN %s AND %s
            AND coalesce(p.cluster_id, excluded.cluster_id) = excluded.cluster_id
            AND coalesce(p.topic_id, excluded.topic_id) = excluded.topic_id
        RETURNING next_offset, high_offset
        """,
        [holder.sink, holder.topic, partition, begin, begin, holder.owner, partitions, *origin, begin, end],
    ).fetchone()
    if row is None:
        refuse_other_topic(connection, holder, origin)
        stand = connection.execute(
            "SELECT next_offset FROM sink_positions WHERE sink = %s AND topic = %s AND partition = %s",
            [holder.sink, holder.topic, partition],
        ).fetchone()
        raise Stopped(
            f"sink {holder.sink} is at offset {stand[0] if stand else 'none'} of {holder.topic} partition "
            f"{partition}, which holds {log.begin} to {log.end}: records were deleted, or this database was filled "
            "from another topic"
        )
    return Position(*row)


def read(connection: Connection, sink: str, topic: str) -> dict[int, Position]:
    """A sink's positions in a topic, by partition, whoever owns them."""
    rows = connection.execute(
        "SELECT partition, next_offset, high_offset FROM sink_positions WHERE sink = %s AND topic = %s",
        [sink, topic],
    ).fetchall()
    return {partition: Position(next_offset, high_offset) for partition, next_offset, high_offset in rows}


def refuse_other_topic(connection: Connection, holder: Holder, origin: Origin) -> None:
    """Raise Refused if this sink has a position in another cluster, or in another topic of this name."""
    others = connection.execute(
        """
        SELECT cluster_id, topic_id FROM sink_positions
        WHERE sink = %s AND topic = %s AND (cluster_id <> %s OR topic_id <> %s) LIMIT 1
        """,
        [holder.sink, holder.topic, *origin],
    ).fetchone()
    if others:
        raise Refused(
            f"this database was filled from topic {holder.topic} with id {others[1]} of cluster {others[0]}, but here "
            f"it has id {origin.topic_id} in cluster {origin.cluster_id}: check that WALLET_KAFKA and WALLET_POSTGRES "
            "belong together; if this topic replaces the other, see docs/operations/replay.md"
        )


def session_name(sink: str, owner: str) -> str:
    """The application_name of an owner's session: at most 63 characters, or PostgreSQL would cut it."""
    return f"wallet sink {sink} {owner.rpartition(':')[2]}"


def end_hung_sessions(connection: Connection, role: Role, holder: Holder, open_for_s: float) -> int:
    """End sessions of this sink's owners whose transaction is open for longer; returns how many.

    A process that is suspended in the middle of a COPY would keep its locks for ever: the server waits for
    its bytes, and no time-out of PostgreSQL interrupts that. Needs the rights of that session's login, so it
    runs as the login instead of the role.
    """
    owners = connection.execute(
        "SELECT DISTINCT owner FROM sink_positions WHERE sink = %s AND topic = %s AND owner <> %s", holder
    ).fetchall()
    with as_login(connection, role):
        return connection.execute(
            """
            SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND application_name = ANY(%s)
                AND xact_start < now() - make_interval(secs => %s)
            """,
            [[session_name(holder.sink, owner) for (owner,) in owners], open_for_s],
        ).rowcount


def owned(connection: Connection, holder: Holder) -> dict[int, int]:
    """next_offset of every partition that still has this owner."""
    return dict(
        connection.execute(
            "SELECT partition, next_offset FROM sink_positions WHERE sink = %s AND topic = %s AND owner = %s",
            holder,
        ).fetchall()
    )


def told_apart(connection: Connection, holder: Holder, left_at: Mapping[int, int]) -> Lost:
    """Why positions are not as this owner left them: fenced or moved.

    A position that is lower than it was left, or gone, was moved with its database, whatever its owner then.
    So was one whose owner has no session: it is no longer a member of the group, or soon comes back and is
    fenced. A wrong answer costs only a rebalance, since a sink claims only what the group assigns to it.
    """
    found = {
        partition: (next_offset, owner)
        for partition, next_offset, owner in connection.execute(
            "SELECT partition, next_offset, owner FROM sink_positions WHERE sink = %s AND topic = %s",
            [holder.sink, holder.topic],
        ).fetchall()
    }
    others = {owner: session_name(holder.sink, owner) for _, owner in found.values() if owner != holder.owner}
    sessions = connection.execute(
        """
        SELECT application_name FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = ANY(%s)
        """,
        [list(others.values())],
    ).fetchall()
    living = {owner for owner, name in others.items() if (name,) in sessions}
    fenced, moved = set[int](), dict[int, int | None]()
    for partition, left in left_at.items():
        next_offset, owner = found.get(partition, (None, None))
        if next_offset is not None and next_offset >= left and owner in living:
            fenced.add(partition)
        else:
            moved[partition] = next_offset
    return Lost(fenced, moved)


def advance(connection: Connection, holder: Holder, moves: Sequence[Move]) -> None:
    """Move positions within the caller's transaction; raises NotAsLeft if one is not ours, or not where it was left."""
    if not moves:
        return
    cursor = connection.execute(
        """
        UPDATE sink_positions AS p
        SET next_offset = m.next_offset, high_offset = greatest(p.high_offset, m.next_offset),
            input_offset = greatest(p.input_offset, m.input_offset),
            recorded_at = greatest(p.recorded_at, m.recorded_at), updated_at = now()
        FROM unnest(%s::int[], %s::bigint[], %s::bigint[], %s::bigint[], %s::timestamptz[])
            AS m (partition, expected, next_offset, input_offset, recorded_at)
        WHERE p.sink = %s AND p.topic = %s AND p.partition = m.partition
            AND p.owner = %s AND p.next_offset = m.expected
        RETURNING p.partition
        """,
        [*(list(column) for column in zip(*moves, strict=True)), *holder],
    )
    moved = {partition for (partition,) in cursor.fetchall()}
    if lost := {move.partition for move in moves} - moved:
        raise NotAsLeft(lost)
