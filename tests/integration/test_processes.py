"""`wallet worker --processes 2`: both work, a signal ends both, and neither goes on without the other."""

import os
import signal
from pathlib import Path

import pytest

from config.errors import ConfigurationError
from config.settings import Settings
from tests.integration.exactness import assert_exact
from tests.integration.pipelines import Rig, Worker, small, wait_until

pytestmark = pytest.mark.integration


def supervised(rig: Rig) -> Worker:
    return rig.start("worker", "--processes", "2")


def pids(both: Worker) -> list[int]:
    """Of the processes that were started last."""
    both.wait_until_told("started")
    told = both.events("started command")[-1]
    return [int(pid) for pid in told.partition("pids=")[2].split()[0].strip('"').split(",")]


def wait_until_gone(ended: list[int]) -> None:
    wait_until(lambda: not any(map(lives, ended)), f"{ended} have ended")


def lives(pid: int) -> bool:
    """Whether a process runs, and is not only waiting for someone to ask how it ended."""
    status = Path(f"/proc/{pid}/status")
    try:
        return "State:\tZ" not in status.read_text()
    except OSError:
        return False


def test_processes_share_the_partitions_and_stop_and_end_together(rig: Rig) -> None:
    both = supervised(rig)
    rig.wait_until_shared_by(2)
    rig.send(500)
    rig.wait_until_posted()
    # One that is killed takes the other along, which ends in order.
    first, second = pids(both)
    os.kill(first, signal.SIGKILL)
    assert both.wait() == 128 + signal.SIGKILL, both.told()
    assert f"process_ended pid={first} code=137" in both.text()
    wait_until_gone([first, second])

    both = supervised(rig)
    rig.send(500)
    rig.wait_until_posted()
    # A supervisor that is killed can stop nobody: they stop by themselves.
    orphans = pids(both)
    both.kill()
    wait_until_gone(orphans)

    both = supervised(rig)
    rig.wait_until_shared_by(2)
    # One that somebody stops ends well, but its supervisor was not told to.
    first, second = pids(both)
    os.kill(first, signal.SIGTERM)
    assert both.wait() == 5, both.told()
    wait_until_gone([first, second])

    both = supervised(rig)
    rig.wait_until_shared_by(2)
    started = pids(both)
    both.stop()
    wait_until_gone(started)
    assert_exact(rig.settings)


def test_a_fixed_port_is_the_first_of_a_row(kafka_only_settings: Settings, tmp_path: Path) -> None:
    with Rig(small(kafka_only_settings, http_port=65_535), tmp_path) as rig:
        both = supervised(rig)
        assert both.failed(ConfigurationError) == (
            "wallet: WALLET_HTTP_PORT=65535 leaves no ports for 2 processes: set it to 65534 or lower"
        )
