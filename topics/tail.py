"""Look for the newest record of a partition from its end backwards: the last offsets may be transaction marks."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

#: The first window, and the growth factor of the next ones.
TAIL_OFFSETS, TAIL_GROWTH = 16, 16

R = TypeVar("R")
T = TypeVar("T")


def tail_starts(begin: int, end: int, window: int = TAIL_OFFSETS, growth: int = TAIL_GROWTH) -> Iterator[int]:
    """The starts of growing windows before `end`, the last one at `begin`; none if `begin` is `end`."""
    while begin < end:
        start = max(begin, end - window)
        yield start
        if start == begin:
            return
        window *= growth


def newest(
    begin: int,
    end: int,
    read: Callable[[int], Iterable[Sequence[R]]],
    of: Callable[[R], T | None],
    either: Callable[[T, T], T] | None = None,
) -> T | None:
    """What `of` says of the newest record from `begin` to `end` (excluded) of which it says something, or None.

    `read` returns the records from an offset to `end`, in stretches. Without `either`, nothing before that record in
    its stretch is judged; with it, all that is found together is, and `either` chooses of two.
    """
    for start in tail_starts(begin, end):
        found: T | None = None
        for stretch in read(start):
            for record in reversed(stretch):
                if (said := of(record)) is None:
                    continue
                found = said if found is None or either is None else either(said, found)
                if either is None:
                    break
        if found is not None:
            return found
    return None
