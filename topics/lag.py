"""How far a reader is behind a topic's last stable offset: in records, and the age of the oldest.

Not every offset is a record: the log also holds transaction marks and rolled-back records, mostly at its end. If the
offsets differ, we look for a record at the position; if there is none up to the end, there is no lag.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple, Protocol

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from config.errors import NotReachable
from config.settings import Settings
from topics.clients import standalone
from topics.cluster import quiet_admin

ASK_S = 5.0
#: Seconds that a look waits for the oldest records; those not found by then are unknown.
PEEK_S = 5.0
PEEK_RECORDS = 100

#: A topic and a partition of it.
TopicPart = tuple[str, int]


class Lag(NamedTuple):
    """One partition's end and the lag before it; `records` and `oldest_ms` are None while unknown.

    `stable_end` is the last stable offset; from there up to `end`, an open transaction holds records back.
    """

    stable_end: int
    end: int
    records: int | None = None
    oldest_ms: int | None = None


class First(NamedTuple):
    """A record's offset, its time in epoch milliseconds, and whether that is the broker's."""

    offset: int
    timestamp_ms: int
    by_broker: bool


class Oldest(Protocol):
    """Finds the oldest records of the input, within the memory limit (`topics.incoming`)."""

    topic: str

    def first(self, partition: int, begin: int, end: int) -> First | None:
        """The first record from `begin` to `end` (excluded), or None."""

    def oldest_ms(self, positions: Mapping[int, int], ends: Mapping[int, int]) -> dict[int, int | None]:
        """The time of the first record from each position to the end, or None."""

    def close(self) -> None:
        """Close the connections."""


#: Connects to the input: settings, and the topic's name.
OpenInput = Callable[[Settings, str], Oldest]


class LagReader:
    """Asks Kafka for ends and for the oldest records at given positions. Blocks, but never for long.

    Raises nothing: places without an answer from Kafka are missing in the result.
    """

    def __init__(self, settings: Settings, oldest: Oldest | None = None) -> None:
        self._settings = settings
        self._oldest = oldest
        self._admin: AdminClient | None = None
        self._reader: Consumer | None = None
        #: Places where nothing was found from the first offset up to the second.
        self._empty: dict[TopicPart, tuple[int, int]] = {}

    def close(self) -> None:
        """Close the connections."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if self._oldest is not None:
            self._oldest.close()

    def look(self, positions: Mapping[TopicPart, int | None]) -> dict[TopicPart, Lag]:
        """How far behind these positions are (the next offset to read; None while unknown)."""
        # In this order: what comes between the two answers is not held back.
        ends = self._ends(positions, IsolationLevel.READ_UNCOMMITTED)
        stable_ends = self._ends(ends, IsolationLevel.READ_COMMITTED)
        found = {place: Lag(stable, max(stable, ends[place])) for place, stable in stable_ends.items()}
        behind: dict[TopicPart, int] = {}
        for place, (stable_end, end, _, _) in found.items():
            position = positions[place]
            if position is None:
                continue
            if position >= stable_end or self._empty.get(place) == (position, stable_end):
                found[place] = Lag(stable_end, end, 0)
            else:
                behind[place] = position
        ends_of = {place: lag.stable_end for place, lag in found.items()}
        for place, oldest_ms in self._first(behind, ends_of).items():
            stable_end, end = found[place][:2]
            if oldest_ms is None:
                self._empty[place] = behind[place], stable_end
                found[place] = Lag(stable_end, end, 0)
            else:
                found[place] = Lag(stable_end, end, stable_end - behind[place], oldest_ms)
        return found

    def _ends(self, places: Mapping[TopicPart, object], level: IsolationLevel) -> dict[TopicPart, int]:
        asked = {TopicPartition(*place): OffsetSpec.latest() for place in places}
        ends: dict[TopicPart, int] = {}
        if not asked:
            return ends
        deadline = time.monotonic() + ASK_S
        if self._admin is None:
            self._admin = quiet_admin(self._settings)
        answers = self._admin.list_offsets(asked, isolation_level=level, request_timeout=ASK_S)
        for at, answer in answers.items():
            try:
                ends[at.topic, at.partition] = answer.result(max(0.1, deadline - time.monotonic())).offset
            except TimeoutError:
                continue  # unknown
            except KafkaException as failure:
                # An answer, though not the one that was asked for: a new client next time, for this one
                # goes on asking with the epoch of a former leader, even after it was told that there is a
                # newer one (FENCED_LEADER_EPOCH). Codes below zero mean that nobody answered.
                if failure.args[0].code() > 0:
                    self._admin = None
        return ends

    def _first(
        self, positions: Mapping[TopicPart, int], ends: Mapping[TopicPart, int]
    ) -> dict[TopicPart, int | None]:
        """Like `_peek`, but asks `oldest` about the input, whose batches may inflate to anything."""
        oldest = self._oldest
        if oldest is None:
            return self._peek(positions)
        theirs = {at: offset for (topic, at), offset in positions.items() if topic == oldest.topic}
        found = self._peek({place: at for place, at in positions.items() if place[0] != oldest.topic})
        if theirs:
            stable = {at: ends[oldest.topic, at] for at in theirs}
            with suppress(NotReachable):
                times = oldest.oldest_ms(theirs, stable)
                found |= {(oldest.topic, at): at_ms for at, at_ms in times.items()}
        return found

    def _peek(self, positions: Mapping[TopicPart, int]) -> dict[TopicPart, int | None]:
        """The timestamp of the first record at or after each position; None if there is none before the end."""
        seen: dict[TopicPart, int | None] = {}
        if not positions:
            return seen
        reader = self._consumer()
        reader.incremental_assign([TopicPartition(*place, at) for place, at in positions.items()])
        try:
            deadline = time.monotonic() + PEEK_S
            while len(seen) < len(positions) and time.monotonic() < deadline:
                for message in reader.consume(PEEK_RECORDS, timeout=0.1):
                    place = (message.topic() or "", message.partition() or 0)
                    if place not in seen and _tells(message):
                        seen[place] = None if message.error() else message.timestamp()[1]
                        # What else was fetched of it is dropped, so that the others come to their turn.
                        reader.incremental_unassign([TopicPartition(*place)])
        finally:
            reader.unassign()
        return seen

    def _consumer(self) -> Consumer:
        if self._reader is None:
            self._reader = standalone(
                self._settings,
                f"{self._settings.prefix}.lag",
                log_level=0,
                fetch_wait_max_ms=10,
                fetch_message_max_bytes=16_384,
                queued_min_messages=1,
                queued_max_messages_kbytes=1_024,
            )
        return self._reader


def _tells(message: Message) -> bool:
    """Whether a message answers the question: a record, or the end of the partition."""
    error = message.error()
    return error is None or error.code() == KafkaError._PARTITION_EOF
