"""One writer for each partition: zombies, frozen workers and intruders cannot post, and nothing is lost."""

import signal

import pytest
from confluent_kafka import KafkaException, Producer

from config.errors import Stopped
from tests.integration.exactness import assert_exact
from tests.integration.pipelines import Rig
from tests.integration.workers import wait_until
from topics.clients import librdkafka
from topics.names import Topics

pytestmark = pytest.mark.integration


def opened_by_another(rig: Rig, partition: int) -> Producer:
    """A producer under a partition's transactional id, which fences the worker's."""
    producer = Producer(
        librdkafka(rig.settings, transactional_id=f"{rig.settings.group}-{partition}") | {"log_level": 0}
    )
    producer.init_transactions(30)
    return producer


@pytest.mark.full
def test_a_worker_takes_a_partition_back_from_a_stranger_once_and_then_ends_in_one_line(rig: Rig) -> None:
    worker = rig.start()
    worker.wait_until_told("ready", 4)
    rig.send(1_000)
    stranger = opened_by_another(rig, 2)
    rig.send(1_000)
    rig.wait_until_posted()
    assert worker.events("taken_back")
    stranger.begin_transaction()
    stranger.produce(Topics.of(rig.settings).ledger, b"forged", b"forged", 2)
    with pytest.raises(KafkaException):
        stranger.commit_transaction(30)
    opened_by_another(rig, 2)
    rig.send(1_000)
    why = worker.failed(Stopped)
    assert "another process writes it" in why
    assert "Traceback" not in why
    rig.start()
    rig.wait_until_posted()
    assert_exact(rig.settings)


def test_what_a_fenced_writer_had_in_its_open_transaction_is_rolled_back(rig: Rig) -> None:
    """The last owner died with a transaction open; the next one ends it before it reads anything."""
    last_owner = opened_by_another(rig, 2)
    last_owner.begin_transaction()
    last_owner.produce(Topics.of(rig.settings).ledger, b"half a batch", b"key", 2)
    last_owner.flush(30)
    assert rig.open_transactions() == {2}
    rig.send(1_000)
    rig.start()
    rig.wait_until_posted()
    wait_until(lambda: not rig.open_transactions(), "no transaction is open", rig.check_workers)
    assert_exact(rig.settings)


@pytest.mark.full
def test_a_worker_frozen_for_longer_than_its_session_is_replaced_and_does_no_harm_when_it_thaws(
    rig: Rig,
) -> None:
    zombie = rig.start(batch_records=50)
    zombie.wait_until_told("ready", 4)
    successor = rig.start(batch_records=50)
    rig.wait_until_shared_by(2)
    with rig.flowing():
        rig.freeze_in_mid_batch(zombie)
        rig.wait_until_shared_by(1)
        zombie.signal(signal.SIGCONT)
        rig.send(1_000)
        successor.check_runs()
    zombie.ask_to_stop()  # whether it has come back into the group or has ended itself
    zombie.wait()
    rig.wait_until_posted()
    successor.stop()
    assert_exact(rig.settings)
