"""Sinks that are told to stop while they wait at their start: nothing has begun, so they end in order, at once."""

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pydantic import SecretStr

from config.settings import Settings
from operations.setup.init import initialise
from tests.integration.workers import Worker, wait_until

pytestmark = pytest.mark.integration

#: Far longer than the tests wait for the process to end.
FOR_EVER_S = 3_600.0


@pytest.fixture
def mute() -> Iterator[int]:
    """A port that takes connections and says nothing."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        yield int(listening.getsockname()[1])


@pytest.mark.parametrize("name", ["all", "archive"])
def test_one_that_waits_for_kafka(plain_settings: Settings, mute: int, name: str, tmp_path: Path) -> None:
    waiting = plain_settings.model_copy(
        update={"kafka": f"127.0.0.1:{mute}", "startup_wait_s": FOR_EVER_S, "http_port": 0}
    )
    with Worker(waiting, tmp_path / "log", "sink", name) as sink:
        sink.wait_until_told("waiting_for_kafka")
        sink.stop()


@pytest.mark.parametrize("name", ["all", "archive"])
def test_one_that_waits_for_postgres(settings: Settings, mute: int, name: str, tmp_path: Path) -> None:
    initialise(settings)
    waiting = settings.model_copy(
        update={
            "postgres": SecretStr(f"postgresql://127.0.0.1:{mute}/wallet"),
            "startup_wait_s": FOR_EVER_S,
            "retry_wait_s": 600.0,
        }
    )
    with Worker(waiting, tmp_path / "log", "sink", name) as sink:
        wait_until(lambda: "waiting_for_postgres" in sink.text(), "it waits", sink.check_runs)
        sink.stop()
