"""Whether a reader has everything before an end: offsets also count the marks that end transactions."""

from collections.abc import Mapping

from config.lag import LagReader

#: A topic and a partition of it.
At = tuple[str, int]
#: A lag of so few offsets a partition is looked at: what lies there may be marks, not records.
MARKS = 8


def missing(lags: LagReader, positions: Mapping[At, int | None], ends: Mapping[At, int]) -> dict[At, int]:
    """Of each partition that is not read up to its end how many records are missing, about; empty is exact."""
    behind = {at: positions.get(at) or 0 for at, end in ends.items() if (positions.get(at) or 0) < end}
    left = {at: ends[at] - position for at, position in behind.items()}
    if not left or max(left.values()) > MARKS:
        return left
    looked = lags.look(behind)
    return {at: count for at, count in left.items() if at not in looked or looked[at].records != 0}
