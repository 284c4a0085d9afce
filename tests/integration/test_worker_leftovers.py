"""What Kafka leaves open of a transaction that it rolled back, when its broker was away for long.

Such a broker leads nothing for a moment when it is back. The transactions that have timed out meanwhile end in this
moment without marks in their partitions (`streams/leftovers.py`).
"""

import time
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from config.errors import Refused, Stopped
from config.settings import Settings
from local.stack import Stack
from operations.sending.generator import ProducerRecord
from streams.transaction import LOOK_BACK_S
from tests.conftest import IN_CONTAINERS
from tests.integration.exactness import assert_exact
from tests.integration.pipelines import Rig, open_transaction, small
from tests.reading import read_all
from topics.clients import librdkafka, standalone
from topics.cluster import all_there, offsets_in, quiet_admin
from topics.names import Topics

pytestmark = pytest.mark.integration

PARTITION = 2
#: Longer than the transaction's time-out, and than the session of the local stack's broker.
TIMEOUT_S, AWAY_S = 2.0, 5.0
PATIENCE_S = 20.0
#: It is a race within the broker, which it loses on a machine that is not too busy.
ATTEMPTS = 3


def begun(settings: Settings, topics: list[str], *, offset: bool) -> None:
    """A worker that died in mid-batch: a transaction under its id that wrote these and is open."""
    producer = Producer(
        librdkafka(
            settings,
            transactional_id=f"{settings.group}-{PARTITION}",
            transaction_timeout_ms=int(TIMEOUT_S * 1_000),
        )
        | {"log_level": 0}
    )
    producer.init_transactions(30)
    producer.begin_transaction()
    for topic in topics:
        producer.produce(topic, b"half a batch", b"key", PARTITION)
    if offset:
        consumer = Consumer(librdkafka(settings, group_id=settings.group))
        at = TopicPartition(Topics.of(settings).transactions, PARTITION, 7)
        producer.send_offsets_to_transaction([at], consumer.consumer_group_metadata(), 30)
        consumer.close()
    assert producer.flush(30) == 0


def is_left(settings: Settings, stack: Stack, before: int) -> bool:
    """Whether something stays open, Kafka having left marks out more often than `before`."""
    deadline = time.monotonic() + PATIENCE_S
    while marks_left_out(stack) == before:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    time.sleep(1.0)
    client, topics = quiet_admin(settings), Topics.of(settings)
    at = [(topic, PARTITION) for topic in topics.partitioned[1:]]
    stable = offsets_in(client, at)
    return any(end > stable[one].end for one, end in all_there(client, at).items()) or is_offset_left(
        settings
    )


def marks_left_out(stack: Stack) -> int:
    return (stack.folder / "kafka.log").read_text().count("can be skipped")


def is_offset_left(settings: Settings) -> bool:
    reader = standalone(settings, settings.group)
    try:
        reader.committed([TopicPartition(Topics.of(settings).transactions, PARTITION)], 5.0)
    except KafkaException as failure:
        if failure.args[0].code() != KafkaError._TIMED_OUT:
            raise
        return True
    finally:
        reader.close()
    return False


def test_a_worker_does_not_commit_while_something_before_it_is_open(rig: Rig) -> None:
    """What is open is somebody else's here: a worker cannot tell, and need not."""
    settings = rig.settings
    rig.send(500)
    first = rig.start()
    rig.wait_until_posted()
    stranger = Producer(librdkafka(settings, transactional_id="stranger"))
    stranger.init_transactions(30)
    stranger.begin_transaction()
    stranger.produce(Topics.of(settings).rejections, b"", b"open", PARTITION)
    assert stranger.flush(30) == 0
    time.sleep(LOOK_BACK_S)
    rig.send(500)
    first.failed(Stopped)
    assert f"left it open in {Topics.of(settings).rejections}" in first.told()
    second = rig.start()
    second.failed(Stopped)
    assert "does another producer write there?" in second.told()
    stranger.abort_transaction(30)
    rig.start()
    rig.wait_until_posted()
    assert_exact(settings)


def test_an_idle_worker_notices_what_is_open_behind_its_newest_batch(
    kafka_only_settings: Settings, tmp_path: Path
) -> None:
    settings = small(kafka_only_settings, transaction_timeout_s=5.0)
    with Rig(settings, tmp_path) as rig:
        rig.send(200)
        worker = rig.start()
        rig.wait_until_posted()
        with open_transaction(
            settings, Topics.of(settings).snapshots, ProducerRecord(b"open", b"", [], PARTITION, None)
        ):
            assert f"left it open in {Topics.of(settings).snapshots}" in worker.failed(Stopped)


@pytest.mark.full
def test_what_is_open_while_others_of_its_transaction_are_there_is_refused_and_not_rolled_back(
    rig: Rig,
) -> None:
    settings = rig.settings
    ledger = Topics.of(settings).ledger
    rig.send(200)
    first = rig.start()
    rig.wait_until_posted()
    first.stop()
    entry = next(one for one in read_all(settings, ledger, 4) if one.partition() == PARTITION)
    again = ProducerRecord(entry.key(), entry.value(), [], PARTITION, None)
    with open_transaction(settings, ledger, again):
        why = rig.start().failed(Refused)
        assert f"of {ledger} is open, but records of later source offsets are committed" in why
    rig.start()
    rig.wait_until_posted()
    assert_exact(settings)


@pytest.mark.parametrize(
    ("written", "offset"),
    [
        pytest.param(("ledger", "balances", "snapshots", "rejections"), True, id="a batch"),
        pytest.param(("snapshots",), False, id="some snapshots"),
        pytest.param((), True, id="an offset"),
    ],
)
@pytest.mark.skipif(IN_CONTAINERS, reason="about the local stack, whose log it reads")
@pytest.mark.full
def test_what_kafka_rolled_back_without_marks_is_never_seen(
    written: tuple[str, ...], offset: bool, own_settings: Settings, own_stack: Stack, tmp_path: Path
) -> None:
    settings = small(own_settings)
    with Rig(settings, tmp_path) as rig:
        rig.send(1_000)
        for _ in range(ATTEMPTS):
            begun(settings, [f"{settings.prefix}.{name}" for name in written], offset=offset)
            marks = marks_left_out(own_stack)
            own_stack.kill("kafka")
            time.sleep(AWAY_S)
            own_stack.start("kafka")
            if is_left(settings, own_stack, marks):
                break
        else:
            pytest.skip("Kafka has written all marks: the machine is too busy for it to hurry")
        worker = rig.start()
        rig.wait_until_posted()
        assert worker.events("left_open")
        assert_exact(settings)
        assert rig.open_transactions() == set()
