"""Whoever gathers records before it goes on counts all their bytes: keys and headers, not values only."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from threading import Event

import pytest
from confluent_kafka import Message, Producer

from config.settings import Settings
from sinks.observer import Observers
from sinks.rejections import RejectionSink
from sinks.topic import TopicReader
from tests.integration.pipelines import PATIENCE_S, initialise_topics, wait_until
from tests.ledgers import Waits
from topics.clients import librdkafka
from topics.consuming import GATHERED_BYTES, UPSTREAM_SLICE_RECORDS, bytes_of
from topics.names import Topics
from topics.topic_log import TopicLog

pytestmark = pytest.mark.integration

RECORDS, RECORD_BYTES = 200, 250_000


@contextmanager
def suspended_member(settings: Settings, topic: str) -> Iterator[None]:
    """Another member of the group, in a process that is stopped: the group waits for its session to end."""
    config = librdkafka(settings, group_id=settings.sink_group("rejections"), session_timeout_ms=20_000)
    config["partition.assignment.strategy"] = "cooperative-sticky"
    script = (
        f"from confluent_kafka import Consumer\nc = Consumer({config!r})\nc.subscribe([{topic!r}])\n"
        "while not c.assignment():\n    c.poll(0.1)\nprint('joined', flush=True)\nc.poll(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as member:
        assert member.stdout
        assert member.stdout.readline() == "joined\n"
        member.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            member.kill()


def test_a_sink_says_that_its_group_gives_it_no_share(
    kafka_only_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a coordinator is out of order; here it waits for a member that does not join again."""
    settings = kafka_only_settings.model_copy(update={"session_timeout_s": 6.0, "sink_wait_ms": 200})
    initialise_topics(settings)
    topic = Topics.of(settings).rejections
    with suspended_member(settings, topic):
        heard = Waits()
        reader = TopicReader(settings, RejectionSink(topic), Event(), heard)
        monkeypatch.setattr("sinks.topic._patience_s", lambda _: 0.0)
        try:
            reader.join(lambda partitions: reader.assign(dict.fromkeys(partitions, 0)), lambda _: None)
            wait_until(lambda: bool(reader.gather() or heard.reasons), "it is said")
            assert heard.sinks == {"rejections"}
            group = settings.sink_group("rejections")
            assert heard.reasons[0].startswith(f"the group {group} has assigned no partitions")
            wait_until(lambda: not reader.gather() and reader._owed_since is None, "it has its share")
        finally:
            reader.leave()


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
    with closing(TopicLog(filled, Topics.of(filled).rejections)) as log:
        batches = [*log.slices(0, 0, RECORDS)]
    assert_bounded(batches, GATHERED_BYTES)
