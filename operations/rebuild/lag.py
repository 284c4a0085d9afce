"""Whether a reader has everything before an end: offsets also count the marks that end transactions."""

from collections.abc import Mapping

from operations.rebuild.input import input_ends
from operations.rebuild.place import Place
from topics.cluster import all_there
from topics.incoming import Incoming
from topics.lag import Lag, LagReader

#: A topic and a partition of it.
At = tuple[str, int]


def ends_of(place: Place, topic: str) -> dict[At, int]:
    """The end of each partition of the live input, or of a topic of the shadow's own, as of now.

    Of its own topics the very end: marks that are not written yet are on their way. Of the live input the
    read-committed one: what an upstream transaction holds open may never come.
    """
    if topic == place.input:
        return {(topic, at): end for at, end in input_ends(place).items()}
    return all_there(place.client, [(topic, at) for at in range(place.shadow.partitions)])


def lags_of(place: Place) -> LagReader:
    """Who tells how far readers of the live input, and of the shadow's topics, are behind."""
    return LagReader(place.shadow, Incoming(place.live, place.input))


def missing(lags: LagReader, positions: Mapping[At, int | None], ends: Mapping[At, int]) -> dict[At, int]:
    """Of each partition that is not read up to its end how many records are missing, about; empty is exact.

    An end behind the read-committed one is not reached before that has come there.
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
