"""Read one partition of some topics up to their ends, and no further: the basis of catching up."""

import threading
from collections.abc import Callable, Iterator
from typing import Literal, Self, TypeVar

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from config.asking import ask_again
from config.errors import Stopped, WalletError
from config.settings import Settings
from streams.endings import Interrupted, forbidden
from topics import group_offsets
from topics.clients import standalone
from topics.cluster import ASK_PAUSE_S, ASK_S, Offsets
from topics.consuming import READ_RECORDS, read_to_ends, ready, watermarks

Isolation = Literal["read_committed", "read_uncommitted"]
T = TypeVar("T")


def until_told(
    ask: Callable[[], T],
    wait_s: float,
    stopping: threading.Event,
    is_final: Callable[[KafkaException], object],
) -> T:
    """Kafka's answer, after asking again while leaders move; raises Interrupted, or the last KafkaException."""
    ended = Interrupted()
    return ask_again(ask, KafkaException, ASK_PAUSE_S, wait_s, stopping, unless=is_final, stopped=ended)


class Progress:
    """How far a recovery is; metrics and the watchdog read it from other threads."""

    def __init__(self) -> None:
        self.records = 0
        #: Records that the store was behind when recovery began, transaction markers included.
        self.behind = 0
        #: Wallets compared so far.
        self.compared = 0


class PartitionReader:
    """Reads partition `partition` of these topics. Blocking; `stopping` ends it early.

    `offset_of`: also ask for the group's offset of this topic. `group`: use this group instead of the worker's.
    """

    def __init__(
        self,
        settings: Settings,
        partition: int,
        topics: tuple[str, ...],
        stopping: threading.Event,
        progress: Progress,
        *,
        offset_of: str | None = None,
        isolation_level: Isolation = "read_committed",
        group: str | None = None,
    ) -> None:
        self.partition = partition
        self._progress = progress
        self._settings = settings
        self._stall_s = settings.stall_s
        self._stopping = stopping
        self._consumer = standalone(
            settings,
            group or settings.group,
            isolation_level=isolation_level,
            fetch_wait_max_ms=50,
            **ready(upstreams=False),
        )
        #: The group's offset, None where it has none. Asked for before the ends: if a successor commits
        #: meanwhile, its entries lie before those ends, and nothing looks skipped.
        self.committed = self._committed(offset_of) if offset_of else None
        self._ends = {topic: self._known_end(topic) for topic in topics}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def end(self, topic: str) -> Offsets:
        """Begin and end of the topic's partition, as they were when reading began."""
        return self._ends[topic]

    def compared(self, wallets: int) -> None:
        """Count wallets that were compared after reading; raises Interrupted when stopped."""
        self._go_on()
        self._progress.compared += wallets

    def _go_on(self) -> None:
        if self._stopping.is_set():
            raise Interrupted

    def _known_end(self, topic: str) -> Offsets:
        return self._asked(
            lambda: Offsets(*watermarks(self._consumer, topic, self.partition, ASK_S)), f"the end of {topic}"
        )

    def _committed(self, topic: str) -> int | None:
        """The group's offset, stable: librdkafka waits for commits that are still being written."""

        asked = [TopicPartition(topic, self.partition)]
        found = self._asked(lambda: group_offsets.asked_by(self._consumer, asked), "the group's offset")
        offset = found[self.partition].offset
        return offset if offset >= 0 else None

    def _asked(self, ask: Callable[[], T], what: str) -> T:
        def raise_lasting(failure: KafkaException) -> None:
            error: KafkaError = failure.args[0]
            if refused := forbidden(error, self._settings, self.partition):
                raise refused from None
            if error.fatal():
                raise self._stopped(f"Kafka does not answer about {what}: {error.str()}") from None

        self._go_on()
        try:
            return until_told(ask, self._stall_s, self._stopping, raise_lasting)
        except KafkaException as failure:
            reason = failure.args[0].str()
            raise self._stopped(f"{what} is not known after {self._stall_s:g} s: {reason}") from None

    def read(self, start: dict[str, int]) -> Iterator[list[Message]]:
        """Batches of records from these offsets (by topic) to the known ends; never hangs.

        Raises Interrupted, or Stopped when nothing came for `WALLET_STALL_S`.
        """
        for batch in read_to_ends(
            self._consumer,
            self.partition,
            start,
            {topic: self._ends[topic].end for topic in start},
            READ_RECORDS,
            self._stall_s,
            go_on=self._go_on,
            failed=self._failed,
        ):
            self._progress.records += len(batch)
            yield batch

    def _failed(self, topics: str, error: KafkaError | None) -> WalletError:
        if error is None:
            return self._stopped(f"no records came from {topics} for {self._stall_s:g} s")
        refused = forbidden(error, self._settings, self.partition)
        return refused or self._stopped(f"{topics} cannot be read: {error.str()}")

    def _stopped(self, reason: str) -> Stopped:
        return Stopped(f"partition {self.partition}: {reason}")
