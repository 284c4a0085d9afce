"""Find outcomes that are no longer in memory in the topics, which have all of them.

A partition's entries are in the ledger in the order of their sources, and so are rejections, so a binary search finds
them. Blocking; run it in a thread.
"""

from contextlib import closing

from confluent_kafka import Message

from config.settings import Settings
from console.following import posted_in, refused_in
from console.outcomes import Outcome, Source
from topics.cluster import Offsets, offsets_in, quiet_admin
from topics.incoming import Incoming
from topics.names import Topics
from topics.topic_log import TopicLog


class Finder:
    """Searches the topics of one pipeline; its threads share the connection."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._names = settings, Topics.of(settings)
        self._admin = quiet_admin(settings)

    def outcome_of(self, source: Source) -> Outcome | None:
        """The outcome of an input record; None if neither topic has one. Raises NotReachable."""
        for topic in (self._names.ledger, self._names.rejections):
            if (found := self._in_topic(topic, source)) is not None:
                return found
        return None

    def end_of_input(self, source: Source) -> int:
        """Where the input of its partition ends now. Raises NotReachable."""
        return self._input(source).end

    def is_record(self, source: Source) -> bool | None:
        """Whether the input has a record there; None if that can no longer be known. Raises NotReachable."""
        there, (partition, offset) = self._input(source), source
        if offset >= there.end:
            return False
        if offset < there.begin:
            return None
        with closing(Incoming(self._settings, self._names.transactions)) as incoming:
            return incoming.first(partition, offset, offset + 1) is not None

    def _input(self, source: Source) -> Offsets:
        place = self._names.transactions, source[0]
        return offsets_in(self._admin, [place])[place]

    def _in_topic(self, topic: str, source: Source) -> Outcome | None:
        read = posted_in if topic == self._names.ledger else refused_in
        partition = source[0]

        def is_behind(message: Message) -> bool:
            found = read(message)
            return found is None or found[0] >= source

        with closing(TopicLog(self._settings, topic, f"{self._settings.prefix}.console")) as log:
            begin, end = log.log(partition)[:2]
            message = log.first_from(partition, log.boundary(partition, begin, end, is_behind), end)
        found = None if message is None else read(message)
        return found[1] if found is not None and found[0] == source else None
