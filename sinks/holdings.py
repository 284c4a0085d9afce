"""The partitions that a sink holds, their positions, and what became of those it lost."""

import time
from collections.abc import Iterable, Mapping

from config.errors import Stopped
from config.logs import EventLog
from config.settings import Settings
from sinks.observer import Observer
from sinks.positions import Lost, Position
from sinks.sink import Sink

log = EventLog("sinks.consumer")

#: How many session time-outs the group has to take a partition from us that another owner has.
FENCED_SESSIONS = 3
#: A second fence counts only within this many times that long after the first. Two pipelines that write to one database
#: take its positions from each other within two or three; a fence of last year is unrelated.
REMEMBERED = 10


class Holdings:
    """The partitions that one sink owns. Asks neither Kafka nor PostgreSQL: its caller reports gains and losses."""

    def __init__(self, settings: Settings, sink: Sink, observer: Observer) -> None:
        self._sink = sink
        self._observer = observer
        self._patience_s = FENCED_SESSIONS * settings.session_timeout_s
        #: next_offset counts the batch that is being written as done.
        self.positions: dict[int, Position] = {}
        #: Whether partitions were lost that only the group can give back.
        self.astray = False
        #: Partitions that another owner took, and until when the group may still assign them to us.
        self._fenced: dict[int, float] = {}
        #: Those that it has assigned to us for too long before, and until when that counts.
        self._waited_in_vain: dict[int, float] = {}

    @property
    def next_offsets(self) -> dict[int, int]:
        """The next offset of each partition."""
        return {partition: position.next_offset for partition, position in self.positions.items()}

    def gain(self, found: Mapping[int, Position]) -> None:
        """The group gave these, and they were claimed."""
        self.positions |= found

    def move(self, partition: int, next_offset: int) -> None:
        """A batch up to this offset is in hand."""
        high_offset = max(next_offset, self.positions[partition].high_offset)
        self.positions[partition] = Position(next_offset, high_offset)

    def let_go(self, partitions: Iterable[int]) -> None:
        """The group took these away."""
        for partition in partitions:
            self.positions.pop(partition, None)
            self._fenced.pop(partition, None)

    def lose(self, lost: Lost) -> None:
        """Let go of partitions that another owner took, or that are not where we left them.

        The group should take the former from us, too; it must assign us the latter again, since it may have
        expelled us long ago. They are not paused, since a pause would outlive a rebalance: records that still
        come from them are dropped.
        """
        name = self._sink.name
        if lost.fenced:
            self._observer.fenced(name, sorted(lost.fenced))
        for partition in sorted(lost.fenced):
            log.warning("fenced", sink=name, partition=partition)
            self.positions.pop(partition, None)
            # Joining again may take a while; nothing is written meanwhile, so waiting costs nothing.
            self._fenced[partition] = time.monotonic() + self._patience_s
        for partition, at in sorted(lost.moved.items()):
            left = self.positions.pop(partition, None)
            moves = {"from": left.next_offset if left else None, "to": at}
            log.warning("positions_went_back", sink=name, partition=partition, **moves)
            self.astray = True

    def check_fences(self) -> None:
        """Wait for the group to take fenced partitions; then join again, and raise Stopped if that fails once more."""
        now = time.monotonic()
        late = [partition for partition, deadline in self._fenced.items() if now > deadline]
        if late and all(self._waited_in_vain.get(partition, now) <= now for partition in late):
            # A restored backup may name an owner that lives and has other partitions by now.
            self._waited_in_vain |= dict.fromkeys(late, now + REMEMBERED * self._patience_s)
            self.astray = True
        elif late:
            raise Stopped(
                f"sink {self._sink.name} lost {self._sink.topic} partitions {late} to another owner, but its "
                "group still assigns them to it: does another pipeline write to this database?"
            )
