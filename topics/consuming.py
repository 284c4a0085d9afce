"""Take records from librdkafka until there are enough, by number or by bytes.

librdkafka limits its queue by values only. In topics that keep what upstream sent, keys and headers may be large, too:
for those, the queue is small and few records are taken at a time. A header is two Python objects, a hundred times its
bytes, so it counts for more.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from topics.causes import passes
from topics.clients import Value
from topics.rejections import headers_of
from topics.source import HEADER_OBJECTS_BYTES

#: The most records to read of a topic at a time.
READ_RECORDS = 10_000
#: About how many bytes to gather before processing them.
GATHERED_BYTES = 16 * 1024 * 1024
#: Records taken at a time, so that large ones are noticed early; and the same for topics with upstream's headers.
SLICE_RECORDS, UPSTREAM_SLICE_RECORDS = 250, 8
#: Seconds to wait for a full batch; at the end of a topic that time is lost.
READ_WAIT_S = 0.05
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


def watermarks(consumer: Consumer, topic: str, partition: int, wait_s: float) -> tuple[int, int]:
    """Where a partition begins and ends, as far as this consumer may read it; raises KafkaException."""
    # The stubs do not say that a time-out returns None.
    ends = cast(
        "tuple[int, int] | None",
        consumer.get_watermark_offsets(TopicPartition(topic, partition), wait_s, cached=False),
    )
    if ends is None:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "no answer"))
    return ends


def read_to_ends(
    consumer: Consumer,
    partition: int,
    starts: Mapping[str, int],
    ends: Mapping[str, int],
    most: int,
    stall_s: float,
    *,
    failed: Callable[[str, KafkaError | None], Exception],
    go_on: Callable[[], object] = lambda: None,
    upstreams: bool = False,
) -> Iterator[list[Message]]:
    """One partition's records in some topics, from these starts to these ends, `most` at a time; never hangs.

    A topic is read when the client tells of its end, or when its last record before the end or one behind it is here:
    the end of one that is written to all the time may never be told. A batch may have records from behind an end.
    `go_on` is called before each wait, and raises to end the reading. An error that waiting does not cure is raised as
    `failed(topic, error)`; `failed(topics, None)` if nothing came for `stall_s`, because Kafka is away or a transaction
    is open before an end.
    """
    unread = [topic for topic, start in starts.items() if start < ends[topic]]
    if unread:
        consumer.assign([TopicPartition(topic, partition, starts[topic]) for topic in unread])
    heard_at = time.monotonic()
    while unread:
        go_on()
        messages = consume(consumer, most, READ_WAIT_S, upstreams=upstreams)
        records = [message for message in messages if message.error() is None]
        for message in messages if len(records) < len(messages) else ():
            topic, error = message.topic() or "", message.error()
            if error is None:
                continue
            if error.code() != KafkaError._PARTITION_EOF:
                if not passes(error):
                    raise failed(topic, error)
            elif topic in unread and (message.offset() or 0) >= ends[topic]:
                unread.remove(topic)
        if records:
            for topic, offset in _newest(records).items():
                if topic in unread and offset + 1 >= ends[topic]:
                    unread.remove(topic)
            yield records
            heard_at = time.monotonic()
        elif unread and time.monotonic() - heard_at > stall_s:
            raise failed(", ".join(unread), None)


def _newest(records: Iterable[Message]) -> dict[str, int]:
    """The offset of each topic's last record in a batch."""
    return {message.topic() or "": message.offset() or 0 for message in records}


def bytes_of(messages: Iterable[Message]) -> int:
    """About how much memory messages take: values, keys and headers."""
    return sum(len(message) + len(message.key() or b"") + _header_bytes(message) for message in messages)


def _header_bytes(message: Message) -> int:
    pairs = headers_of(message) or ()
    return sum(HEADER_OBJECTS_BYTES + len(name) + len(value or b"") for name, value in pairs)
