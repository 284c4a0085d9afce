"""Taking records from librdkafka until there are enough of them, in number or in bytes.

librdkafka counts the values of what it holds ready. Keys and headers are upstream's, too, in the topics that keep what
upstream sent: of those little is held ready, and few records are taken at a time. A header is two objects in Python, a
hundred times its bytes, so it counts for more.
"""

import time
from collections.abc import Iterable

from confluent_kafka import Consumer, Message

from topics.clients import Value
from topics.rejections import headers_of
from topics.source import HEADER_OBJECTS_BYTES

#: What is gathered before it is worked on, about.
GATHERED_BYTES = 16 * 1024 * 1024
#: Records taken at a time, so that what is large is noticed before it is all there; and where upstream's headers are.
SLICE_RECORDS, UPSTREAM_SLICE_RECORDS = 250, 8
#: librdkafka fetches no more while it holds so many ready; values of so many KB, which may be exceeded by one fetch.
READY_RECORDS, UPSTREAM_READY_RECORDS, READY_KB = 100_000, 100, 16 * 1024


def slice_of(*, upstreams: bool) -> int:
    """How many records to take at a time; `upstreams`: of a topic with keys and headers of upstream's making."""
    return UPSTREAM_SLICE_RECORDS if upstreams else SLICE_RECORDS


def ready(*, upstreams: bool) -> dict[str, Value]:
    """What a consumer holds ready, as its configuration."""
    return {
        "queued_min_messages": UPSTREAM_READY_RECORDS if upstreams else READY_RECORDS,
        "queued_max_messages_kbytes": READY_KB,
    }


def consume(
    consumer: Consumer, most_records: int, wait_s: float, *, upstreams: bool = False
) -> list[Message]:
    """What comes within `wait_s`, up to so many records or about GATHERED_BYTES; events of the client among them."""
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
    """What messages take in memory, about: values, keys and headers."""
    return sum(len(message) + len(message.key() or b"") + _header_bytes(message) for message in messages)


def _header_bytes(message: Message) -> int:
    pairs = headers_of(message) or ()
    return sum(HEADER_OBJECTS_BYTES + len(name) + len(value or b"") for name, value in pairs)
