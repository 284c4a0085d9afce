"""Up to where an audit compares, while the pipeline runs: up to what is decided in every partition.

A batch's Kafka transaction becomes visible topic by topic, so the ends of topics alone tell no consistent state.
The order of the questions makes one: 1. what is known to be decided (the newest outcomes, the group's stable
offset), 2. the ends of the derived topics, with what is still open, 3. the end of the input. All outcomes of
1. stand before 2., and no record of the input that has an outcome before 2. stands after 3.
"""

from collections.abc import Sequence
from contextlib import closing
from typing import NamedTuple

from confluent_kafka import Message
from confluent_kafka.admin import AdminClient

from config.errors import Refused
from config.settings import Settings
from schemas.codec import HEADER_BYTES, decode_entry
from topics import group_offsets, rejections
from topics.cluster import Offsets, all_there, offsets_of
from topics.names import Topics
from topics.tail import tail_starts
from topics.topic_log import TopicLog


class Cut(NamedTuple):
    """Where one partition is compared up to: before `source`, which is decided; `input_end` is the input's end.

    `begins` and `ends` are of the derived topics, by name; an end may lie behind an open transaction.
    """

    partition: int
    source: int
    input: Offsets
    begins: dict[str, int]
    ends: dict[str, int]
    committed: int | None


def cuts(settings: Settings, client: AdminClient, partitions: Sequence[int]) -> list[Cut]:
    """The cut of each of these partitions."""
    topics = Topics.of(settings)
    derived = (topics.ledger, topics.rejections, topics.snapshots, topics.balances)
    # 1. What is decided.
    newest = _newest_sources(settings, client, topics, partitions)
    committed = group_offsets.offsets(settings, topics.transactions, partitions)
    # 2. Where its outcomes end.
    begins = offsets_of(client, [(name, at) for name in derived for at in partitions])
    ends = all_there(client, [(name, at) for name in derived for at in partitions])
    # 3. The input, which all of this came from.
    inputs = offsets_of(client, [(topics.transactions, at) for at in partitions])
    found = []
    for at in partitions:
        there = inputs[topics.transactions, at]
        # A source beyond the input is a forged one's: it decides nothing here, and is told as a difference.
        decided = max(committed[at] or 0, newest[at] if newest[at] <= there.end else 0, there.begin)
        found.append(
            Cut(
                at,
                min(decided, there.end),
                there,
                {name: begins[name, at].begin for name in derived},
                {name: ends[name, at] for name in derived},
                committed[at],
            )
        )
    return found


def earlier(cut: Cut, source: int) -> Cut:
    """The same partition, compared up to an earlier offset of the input."""
    if source > cut.source:
        raise Refused(
            f"partition {cut.partition} is decided up to offset {cut.source} only, not up to {source}: wait for the "
            "worker, or name an earlier end"
        )
    return cut._replace(source=source)


def source_of(topics: Topics, message: Message) -> int | None:
    """The offset of the input that a record of the ledger or of the rejections is of; None where it names none."""
    if message.topic() == topics.rejections:
        return rejections.source_of(message)
    try:
        return decode_entry((message.value() or b"")[HEADER_BYTES:]).source_offset
    except (ValueError, IndexError):
        return None


def _newest_sources(
    settings: Settings, client: AdminClient, topics: Topics, partitions: Sequence[int]
) -> dict[int, int]:
    """One past the source of the newest outcome of each partition, read-committed; 0 where there is none."""
    newest = dict.fromkeys(partitions, 0)
    for topic in (topics.ledger, topics.rejections):
        ends = offsets_of(client, [(topic, at) for at in partitions])
        with closing(TopicLog(settings, topic)) as log:
            for (_, at), found in ends.items():
                newest[at] = max(newest[at], _newest_source(log, topics, at, found) + 1)
    return newest


def _newest_source(log: TopicLog, topics: Topics, partition: int, at: Offsets) -> int:
    """The newest source of one partition of a topic; -1 where there is none."""
    for start in tail_starts(at.begin, at.end):
        sources = [
            source
            for messages in log.slices(partition, start, at.end)
            for message in messages
            if (source := source_of(topics, message)) is not None
        ]
        if sources:
            return max(sources)
    return -1
