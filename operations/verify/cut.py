"""How far an audit compares while the pipeline runs: up to what is decided in every partition.

A batch's Kafka transaction becomes visible topic by topic, so the ends of topics are no consistent state. The order
of our questions gives one: 1. what is known to be decided (the newest outcomes, the group's stable offset), 2. the
ends of the derived topics, open transactions included, 3. the end of the input. All outcomes of 1. are before 2.,
and every input record with an outcome before 2. is before 3.
"""

from collections.abc import Sequence
from contextlib import closing
from functools import partial
from typing import NamedTuple

from confluent_kafka import Message
from confluent_kafka.admin import AdminClient

from config.errors import Refused
from config.settings import Settings
from schemas.codec import HEADER_BYTES, decode_entry
from topics import group_offsets, rejections
from topics.cluster import Offsets, all_there, offsets_in
from topics.names import Topics
from topics.tail import newest
from topics.topic_log import TopicLog


class Cut(NamedTuple):
    """The end of the comparison in one partition: before `source`, which is decided; `input_end` is the input's end.

    `begins` and `ends` are of the derived topics, by name; an end may be after an open transaction.
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
    sources = _newest_sources(settings, client, topics, partitions)
    committed = group_offsets.offsets(settings, topics.transactions, partitions)
    # 2. Where its outcomes end.
    begins = offsets_in(client, [(name, at) for name in derived for at in partitions])
    ends = all_there(client, [(name, at) for name in derived for at in partitions])
    # 3. The end of the input.
    inputs = offsets_in(client, [(topics.transactions, at) for at in partitions])
    found = []
    for at in partitions:
        there = inputs[topics.transactions, at]
        # A source beyond the input is forged: ignore it here; the audit reports it as a difference.
        decided = max(committed[at] or 0, sources[at] if sources[at] <= there.end else 0, there.begin)
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
            f"partition {cut.partition} is decided only up to offset {cut.source}, not {source}: wait for the "
            "worker, or name an earlier end"
        )
    return cut._replace(source=source)


def source_of(topics: Topics, message: Message) -> int | None:
    """The input offset that a ledger or rejections record names; None if it names none."""
    if message.topic() == topics.rejections:
        return rejections.source_of(message)
    try:
        return decode_entry((message.value() or b"")[HEADER_BYTES:]).source_offset
    except (ValueError, IndexError):
        return None


def _newest_sources(
    settings: Settings, client: AdminClient, topics: Topics, partitions: Sequence[int]
) -> dict[int, int]:
    """One past the source of the newest outcome of each partition, read-committed; 0 if there is none."""
    sources = dict.fromkeys(partitions, 0)
    for topic in (topics.ledger, topics.rejections):
        ends = offsets_in(client, [(topic, at) for at in partitions])
        with closing(TopicLog(settings, topic)) as log:
            for (_, at), found in ends.items():
                read = partial(log.slices, at, end=found.end)
                source = newest(found.begin, found.end, read, partial(source_of, topics), max)
                sources[at] = max(sources[at], 0 if source is None else source + 1)
    return sources
