"""Where a time is in a topic, for every command that takes one (docs/commands.md, "Times")."""

from collections.abc import Iterable
from contextlib import closing
from datetime import datetime, timedelta

from config.settings import Settings
from schemas.records import EPOCH
from topics.cluster import offsets_in, quiet_admin
from topics.incoming import Incoming
from topics.names import Topics
from topics.topic_log import TopicLog

MILLISECOND = timedelta(milliseconds=1)


def first_ms(at: datetime) -> int:
    """The first millisecond at or after a time: Kafka counts whole milliseconds."""
    return -((EPOCH - at) // MILLISECOND)


def offsets_at(
    settings: Settings, partitions: Iterable[int], at: datetime, topic: str | None = None
) -> dict[int, int | None]:
    """The offset of the first record at or after a time, per partition of a topic (default: the input), or None.

    Only in the ledger is everything after it also later; in other topics, earlier records may follow.
    """
    found: dict[int, int | None] = {}
    if topic in {None, Topics.of(settings).transactions}:
        return _in_the_input(settings, partitions, at)
    with closing(TopicLog(settings, topic)) as log:
        for partition in partitions:
            there = log.log(partition)
            first = log.first_at(partition, first_ms(at), there.begin, there.stable)
            found[partition] = None if first is None else first.offset()
    return found


def _in_the_input(settings: Settings, partitions: Iterable[int], at: datetime) -> dict[int, int | None]:
    topic = Topics.of(settings).transactions
    there = offsets_in(quiet_admin(settings), [(topic, partition) for partition in partitions])
    with closing(Incoming(settings, topic)) as incoming:
        return {
            partition: incoming.first_at(partition, first_ms(at), log.begin, log.end)
            for (_, partition), log in there.items()
        }
