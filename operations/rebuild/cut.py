"""How far two ledgers are compared: each partition up to what is in the tables of both.

A row is in the tables once its record is decided, published and written. So a pipeline's cut is what its worker has
decided (`operations.verify.cut`) or, if a sink is behind, the source of the first record that it has not written.
"""

import time
from contextlib import closing
from dataclasses import dataclass

from config.errors import Refused
from config.settings import Settings
from operations.rebuild.place import Rebuild
from operations.rebuild.status import lags_of, missing
from operations.verify.cut import Cut, cuts, source_of
from sinks.postgres import questions
from topics import group_offsets
from topics.cluster import all_there
from topics.names import Topics
from topics.topic_log import TopicLog

#: Attempts to find a moment in which a running copy pauses.
ATTEMPTS, PAUSE_S = 20, 0.5


@dataclass(frozen=True)
class CommonCut:
    """For each source partition, the offset before which rows are compared, and how much comes after it.

    With another number of partitions, the two sides have different offsets: the shadow's are the copy's.
    """

    live: list[int]
    shadow: list[int]
    not_compared: int


def common(place: Rebuild) -> CommonCut:
    """The newest state that is in both databases; raises Refused if a copy and its input do not reach one."""
    if place.copied:
        return _of_a_copy(place)
    live, beside = (_written(settings, place) for settings in (place.live, place.shadow))
    ends = [max(a.input.end, b.input.end) for a, b in zip(live, beside, strict=True)]
    both = [min(a.source, b.source) for a, b in zip(live, beside, strict=True)]
    return CommonCut(both, both, sum(ends) - sum(both))


def _of_a_copy(place: Rebuild) -> CommonCut:
    """All that was copied so far, at a moment when the copy paused and the shadow had written all of it."""
    before, after = range(place.live.partitions), range(place.shadow.partitions)
    topic = place.shadow.input or ""
    for _ in range(ATTEMPTS):
        copied = group_offsets.offsets(place.copying, place.input, before)
        ends = all_there(place.client, [(topic, at) for at in after])
        beside, live = _written(place.shadow, place), _written(place.live, place)
        again = group_offsets.offsets(place.copying, place.input, before)
        done = {(topic, cut.partition): cut.source for cut in beside}
        handled = {(place.input, cut.partition): cut.source for cut in live}
        wanted = {(place.input, at): copied[at] or 0 for at in before}
        with closing(lags_of(place)) as lags:
            whole = not missing(lags, done, ends) and not missing(lags, handled, wanted)
        if whole and copied == again:
            rest = sum(cut.input.end for cut in live) - sum(wanted.values())
            return CommonCut([*wanted.values()], [ends[topic, at] for at in after], rest)
        time.sleep(PAUSE_S)
    raise Refused(
        f"the shadow {place.shadow.prefix!r} and {place.live.prefix!r} are not at the same point of the input: let "
        "`wallet rebuild start` and the live worker and sinks reach the end, or stop `start --follow`"
    )


def _written(settings: Settings, place: Rebuild) -> list[Cut]:
    """The cut of each partition, lowered to what both sinks have written."""
    topics = Topics.of(settings)
    found = cuts(settings, place.client, range(settings.partitions))
    written = {at: row.high_offset for at, row in questions.written(settings).items()}
    for topic in (topics.ledger, topics.rejections):
        with closing(TopicLog(settings, topic)) as log:
            found = [_lowered(topics, cut, log, written.get((topic, cut.partition), 0)) for cut in found]
    return found


def _lowered(topics: Topics, cut: Cut, log: TopicLog, position: int) -> Cut:
    """The cut, at most the source of the first record of this topic that its sink has not written."""
    begin, end = max(position, cut.begins[log.topic]), cut.ends[log.topic]
    first = log.first_from(cut.partition, begin, end)
    source = None if first is None else source_of(topics, first)
    return cut if source is None else cut._replace(source=min(cut.source, source))
