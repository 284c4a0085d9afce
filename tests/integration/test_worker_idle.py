"""A worker that was idle for longer than Kafka remembers its transactional ids and producers (7 days and 1 day)."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka import Consumer

from config.settings import Settings
from local.broker import Broker
from local.state import free_port
from tests.conftest import CACHE
from tests.integration.exactness import assert_exact
from tests.integration.pipelines import PATIENCE_S, Rig, small
from tests.secured import spawned
from topics.clients import librdkafka

pytestmark = [pytest.mark.integration, pytest.mark.full]

EXPIRY_MS = 1_000


@dataclass(frozen=True, kw_only=True)
class ForgetfulBroker(Broker):
    """A broker that forgets within seconds who was idle."""

    forgets: tuple[str, ...]

    def _own_settings(self) -> list[str]:
        return [*super()._own_settings(), *self.forgets]


PRODUCERS = (f"producer.id.expiration.ms={EXPIRY_MS}", "producer.id.expiration.check.interval.ms=500")
TRANSACTIONAL_IDS = (
    f"transactional.id.expiration.ms={EXPIRY_MS}",
    "transaction.remove.expired.transaction.cleanup.interval.ms=500",
)


@pytest.fixture
def rig(request: pytest.FixtureRequest, plain_settings: Settings, tmp_path: Path) -> Iterator[Rig]:
    port = free_port(without=[])
    broker = ForgetfulBroker(
        tmp_path / "kafka", CACHE.expanduser(), port, free_port(without=[port]), forgets=request.param
    )
    with (
        spawned(broker),
        Rig(small(plain_settings.model_copy(update={"kafka": broker.address})), tmp_path) as rig,
    ):
        yield rig


def wait_until_forgotten(settings: Settings) -> None:
    """Return when the coordinator has taken back what it knew of each of the pipeline's transactional ids."""
    ids = {f"{settings.group}-{at}".encode() for at in range(settings.partitions)}
    forgotten = set[bytes]()
    consumer = Consumer(
        librdkafka(settings, group_id=f"{settings.prefix}-looking", auto_offset_reset="earliest")
    )
    consumer.subscribe(["__transaction_state"])
    try:
        while forgotten != ids:
            message = consumer.poll(PATIENCE_S)
            assert message is not None, f"only {forgotten} of {ids} are forgotten"
            assert message.error() is None, message.error()
            # The key is a version, the id's length, and the id.
            if (name := (message.key() or b"")[4:]) in ids:
                (forgotten.discard if message.value() is not None else forgotten.add)(name)
    finally:
        consumer.close()


def wait_until_producers_are_forgotten() -> None:
    """What a partition knows of its producers no client is told, so: for long enough."""
    time.sleep(3 * EXPIRY_MS / 1_000)


@pytest.mark.parametrize("rig", [TRANSACTIONAL_IDS + PRODUCERS], indirect=True)
def test_a_worker_whose_transactional_ids_kafka_has_forgotten_posts_on(rig: Rig) -> None:
    rig.send(1_000)
    worker = rig.start()
    rig.wait_until_posted()
    wait_until_forgotten(rig.settings)
    rig.send(1_000)
    rig.wait_until_posted()
    assert "not currently assigned to its transactional id" in worker.events("aborted")[0]
    worker.stop()
    wait_until_forgotten(rig.settings)
    rig.start()
    rig.send(1_000)
    rig.wait_until_posted()
    assert_exact(rig.settings)


@pytest.mark.parametrize("rig", [PRODUCERS], indirect=True)
def test_a_worker_whose_producers_partitions_have_forgotten_posts_on(rig: Rig) -> None:
    rig.send(1_000)
    rig.start()
    rig.wait_until_posted()
    wait_until_producers_are_forgotten()
    rig.send(1_000)
    rig.wait_until_posted()
    assert_exact(rig.settings)
