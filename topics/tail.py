"""Where to look for the newest record of a partition: the last offsets may be transaction marks."""

from collections.abc import Iterator

#: The first window, and the growth factor of the next ones.
TAIL_OFFSETS, TAIL_GROWTH = 16, 16


def tail_starts(begin: int, end: int) -> Iterator[int]:
    """The starts of growing windows before `end`, the last one at `begin`; none if `begin` is `end`."""
    window = TAIL_OFFSETS
    while begin < end:
        start = max(begin, end - window)
        yield start
        if start == begin:
            return
        window *= TAIL_GROWTH
