"""The input as audits and the watchdog read it: every record in its place, whatever it inflates to."""

from contextlib import closing

import pytest
from confluent_kafka import Producer

from config.settings import Settings
from tests.integration.pipelines import (
    PATIENCE_S,
    as_record,
    initialise_topics,
    open_transaction,
    transaction,
    wallets_of,
)
from topics.clients import librdkafka
from topics.cluster import offsets, quiet_admin
from topics.incoming import Incoming
from topics.names import Topics
from topics.source import Unkept
from topics.topic_settings import alter

pytestmark = pytest.mark.integration

LARGE_BYTES = 10_000_000


def test_each_record_is_read_once_up_to_the_end_and_what_is_too_large_by_its_sizes(
    kafka_only_settings: Settings,
) -> None:
    settings = kafka_only_settings
    initialise_topics(settings)
    topic, here = Topics.of(settings).transactions, next(wallets_of(0))
    with open_transaction(settings, topic, as_record(transaction(1, here))):
        """Rolled back: in the log, and read by nobody."""
    producer = Producer(
        librdkafka(settings, compression_type="gzip", linger_ms=100, message_max_bytes=100_000_000)
    )
    for value in (b"small", bytes(LARGE_BYTES), b"after"):
        producer.produce(topic, value, b"k", 0, headers=[("trace", b"1")])
    assert producer.flush(PATIENCE_S) == 0
    with open_transaction(settings, topic, as_record(transaction(2, here))):
        """The end is behind the marks."""
    with closing(Incoming(settings, topic)) as incoming:
        incoming.start(0, 0, 7)
        found = [one for run in iter(lambda: incoming.next(2), []) for one in run]
        times = incoming.oldest_ms({0: 3, 1: 0}, {0: 7, 1: 0})
        nothing = incoming.oldest_ms({0: 5}, {0: 7})
        newest, none_there = incoming.newest(0, 0, 7), incoming.newest(0, 5, 7)
        at = [incoming.first_at(0, found[0].timestamp_ms, begin, 7) for begin in (0, 3, 5)]
        later = incoming.first_at(0, found[-1].timestamp_ms + 3_600_000, 0, 7)
    assert [one.offset for one in found] == [2, 3, 4]
    assert [one.value for one in found] == [b"small", None, b"after"]
    assert [*found[0].headers] == [("trace", b"1")]
    assert isinstance(found[1], Unkept)
    assert found[1].sizes[:4] == (1, LARGE_BYTES, 1, 6)
    assert times == {0: found[1].timestamp_ms, 1: None}
    assert nothing == {0: None}
    assert newest == (4, found[2].timestamp_ms, True)
    assert none_there is None
    assert at == [2, 3, None]
    assert later is None


def test_whose_time_the_newest_record_has_is_told_by_its_batch(kafka_only_settings: Settings) -> None:
    settings = kafka_only_settings
    initialise_topics(settings)
    topic, here = Topics.of(settings).transactions, as_record(transaction(1, next(wallets_of(0))))
    with closing(Incoming(settings, topic)) as incoming:
        for kind, by_broker in (("LogAppendTime", True), ("CreateTime", False)):
            alter(quiet_admin(settings), topic, {"message.timestamp.type": kind})
            for compression in ("none", "zstd"):
                producer = Producer(librdkafka(settings, compression_type=compression))
                producer.produce(topic, here.value, here.key, 0, timestamp=1_700_000_000_000)
                assert producer.flush(PATIENCE_S) == 0
                end = offsets(quiet_admin(settings), {topic: settings.partitions})[topic, 0].end
                newest = incoming.newest(0, 0, end)
                assert newest is not None
                assert newest.by_broker is by_broker
                assert (newest.timestamp_ms == 1_700_000_000_000) is not by_broker
