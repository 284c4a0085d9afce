"""A worker whose membership of its group has ended must not go on doing nothing."""

import asyncio
from typing import cast

import pytest
from aiokafka import errors
from aiokafka.consumer import group_coordinator

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
