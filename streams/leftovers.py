"""What Kafka leaves open of a transaction that it has ended.

A broker that was away for longer than its session leads no partition for a moment when it is back. A transaction
coordinator that ends a transaction in this moment takes its partitions for deleted ones and leaves out their markers
(seen with Kafka 4.3: "Couldn't find leader endpoint for partitions"). For the coordinator the transaction is over; in
the partitions it stays open, and ends like the same producer's next transaction that happens to touch them: what was
rolled back could become visible next to the same batch posted again, and what was committed could vanish.

So a writer that opens its partition looks for such leftovers. If nothing of their transaction can be read, it rolls
them back, and the records are posted again; if some of it can, it refuses (`streams.catchup`). And nothing is written
behind an open transaction: whatever ends the one would end the other with it.
"""

import threading
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from config.errors import Stopped
from config.settings import Settings
from streams.reader import until_told
from topics import group_offsets
from topics.causes import DENIED, because
from topics.cluster import ASK_S
from topics.names import Topics

#: If Kafka gives no offset for this long, the offset counts as left open: rolling it back does no harm.
OFFSET_S = 3.0
WAITS = frozenset({KafkaError._TIMED_OUT, KafkaError.UNSTABLE_OFFSET_COMMIT})
#: Asks `offsets_for_times` for the end. (Kafka's LATEST_TIMESTAMP.)
END = -1

T = TypeVar("T")


def _is_final(failure: KafkaException) -> bool:
    # While a broker comes and goes, the client returns more kinds of errors than any list names.
    return bool(failure.args[0].fatal() or failure.args[0].code() in DENIED)


class Leftovers(NamedTuple):
    """Read-committed ends of the derived topics in which something is open, and whether an offset is."""

    ends: dict[str, int]
    offset: bool

    def __bool__(self) -> bool:
        return bool(self.ends) or self.offset


class OpenTransactions:
    """Looks at what is open in one partition of the derived topics, and in the group's offset of its input.

    Uses two consumers, `committed` and `uncommitted`, named for their isolation level. (An admin client that asks for a
    group's offsets may end the process by SIGSEGV while the coordinator moves, librdkafka issue 5040.) `stopping` ends
    waits.
    """

    def __init__(
        self,
        settings: Settings,
        topics: Topics,
        partition: int,
        committed: Consumer,
        uncommitted: Consumer,
        stopping: threading.Event,
    ) -> None:
        self._stall_s = settings.stall_s
        self._topics = topics
        self._partition = partition
        self._committed = committed
        self._uncommitted = uncommitted
        self._stopping = stopping

    def left(self) -> Leftovers:
        """What is still open although its writer has just ended its transaction.

        Raises Interrupted, and Stopped when Kafka does not answer for `WALLET_STALL_S`.
        """
        return self._asked(lambda: Leftovers(self._ends(), self._is_offset_open()))

    def ends(self) -> dict[str, int]:
        """Read-committed ends of the topics in which something is open; raises as `left`."""
        return self._asked(self._ends)

    def ends_now(self) -> dict[str, int]:
        """The same, asked once: also empty if Kafka does not answer."""
        try:
            return self._ends()
        except KafkaException:
            return {}

    def _asked(self, ask: Callable[[], T]) -> T:
        try:
            return until_told(ask, self._stall_s, self._stopping, _is_final)
        except KafkaException as failure:
            error: KafkaError = failure.args[0]
            told = Stopped(
                f"partition {self._partition}: Kafka does not say what is open in it: {error.str()}"
            )
            raise because(error, told) from None

    def _ends(self) -> dict[str, int]:
        stable, there = self._ends_of(self._committed), self._ends_of(self._uncommitted)
        return {topic: end for topic, end in stable.items() if end < there[topic]}

    def _ends_of(self, consumer: Consumer) -> dict[str, int]:
        asked = [TopicPartition(topic, self._partition, END) for topic in self._topics.partitioned[1:]]
        ends = {}
        for at in consumer.offsets_for_times(asked, ASK_S):
            if at.error is not None:
                raise KafkaException(at.error)
            ends[at.topic] = at.offset
        return ends

    def _is_offset_open(self) -> bool:
        """Whether the group's offset waits for the end of a transaction."""
        asked = [TopicPartition(self._topics.transactions, self._partition)]
        # Ask without waiting first: so a slow coordinator is not mistaken for one that waits.
        group_offsets.asked_by(self._uncommitted, asked)
        try:
            group_offsets.asked_by(self._committed, asked, OFFSET_S)
        except KafkaException as failure:
            if failure.args[0].code() in WAITS:
                return True
            raise
        return False
