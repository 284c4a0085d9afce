"""How far in the input the rows of `ledger` and `rejections` are, where a topic does not say it itself.

A sink that writes knows it: its last record names its source. But a topic may get nothing for a long time while the
other one gets every outcome. Then its sink has followed the input as far as the other one, if it has read its topic
to the end. Questions in this order, for each partition:

1. How far are both sinks in the tables? Say the other one has the outcome of input record N.
2. Where does this sink's topic end, open transactions included? What came of the records up to N is before that end:
   outcomes of one partition are produced in the order of the input, and that of N is committed.
3. Is there no record from this sink's position to that end? Then it misses no outcome up to N.

The same look finds partitions of the input that are decided to their end: they miss nothing that was recorded before,
however old their last record is. That needs the broker's times, so it waits while a history is loaded with its own.
"""

import time
from collections.abc import Mapping
from datetime import datetime
from threading import Event, Thread
from typing import NamedTuple

import psycopg
from confluent_kafka.admin import AdminClient

from config.errors import WalletError
from config.logs import EventLog
from config.settings import Settings
from sinks.names import topic_of
from sinks.observer import Observer
from sinks.postgres import WRITER, Connection, connect, one_line
from topics.cluster import describe, quiet_admin
from topics.lag import Lag, LagReader, Oldest, OpenInput, TopicPart
from topics.names import Topics

log = EventLog("sinks.completeness")

#: The sinks whose topics have every outcome between them.
FOLLOWED = ("ledger", "rejections")
LOOK_EVERY_S = 0.5
#: How often to ask whether the input has the broker's times, while it has not.
ASK_TIMES_EVERY_S = 10.0
LEAVE_S = 1.0


class Reached(NamedTuple):
    """How far one sink's rows are in one partition, as its position in PostgreSQL says."""

    sink: str
    topic: str
    partition: int
    next_offset: int
    input_offset: int
    recorded_at: datetime | None


