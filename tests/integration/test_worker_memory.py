"""What a producer sends does not decide how much memory a worker takes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from config.settings import Settings
from operations.sending.generator import ProducerRecord
from tests.integration.exactness import found, source_of
from tests.integration.pipelines import PATIENCE_S, Rig, as_record, transaction, wallets_of
from topics.clients import librdkafka
from topics.names import Topics

pytestmark = pytest.mark.integration

LARGE_BYTES, LARGE_RECORDS = 10_000_000, 60
#: A worker with nothing to do takes about 150 MB. With all of these in memory it takes 1 GB.
MOST_BYTES = 600_000_000


@pytest.fixture
def rig(kafka_only_settings: Settings, tmp_path: Path) -> Iterator[Rig]:
    with Rig(kafka_only_settings, tmp_path) as rig:
        yield rig


def inflating(settings: Settings, compression: str) -> Producer:
    """A producer whose batches of zeros are compressed to so little that any broker takes them."""
    return Producer(
        librdkafka(
            settings,
            enable_idempotence=True,  # what it sends again on a busy machine is there once
            compression_type=compression,
            linger_ms=100,
            message_max_bytes=1_000_000_000,
            batch_size=4 * LARGE_BYTES,
        )
    )


def test_batches_that_inflate_to_gigabytes_are_decided_within_a_bound(rig: Rig) -> None:
    here = next(wallets_of(1))
    topic = Topics.of(rig.settings).transactions
    sent: list[ProducerRecord] = []
    for compression in ("zstd", "gzip", "lz4"):
        producer = inflating(rig.settings, compression)
        for _ in range(LARGE_RECORDS // 3):
            good = as_record(transaction(len(sent), here))
            for record in (good._replace(value=bytes(LARGE_BYTES)), good):
                sent.append(record)
                producer.produce(topic, record.value, record.key, record.partition)
        assert producer.flush(PATIENCE_S) == 0
    rig.upstream.next_offsets = {1: len(sent)}
    worker = rig.start()
    rig.wait_until_posted()
    peak = worker.peak_bytes()
    entries = found(rig.settings, Topics.of(rig.settings).ledger)[1]
    rejections = found(rig.settings, Topics.of(rig.settings).rejections)[1]
    assert [source_of(one) for one in entries] == [*range(1, len(sent), 2)]
    assert [source_of(one) for one in rejections] == [*range(0, len(sent), 2)]
    sizes = f"value {LARGE_BYTES}, 0 headers 0"
    for one in rejections:
        told = {name: (value or b"").decode() for name, value in one.headers}
        assert (one.key, one.value, told["rejection.reason"]) == (None, None, "TOO_LARGE")
        assert told["rejection.detail"].endswith(sizes)
    assert peak < MOST_BYTES
