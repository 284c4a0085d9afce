"""Find outcomes that are no longer in memory in the topics, which have all of them.

A partition's entries are in the ledger in the order of their sources, and so are rejections, so a binary search finds
them. Blocking; run it in a thread.
"""

from contextlib import closing

from confluent_kafka import Message

from config.settings import Settings
from console.following import posted_in, refused_in
from console.outcomes import Outcome, Source
from topics.cluster import offsets_of, quiet_admin
from topics.incoming import Incoming
from topics.names import Topics
from topics.topic_log import TopicLog


def outcome_of(settings: Settings, source: Source) -> Outcome | None:
    """The outcome of an input record; None if neither topic has one. Raises NotReachable."""
    names = Topics.of(settings)
    for topic in (names.ledger, names.rejections):
        if (found := _in_topic(settings, topic, source)) is not None:
            return found
    return None


def end_of_input(settings: Settings, source: Source) -> int:
    """Where the input of its partition ends now. Raises NotReachable."""
    place = Topics.of(settings).transactions, source[0]
    return offsets_of(quiet_admin(settings), [place])[place].end


def is_record(settings: Settings, source: Source) -> bool | None:
    """Whether the input has a record there; None if that can no longer be known. Raises NotReachable."""
    topic, (partition, offset) = Topics.of(settings).transactions, source
    there = offsets_of(quiet_admin(settings), [(topic, partition)])[topic, partition]
    if offset >= there.end:
        return False
    if offset < there.begin:
        return None
    with closing(Incoming(settings, topic)) as incoming:
        return incoming.first(partition, offset, offset + 1) is not None


def _in_topic(settings: Settings, topic: str, source: Source) -> Outcome | None:
    read = posted_in if topic == Topics.of(settings).ledger else refused_in
    partition = source[0]

    def is_behind(message: Message) -> bool:
        found = read(message)
        return found is None or found[0] >= source

    with closing(TopicLog(settings, topic, f"{settings.prefix}.console")) as log:
        begin, end = log.log(partition)[:2]
        message = log.first_from(partition, log.boundary(partition, begin, end, is_behind), end)
    found = None if message is None else read(message)
    return found[1] if found is not None and found[0] == source else None
