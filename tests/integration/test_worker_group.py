"""A worker and its group: a spare that idles for long, others in the group, sessions that Kafka does not allow."""

import re
import signal
from pathlib import Path

import pytest
from confluent_kafka import Consumer

from config.errors import ConfigurationError, Refused, Stopped
from config.settings import Settings
from tests.faults.supervision import IDLE_FOR_HOURS
from tests.integration.exactness import assert_exact
from tests.integration.pipelines import Rig, small, wait_until
from tests.integration.test_watchdog import LOOKS, address_of, ask, value, wait_until_ready
from topics.clients import librdkafka
from topics.names import Topics

pytestmark = pytest.mark.integration

#: A `wallet` command whose sessions are longer than any broker allows by default.
SESSION_OF_AN_HOUR = """
from aiokafka.consumer import consumer
from streams.faust.group import GroupCoordinator
def of_an_hour(*given, **named):
    return GroupCoordinator(*given, **named | {"session_timeout_ms": 3_600_000})
consumer.GroupCoordinator = of_an_hour
from operations.main import main
main()
"""
#: A `wallet` command whose worker has the same name as every other one of this kind.
NAMESAKE = """
from streams.faust import app
app.identity = lambda folder: "namesake"
from operations.main import main
main()
"""
#: Within the limits of a broker, and longer than any test waits.
LONG_SESSION_S = 300.0


@pytest.mark.full
def test_a_killed_worker_that_is_started_again_has_its_partitions_back_and_disturbs_no_other(
    kafka_only_settings: Settings, tmp_path: Path
) -> None:
    with Rig(small(kafka_only_settings, session_timeout_s=LONG_SESSION_S), tmp_path) as rig:
        workers = [rig.start(), rig.start()]
        rig.wait_until_shared_by(2)
        for worker in workers:
            worker.wait_until_told("ready", 2)
        other = len(workers[1].events("assigned"))
        rig.send(500)
        workers[0].kill()
        back = rig.start()
        back.wait_until_told("ready", 2)
        rig.send(500)
        rig.wait_until_posted()
        assert len(workers[1].events("assigned")) == other, workers[1].told()
        # Told to stop it hands over at once, however long its session would last.
        back.stop()
        rig.wait_until_shared_by(1)
        rig.send(500)
        rig.wait_until_posted()
        assert_exact(rig.settings)


def test_a_worker_that_was_replaced_by_one_of_its_name_ends_and_leaves_it_alone(
    kafka_only_settings: Settings, tmp_path: Path
) -> None:
    with Rig(small(kafka_only_settings, session_timeout_s=LONG_SESSION_S), tmp_path) as rig:
        zombie = rig.start(by=("-c", NAMESAKE))
        zombie.wait_until_told("ready", 4)
        rig.send(500)
        rig.wait_until_posted()
        zombie.signal(signal.SIGSTOP)
        successor = rig.start(by=("-c", NAMESAKE))
        successor.wait_until_told("ready", 4)
        zombie.signal(signal.SIGCONT)
        assert "another worker has joined the group under this one's name" in zombie.failed(Stopped)
        rig.send(500)
        rig.wait_until_posted()
        assert len(successor.events("assigned")) == 1, successor.told()
        assert_exact(rig.settings)


def test_a_spare_worker_that_has_idled_for_long_takes_over(
    kafka_only_settings: Settings, tmp_path: Path
) -> None:
    with Rig(small(kafka_only_settings, partitions=1, watchdog_s=4.0), tmp_path) as rig:
        owner = rig.start()
        owner.wait_until_told("ready")
        spare = rig.start(by=("-c", IDLE_FOR_HOURS), http_port=0)
        address = address_of(rig.settings, "worker")
        wait_until_ready(address)
        assert len(rig.members()) == 2
        # Two looks a second, as many heartbeats, and one of these would have it leave.
        looks = value(ask(address, "/metrics")[1], LOOKS)
        wait_until(lambda: value(ask(address, "/metrics")[1], LOOKS) > looks + 8, "it has idled for long")
        assert len(rig.members()) == 2, spare.told()
        assert ask(address, "/ready")[0] == 200
        rig.send(200)
        rig.wait_until_posted()
        owner.kill()
        rig.send(200)
        rig.wait_until_posted()
        spare.stop()
        assert_exact(rig.settings)


def test_a_worker_whose_group_others_are_in_names_them_and_is_refused(rig: Rig) -> None:
    conf = librdkafka(rig.settings, group_id=rig.settings.group, auto_offset_reset="earliest")
    stranger = Consumer(conf | {"client.id": "console-consumer", "enable.auto.commit": False})
    stranger.subscribe([Topics.of(rig.settings).transactions])
    rig.send(100)
    wait_until(lambda: bool(stranger.consume(1, 0.1)), "it reads")
    worker = rig.start()
    said = (
        rf"wallet: the group {rig.settings.group} is used by programs that are not workers: "
        r"console-consumer at [\d.]+\. Stop them, or give them another group"
    )
    assert re.fullmatch(said, worker.failed(Refused))
    assert "Traceback" not in worker.text()
    stranger.close()
    rig.start()
    rig.wait_until_posted()


@pytest.mark.full
def test_a_session_time_out_that_the_broker_does_not_allow_is_named(rig: Rig) -> None:
    worker = rig.start(by=("-c", SESSION_OF_AN_HOUR))
    assert worker.failed(ConfigurationError).startswith("wallet: WALLET_SESSION_TIMEOUT_S=")
