"""The order in which records of several partitions are copied into others: by time, keeping each partition's order.

recorded_at of an entry is its record's timestamp, or the partition's newest one if that is later. Copied in any
order but time, a record could get a later recorded_at in its new partition than it had in the old one.
"""

from bisect import bisect_right
from collections.abc import Sequence
from operator import attrgetter
from typing import Generic, NamedTuple, TypeVar

from confluent_kafka import murmur2

T = TypeVar("T")

#: It is not known what a partition holds next.
UNKNOWN = None


class Held(NamedTuple, Generic[T]):
    """A record that waits for its turn: at this time, from this partition."""

    order_ms: int
    partition: int
    record: T


_order = attrgetter("order_ms")


class Merge(Generic[T]):
    """Merges partitions by time, a stretch at a time.

    Within a partition the offset order stays, even if a clock went back: such a record counts as having its
    predecessor's time.
    """

    def __init__(self, partitions: int) -> None:
        self._held: list[list[Held[T]]] = [[] for _ in range(partitions)]
        self._highest: list[int] = [-(2**63)] * partitions

    def add(self, partition: int, timestamp_ms: int, record: T) -> None:
        """Add the next record of a partition."""
        self._highest[partition] = max(self._highest[partition], timestamp_ms)
        self._held[partition].append(Held(self._highest[partition], partition, record))

    def waiting(self, partition: int) -> int:
        """How many records of a partition are waiting."""
        return len(self._held[partition])

    def first(self, partition: int) -> T | None:
        """The oldest waiting record of a partition, or None."""
        held = self._held[partition]
        return held[0].record if held else None

    def ready(self, complete_to: Sequence[float | None]) -> list[Held[T]]:
        """The records whose turn it is, in order; they are removed.

        `complete_to` gives for each partition the time up to which nothing more can come, if known. If it is
        UNKNOWN, only nothing older than its newest waiting record can come.
        """
        limit = min(
            known if known is not UNKNOWN else held[-1].order_ms if held else float("-inf")
            for known, held in zip(complete_to, self._held, strict=True)
        )
        found: list[Held[T]] = []
        for partition, held in enumerate(self._held):
            end = bisect_right(held, limit, key=_order)
            found += held[:end]
            self._held[partition] = held[end:]
        found.sort(key=_order)  # stable, and fast for a few sorted runs
        return found


def placed(key: bytes | None, partition: int, before: int, after: int) -> int:
    """The partition among `after` of a record that was in this one among `before`.

    The copy must not change what a record becomes. So a misrouted record goes to a partition where its key does not
    belong either, if there is more than one; a record without a key belongs nowhere.
    """
    if not key:
        return partition % after
    home = murmur2(key, after)
    return home if murmur2(key, before) == partition else (home + 1) % after
