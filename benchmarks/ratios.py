"""What rounds in turn say: the ratio of each round, its median and how far it wanders."""

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple


class Spread(NamedTuple):
    """The median of some figures, the least and the most of them."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        """Short, for a table."""
        return f"{self.median:.2f} ({self.least:.2f} to {self.most:.2f})"


def spread(figures: Sequence[float]) -> Spread:
    """Of at least one figure."""
    return Spread(median(figures), min(figures), max(figures))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Ours to theirs, round by round: what a neighbour's work does to one side it does to the other of that minute.

    Raises ValueError where the rounds are not as many. A round in which theirs is 0 has no ratio.
    """
    return [our / their for our, their in zip(ours, theirs, strict=True) if their]
