"""Whether a reader has read every record before an end; offsets also count transaction marks."""

from collections.abc import Mapping

from operations.rebuild.input import input_ends
from operations.rebuild.place import Place
from topics.cluster import all_there
from topics.incoming import Incoming
from topics.lag import Lag, LagReader

#: A topic and a partition of it.
At = tuple[str, int]


def ends_of(place: Place, topic: str) -> dict[At, int]:
    """The current end of each partition of the live input or of one of the shadow's topics.

    For the shadow's topics, the very end: missing marks are on their way. For the live input, the read-committed end:
    what an upstream transaction holds open may never commit.
    """
    if topic == place.input:
        return {(topic, at): end for at, end in input_ends(place).items()}
    return all_there(place.client, [(topic, at) for at in range(place.shadow.partitions)])


def lags_of(place: Place) -> LagReader:
    """A reader of lags in the live input and the shadow's topics."""
    return LagReader(place.shadow, Incoming(place.live, place.input))


def missing(lags: LagReader, positions: Mapping[At, int | None], ends: Mapping[At, int]) -> dict[At, int]:
    """About how many records are missing in each partition that is not read to its end; empty is exact.

    An end beyond the read-committed one is reached only when that has caught up.
    """
    behind = {at: positions.get(at) or 0 for at, end in ends.items() if (positions.get(at) or 0) < end}
    looked = lags.look(behind)
    return {
        at: ends[at] - position
        for at, position in behind.items()
        if at not in looked or _lies_before(ends[at], looked[at])
    }


def _lies_before(end: int, lag: Lag) -> bool:
    return lag.records != 0 or lag.stable_end < end