class Completeness(Observer):
    """Follows the other sink in the partitions of this process, in a thread of its own, until stopped."""

    def __init__(self, settings: Settings, stop: Event, open_input: OpenInput) -> None:
        self._settings, self._stop, self._open_input = settings, stop, open_input
        self._names = Topics.of(settings)
        self._topics = {sink: topic_of(self._names, sink) for sink in FOLLOWED}
        self._owned: dict[str, frozenset[int]] = {}
        self._lag = LagReader(settings)
        self._connection: Connection | None = None
        self._admin: AdminClient | None = None
        self._input: Oldest | None = None
        #: By partition, an offset of the input and the end before which nothing is behind it; None: there is a record.
        self._looked: dict[int, tuple[int, int | None]] = {}
        #: None: the input has the broker's times, and keeps them; otherwise when to ask again.
        self._ask_times_at: float | None = 0.0
        self._thread = Thread(target=self._run, name="sink-completeness", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def join(self) -> None:
        """Wait a moment for the look in hand; `stop` must be set. It is left behind if a server does not answer."""
        self._thread.join(LEAVE_S)

    def reached(self, sink: str, offsets: Mapping[int, int]) -> None:
        """Remember the partitions of this sink."""
        self._owned = self._owned | {sink: frozenset(offsets)}

    def _run(self) -> None:
        failed = False
        while not self._stop.wait(LOOK_EVERY_S):
            try:
                self.look()
                failed = False
            except Exception as error:  # noqa: BLE001 - whatever it is: rows are written without it, it looks again
                if not failed and isinstance(error, (WalletError, psycopg.Error)):
                    # The sinks report what is away.
                    reason = one_line(error) if isinstance(error, psycopg.Error) else str(error)
                    log.debug("completeness_not_known", reason=reason)
                elif not failed:
                    log.failure("completeness_not_known", error)
                failed = True
                if self._connection is not None:
                    self._connection.close()
        self.close()

    def close(self) -> None:
        """Close the connections."""
        if self._connection is not None:
            self._connection.close()
        self._lag.close()
        if self._input is not None:
            self._input.close()

    def look(self) -> None:
        """Look once, and move what can be moved."""
        connection = self._connected()
        # 1. How far both sinks are.
        found = {
            (one.topic, one.partition): one
            for one in (
                Reached(*row)
                for row in connection.execute(
                    "SELECT sink, topic, partition, next_offset, input_offset, recorded_at FROM sink_positions"
                    " WHERE topic = ANY(%s) AND sink IN ('ledger', 'rejections')",
                    [[*self._topics.values()]],
                )
            )
        }
        newest = max((one.recorded_at for one in found.values() if one.recorded_at), default=None)
        following = dict[TopicPart, Reached]()
        idle = dict[TopicPart, int]()
        for place, one in found.items():
            other = found.get((self._other(one.topic), one.partition))
            if other is None or one.partition not in self._owned.get(one.sink, ()):
                continue
            if other.input_offset > one.input_offset:
                following[place] = other
            elif other.input_offset == one.input_offset and one.recorded_at != newest:
                idle[place] = one.input_offset
        if not following and not idle:
            return
        # 2. and 3. The ends, and whether anything is before them.
        inputs: dict[TopicPart, int | None] = {(self._names.transactions, at): None for _, at in idle}
        lags = self._lag.look(inputs | {place: found[place].next_offset for place in following})
        for place, other in following.items():
            if _read_to_its_end(lags.get(place)):
                # A rejection has its record's time, before which entries may follow, unless times are the broker's.
                says_a_time = found[place].sink != "ledger" or self._times_are_the_brokers()
                at = other.recorded_at if says_a_time else None
                self._move(connection, found[place], other.input_offset, at)
        for place, input_offset in idle.items():
            lag = lags.get((self._names.transactions, place[1]))
            if self._is_decided(place[1], input_offset, lag) and self._times_are_the_brokers():
                self._move(connection, found[place], input_offset, newest)

    def _is_decided(self, partition: int, offset: int, lag: Lag | None) -> bool:
        """Whether the input has no record from this offset to its end, where transactions may have left their marks."""
        if lag is None or lag.stable_end < lag.end:
            return False
        if lag.end <= offset or self._looked.get(partition) == (offset, lag.end):
            return True
        if self._looked.get(partition) == (offset, None):
            return False
        self._input = self._input or self._open_input(self._settings, self._names.transactions)
        decided = self._input.first(partition, offset, lag.end) is None
        self._looked[partition] = offset, lag.end if decided else None
        return decided

    def _other(self, topic: str) -> str:
        return self._names.rejections if topic == self._names.ledger else self._names.ledger

    def _move(self, connection: Connection, one: Reached, input_offset: int, at: datetime | None) -> None:
        """One row a transaction, so that sinks, which move several, cannot wait for each other because of it.

        A position that is lower than it was found is of a restored database: what was seen is not about that one.
        """
        connection.execute(
            """
            UPDATE sink_positions
            SET input_offset = greatest(input_offset, %s), recorded_at = greatest(recorded_at, %s)
            WHERE sink = %s AND topic = %s AND partition = %s AND next_offset >= %s
            """,
            [input_offset, at, one.sink, one.topic, one.partition, one.next_offset],
        )

    def _times_are_the_brokers(self) -> bool:
        """Whether the input has the broker's times; once it has, it keeps them (`wallet init --open`)."""
        if self._ask_times_at is not None and time.monotonic() >= self._ask_times_at:
            self._admin = self._admin or quiet_admin(self._settings)
            described = describe(self._admin, [self._names.transactions])[self._names.transactions]
            self._ask_times_at = time.monotonic() + ASK_TIMES_EVERY_S
            if described.on_brokers_time:
                self._ask_times_at = None
        return self._ask_times_at is None

    def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = connect(self._settings, WRITER, wait_s=0, name="wallet completeness")
            # What a crash of the server takes back is found again at the next look.
            self._connection.execute("SET synchronous_commit = off")
        return self._connection


def _read_to_its_end(lag: Lag | None) -> bool:
    return lag is not None and lag.records == 0 and lag.end == lag.stable_end
