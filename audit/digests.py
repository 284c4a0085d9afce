"""Compare sets of rows in little memory: for each stretch of source offsets, their number and a sum of digests.

Rows come from PostgreSQL in any order, certified ones in the order of their sources. Two sets of rows are equal if
number and sum of their digests are (keyed, 128 bits, added modulo 2**128). Rows of a differing stretch are then
compared one by one.
"""

import secrets
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np

from audit.columns import Longs

#: Source offsets in one stretch.
STRETCH = 1_024
KEY_BYTES = DIGEST_BYTES = 16
_MODULUS = 2**128
_HALVES = 4


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
    """A random key for the digests, so that nobody could have forged rows for it."""
    return secrets.token_bytes(KEY_BYTES)


class Digests:
    """Rows by stretch. Sums of one key can be compared with each other only."""

    def __init__(self, key: bytes) -> None:
        self.key = key
        self._stretches: dict[tuple[int, int], Counted] = {}

    def add(self, partitions: Longs, sources: Longs, rows: Sequence[bytes]) -> None:
        """Count rows, each with the partition and offset of its source."""
        if not len(rows):
            return
        key = self.key
        joined = b"".join([blake2b(row, digest_size=DIGEST_BYTES, key=key).digest() for row in rows])
        parts = np.frombuffer(joined, ">u4").reshape(len(rows), _HALVES).astype(np.int64)
        numbers = sources // STRETCH
        order = np.lexsort((numbers, partitions))
        partition, number = partitions[order], numbers[order]
        starts = np.flatnonzero(
            np.concatenate([[True], (partition[1:] != partition[:-1]) | (number[1:] != number[:-1])])
        )
        sums = np.add.reduceat(parts[order], starts, axis=0).tolist()
        counts = np.diff(np.append(starts, len(rows))).tolist()
        for at, count, (first, second, third, fourth) in zip(
            zip(partition[starts].tolist(), number[starts].tolist(), strict=True), counts, sums, strict=True
        ):
            self._add(at, count, (first << 96) + (second << 64) + (third << 32) + fourth)

    def spoil(self, partition: int, source_offset: int) -> None:
        """Make the stretch of this row differ, so that its rows are compared."""
        self._add(Stretch.of(partition, source_offset), 0, 1)

    def _add(self, at: tuple[int, int], count: int, total: int) -> None:
        before = self._stretches.get(at, (0, 0))
        self._stretches[at] = before[0] + count, before[1] + total

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
        left._stretches.update(self._stretches)
        for at, (count, total) in others._stretches.items():
            left._add(at, -count, -total)
        return left

    def take(self, other: "Digests") -> None:
        """Add others."""
        self.restore((*at, *counted) for at, counted in other.counted().items())

    def restore(self, saved: Iterable[tuple[int, int, int, int]]) -> None:
        """Add what was counted before: partition, number, count, sum."""
        for partition, number, count, total in saved:
            self._add((partition, number), count, total)


def different(expected: Digests, found: Digests) -> dict[Stretch, tuple[int, int]]:
    """The stretches that differ, with the number of rows expected and found."""
    wanted, there = expected.counted(), found.counted()
    return {
        at: (wanted.get(at, (0, 0))[0], there.get(at, (0, 0))[0])
        for at in sorted(wanted.keys() | there.keys())
        if wanted.get(at) != there.get(at)
    }
