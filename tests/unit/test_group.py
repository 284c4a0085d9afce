"""A worker whose membership of its group has ended must not go on doing nothing."""

import asyncio
from typing import cast

import pytest
from aiokafka import errors
from aiokafka.consumer import group_coordinator

from config.settings import Settings
from streams.faust import group
from streams.faust.group import GroupCoordinator, Membership


class Told:
    """Remembers what ended the membership."""

    def __init__(self) -> None:
        self.reasons: list[BaseException] = []

    def refused(self, reason: BaseException) -> None:
        self.reasons.append(reason)


def test_what_ends_aiokafkas_coordination_ends_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    # Seen when a client knew of no broker for a moment: its task ended, and nobody heard of it.
    async def ends(_: object) -> None:
        raise errors.KafkaError("Did we not perform bootstrap?")

    monkeypatch.setattr(group_coordinator.GroupCoordinator, "_coordination_routine", ends)
    coordinator, told = object.__new__(GroupCoordinator), Told()
    coordinator.membership = cast("Membership", told)
    coordinator._closing = None
    with pytest.raises(errors.KafkaError):
        asyncio.run(coordinator._coordination_routine())
    (reason,) = told.reasons
    assert "bootstrap" in str(reason)


class JustStarted:
    """What a coordinator asks of aiokafka's client, of a broker that tells of itself only when asked the third time."""

    def __init__(self) -> None:
        self.cluster, self.asked = self, 0

    def brokers(self) -> list[int]:
        return [1] if self.asked >= 3 else []

    async def force_metadata_update(self) -> None:
        self.asked += 1

    async def coordinator_lookup(self, *_: object) -> int:
        assert self.brokers(), "Did we not perform bootstrap?"
        return 1

    async def ready(self, *_: object, **__: object) -> bool:
        return True


def test_the_log_says_once_that_kafka_is_silent_and_once_that_it_is_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    silences = [0.0, 0.05, 0.05, 0.0, 0.0, 0.05, 0.0]  # seconds without an answer, heartbeat by heartbeat

    async def beat(_: object) -> bool:
        silence_s = silences.pop(0)
        await asyncio.sleep(silence_s)
        return silence_s == 0.0

    async def beats() -> None:
        coordinator = object.__new__(GroupCoordinator)
        coordinator.membership = Membership(Settings(kafka="kafka:9092"), lambda _: None)
        while silences:
            await coordinator._do_heartbeat()

    monkeypatch.setattr(group, "SILENT_S", 0.01)
    monkeypatch.setattr(group_coordinator.GroupCoordinator, "_do_heartbeat", beat)
    with caplog.at_level("INFO"):
        asyncio.run(beats())
    assert caplog.messages == ["waiting_for_kafka", "kafka_is_back"] * 2


def test_a_broker_that_does_not_know_itself_yet_is_asked_again() -> None:
    async def found() -> object:
        coordinator, client = object.__new__(GroupCoordinator), JustStarted()
        coordinator.membership = Membership(Settings(), lambda _: None)
        coordinator._client, coordinator._closing = client, asyncio.get_running_loop().create_future()
        coordinator._coordinator_lookup_lock, coordinator._retry_backoff_ms = asyncio.Lock(), 1
        coordinator.coordinator_id, coordinator.group_id = None, "group"
        await coordinator.ensure_coordinator_known()
        return coordinator.coordinator_id

    assert asyncio.run(found()) == 1
