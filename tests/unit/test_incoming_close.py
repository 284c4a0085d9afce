"""That reading the input can be ended whatever aiokafka does."""

import asyncio
import time
from typing import Any

import pytest

from config.settings import Settings
from topics import incoming


class Hung:
    """A consumer of aiokafka whose broker went away while it was stopped."""

    async def stop(self) -> None:
        await asyncio.sleep(3_600)


def test_a_consumer_that_cannot_be_stopped_is_left_behind(
    plain_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incoming, "CLOSE_S", 0.01)
    reading: Any = incoming.Incoming(plain_settings, "input")
    reading._consumer = Hung()
    began = time.monotonic()
    reading.close()
    assert time.monotonic() - began < 60
    reading._runner.close()
