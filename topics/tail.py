"""Where to look for the newest record of a partition: the last offsets may be marks of transactions."""

from collections.abc import Iterator

#: The first window, and by what the next ones grow.
TAIL_OFFSETS, TAIL_GROWTH = 16, 16


def tail_starts(begin: int, end: int) -> Iterator[int]:
    """Where ever larger windows before `end` start, the last of them at `begin`; none where nothing is between."""
    window = TAIL_OFFSETS
    while begin < end:
        start = max(begin, end - window)
        yield start
        if start == begin:
            return
        window *= TAIL_GROWTH
