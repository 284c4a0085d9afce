"""Whoever gathers records before it goes on counts all their bytes: keys and headers, not values only."""

from contextlib import closing
from threading import Event

import pytest
from confluent_kafka import Message, Producer

from config.clients import librdkafka
from config.consuming import GATHERED_BYTES, UPSTREAM_SLICE_RECORDS, bytes_of
from config.settings import Settings
from config.topics import Topics
from operations.verify.reading import Reading
from sinks.observer import Observers
from sinks.rejections import RejectionSink
from sinks.topic import TopicReader
from tests.integration.pipelines import PATIENCE_S, initialise_topics, wait_until

pytestmark = pytest.mark.integration

RECORDS, RECORD_BYTES = 200, 250_000
Headers = list[tuple[str, str | bytes | None]]
#: A key, one large header, and as many small ones as take as much memory.
KINDS: dict[str, tuple[bytes, Headers]] = {
    "keys": (bytes(RECORD_BYTES), []),
    "a header": (b"k", [("h", bytes(RECORD_BYTES))]),
    "headers": (b"k", [("h", b"")] * (RECORD_BYTES // 192)),
}


@pytest.fixture(params=[*KINDS])
def filled(request: pytest.FixtureRequest, kafka_only_settings: Settings) -> Settings:
    """A rejections topic whose records have large keys or headers, and no values."""
    initialise_topics(kafka_only_settings)
    producer = Producer(librdkafka(kafka_only_settings, compression_type="lz4", linger_ms=50))
    key, headers = KINDS[request.param]
    for _ in range(RECORDS):
        producer.produce(Topics.of(kafka_only_settings).rejections, None, key, 0, headers=headers)
    assert producer.flush(PATIENCE_S) == 0
    return kafka_only_settings


def assert_bounded(batches: list[list[Message]], most_bytes: int) -> None:
    assert [message.offset() for batch in batches for message in batch] == [*range(RECORDS)]
    assert max(map(bytes_of, batches)) <= most_bytes + UPSTREAM_SLICE_RECORDS * 2 * RECORD_BYTES


def test_a_sink_gathers_no_more_bytes_than_a_batch_may_have(filled: Settings) -> None:
    settings = filled.model_copy(update={"sink_wait_ms": 10_000, "sink_batch_bytes": 8_000_000})
    reader = TopicReader(settings, RejectionSink(Topics.of(settings).rejections), Event(), Observers())
    batches: list[list[Message]] = []
    try:
        reader.join(lambda partitions: reader.assign(dict.fromkeys(partitions, 0)), lambda _: None)

        def gathered() -> bool:
            if batch := reader.gather():
                batches.append(batch)
            return sum(map(len, batches)) == RECORDS

        wait_until(gathered, "all are gathered")
    finally:
        reader.leave()
    assert_bounded(batches, settings.sink_batch_bytes)


def test_a_command_reads_no_more_bytes_at_a_time_than_it_may(filled: Settings) -> None:
    with closing(Reading(filled, Topics.of(filled).rejections)) as reading:
        reading.start(0, 0, RECORDS)
        batches = [*iter(lambda: reading.next(10_000), [])]
    assert_bounded(batches, GATHERED_BYTES)
