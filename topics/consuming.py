"""Take records from librdkafka until there are enough, by number or by bytes.

librdkafka limits its queue by values only. In topics that keep what upstream sent, keys and headers may be large, too:
for those, the queue is small and few records are taken at a time. A header is two Python objects, a hundred times its
bytes, so it counts for more.
"""

import time
from collections.abc import Iterable

from confluent_kafka import Consumer, Message

from topics.clients import Value
from topics.rejections import headers_of
from topics.source import HEADER_OBJECTS_BYTES

#: About how many bytes to gather before processing them.
GATHERED_BYTES = 16 * 1024 * 1024
#: Records taken at a time, so that large ones are noticed early; and the same for topics with upstream's headers.
SLICE_RECORDS, UPSTREAM_SLICE_RECORDS = 250, 8
#: Queue limits of librdkafka: records, and KB of values, which one fetch may exceed.
READY_RECORDS, UPSTREAM_READY_RECORDS, READY_KB = 100_000, 100, 16 * 1024


def slice_of(*, upstreams: bool) -> int:
    """How many records to take at a time; `upstreams`: the topic has keys and headers from upstream."""
    return UPSTREAM_SLICE_RECORDS if upstreams else SLICE_RECORDS


def ready(*, upstreams: bool) -> dict[str, Value]:
    """Configuration of a consumer's queue."""
    return {
        "queued_min_messages": UPSTREAM_READY_RECORDS if upstreams else READY_RECORDS,
        "queued_max_messages_kbytes": READY_KB,
    }


def consume(
    consumer: Consumer, most_records: int, wait_s: float, *, upstreams: bool = False
) -> list[Message]:
    """Messages within `wait_s`, up to a number or about GATHERED_BYTES; includes the client's events."""
    taken: list[Message] = []
    size, deadline = 0, time.monotonic() + wait_s
    while len(taken) < most_records and size < GATHERED_BYTES:
        wanted = min(slice_of(upstreams=upstreams), most_records - len(taken))
        some = consumer.consume(wanted, max(0.0, deadline - time.monotonic()))
        taken += some
        size += bytes_of(some)
        if len(some) < wanted:
            break
    return taken


def bytes_of(messages: Iterable[Message]) -> int:
    """About how much memory messages take: values, keys and headers."""
    return sum(len(message) + len(message.key() or b"") + _header_bytes(message) for message in messages)


def _header_bytes(message: Message) -> int:
    pairs = headers_of(message) or ()
    return sum(HEADER_OBJECTS_BYTES + len(name) + len(value or b"") for name, value in pairs)
