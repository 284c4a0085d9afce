"""What rows there must be, in little memory: for each stretch of source offsets their number and a sum of digests.

Rows come from PostgreSQL in any order, entries from the fold in the source's. Two sets of rows are equal if number
and sum of their digests are (keyed, 128 bits, added up modulo 2**128). Where a stretch differs, its rows are
looked at one by one.
"""

import secrets
from collections import defaultdict
from collections.abc import Iterator
from hashlib import blake2b
from typing import NamedTuple

#: Source offsets in one stretch.
STRETCH = 1_024
KEY_BYTES = 16
_MODULUS = 2**128


class Stretch(NamedTuple):
    """So many source offsets of one partition, from `number * STRETCH` on."""

    partition: int
    number: int

    @classmethod
    def of(cls, partition: int, source_offset: int) -> "Stretch":
        """The stretch that an offset lies in."""
        return cls(partition, source_offset // STRETCH)


Counted = tuple[int, int]


def new_key() -> bytes:
    """A key for the digests, which nobody can know before the rows were written."""
    return secrets.token_bytes(KEY_BYTES)


def _nothing() -> list[int]:
    return [0, 0]


class Digests:
    """Rows by stretch. Sums of one key can be compared with each other only."""

    def __init__(self, key: bytes) -> None:
        self.key = key
        self._stretches: defaultdict[tuple[int, int], list[int]] = defaultdict(_nothing)

    def add(self, partition: int, source_offset: int, row: bytes) -> None:
        """Count a row."""
        stretch = self._stretches[partition, source_offset // STRETCH]
        stretch[0] += 1
        stretch[1] += int.from_bytes(blake2b(row, digest_size=16, key=self.key).digest())

    def spoil(self, partition: int, source_offset: int) -> None:
        """Make sure that the stretch of this row is looked at."""
        self._stretches[partition, source_offset // STRETCH][1] += 1

    def total(self) -> int:
        """How many rows were counted."""
        return sum(count for count, _ in self._stretches.values())

    def counted(self) -> dict[Stretch, Counted]:
        """Number and sum of every stretch."""
        return {
            Stretch(*at): (count, total % _MODULUS)
            for at, (count, total) in self._stretches.items()
            if count or total
        }

    def less(self, others: "Digests") -> "Digests":
        """These rows without others, which are among them."""
        left = Digests(self.key)
        for at, (count, total) in self._stretches.items():
            left._stretches[at] = [count, total]
        for at, (count, total) in others._stretches.items():
            stretch = left._stretches[at]
            stretch[0] -= count
            stretch[1] -= total
        return left

    def take(self, other: "Digests") -> None:
        """Add others."""
        self.restore((*at, *counted) for at, counted in other.counted().items())

    def restore(self, saved: Iterator[tuple[int, int, int, int]]) -> None:
        """Add what was counted before: partition, number, count, sum."""
        for partition, number, count, total in saved:
            stretch = self._stretches[partition, number]
            stretch[0] += count
            stretch[1] += total


def different(expected: Digests, found: Digests) -> dict[Stretch, tuple[int, int]]:
    """The stretches that differ, with the number of rows expected and found."""
    wanted, there = expected.counted(), found.counted()
    return {
        at: (wanted.get(at, (0, 0))[0], there.get(at, (0, 0))[0])
        for at in sorted(wanted.keys() | there.keys())
        if wanted.get(at) != there.get(at)
    }
