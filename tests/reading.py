"""Whole topics as a consumer sees them: by librdkafka, read-committed, sharing nothing with what the tests judge."""

import time
from collections.abc import Iterator

from confluent_kafka import KafkaError, Message, TopicPartition

from config.errors import NotReachable
from config.settings import Settings
from topics.clients import standalone
from topics.cluster import offsets, quiet_admin
from topics.consuming import consume, ready
from topics.names import Topics
from topics.source import Source

#: Reading a topic is an error when no record comes for so many seconds.
SILENCE_S = 30.0
BATCH = 2_000


def incoming(message: Message) -> Source:
    """A consumed message as the fold takes it."""
    return Source(
        message.offset() or 0,
        message.timestamp()[1],
        message.key(),
        message.value(),
        tuple(_headers(message)),
    )


def read_all(settings: Settings, topic: str, partitions: int) -> Iterator[Message]:
    """Every record of a topic that is committed now, each partition in its order."""
    upstreams = Topics.of(settings).is_upstreams(topic)
    reader = standalone(
        settings,
        f"{settings.prefix}.check",
        fetch_wait_max_ms=10,
        **ready(upstreams=upstreams),
    )
    begins = offsets(quiet_admin(settings), {topic: partitions})
    unread = {partition for (_, partition), at in begins.items() if at.end > at.begin}
    try:
        reader.assign([TopicPartition(topic, at, begins[topic, at].begin) for at in unread])
        heard_at = time.monotonic()
        while unread:
            for message in consume(reader, BATCH, 0.5, upstreams=upstreams):
                heard_at = time.monotonic()
                error = message.error()
                if error is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:
                    unread.discard(message.partition() or 0)
                else:
                    raise NotReachable(f"{topic} could not be read: {error.str()}")
            if time.monotonic() - heard_at > SILENCE_S:
                raise NotReachable(f"{topic} could not be read: nothing came for {SILENCE_S:g} s")
    finally:
        reader.close()


def _headers(message: Message) -> list[tuple[str, bytes | None]]:
    found = message.headers() or []
    pairs = found.items() if isinstance(found, dict) else found
    return [(name, value.encode() if isinstance(value, str) else value) for name, value in pairs]
