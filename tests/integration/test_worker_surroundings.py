"""What goes wrong around a running worker: clocks, Kafka, the disk. It waits, or ends in one line."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from config.errors import Stopped
from config.settings import Settings
from local.stack import Stack
from tests.clock import Clock, library
from tests.integration.exactness import assert_exact
from tests.integration.pipelines import Rig, as_record, small, transaction, wait_until, wallets_of

pytestmark = pytest.mark.integration

#: A broker refuses what is more than an hour ahead of its own clock.
HALF_AN_HOUR_S = 1_800


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the workers that a test starts from here on."""
    found = library()
    if found is None:
        pytest.skip("another clock needs Linux and a C compiler")
    clock = Clock(found, tmp_path / "clock")
    for name, value in clock.environment.items():
        monkeypatch.setenv(name, value)
    return clock


def test_a_record_from_the_future_stops_its_partition_and_no_other_until_its_time_has_come(
    kafka_only_settings: Settings, tmp_path: Path, clock: Clock
) -> None:
    strict = small(kafka_only_settings, max_clock_ahead_s=1.0, retry_wait_s=0.5)
    with Rig(strict, tmp_path, create_time=True) as rig:
        here, elsewhere = next(wallets_of(0)), next(wallets_of(1))
        now_ms = int(time.time() * 1000)
        times = iter([now_ms, now_ms + HALF_AN_HOUR_S * 1_000, now_ms])
        rig.upstream.send((as_record(transaction(number, here)) for number in range(3)), times)
        worker = rig.start()
        worker.wait_until_told("partition_stopped", 3)
        stopped = worker.events("partition_stopped")[-1]
        assert " error " in stopped
        assert "partition=0 offset=1" in stopped
        rig.upstream.send(
            (as_record(transaction(number, elsewhere)) for number in range(3, 50)), iter([now_ms] * 47)
        )
        wait_until(lambda: rig.committed() == {0: 1, 1: 47}, "what is not ahead is posted")
        clock.jump(HALF_AN_HOUR_S)
        rig.wait_until_posted()
        wanted = assert_exact(strict)
        assert [len(wanted.ledger[at]) for at in (0, 1)] == [3, 47]


@pytest.mark.full
def test_kafka_restarted_under_a_running_worker_is_waited_for(
    own_settings: Settings, own_stack: Stack, tmp_path: Path
) -> None:
    with Rig(small(own_settings), tmp_path) as rig:
        worker = rig.start()
        worker.wait_until_told("ready", 4)
        with rig.flowing(500):
            own_stack.restart("kafka")
            rig.send(500)
            own_stack.kill("kafka")
            worker.wait_until_told("waiting_for_kafka")
            own_stack.start("kafka")
            rig.send(500)
        with suppress(AssertionError):
            rig.wait_until_posted()
        if not worker.runs:  # crash only: it may end itself where an outcome cannot be known
            worker.failed(Stopped)
            rig.start()
        else:
            worker.wait_until_told("kafka_is_back")
            assert len(worker.events("waiting_for_kafka")) <= 2
        rig.wait_until_posted()
        assert_exact(rig.settings)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A file system of its own with little room; called again with another size it is made larger."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("only root can mount a small file system")

    def mounted(size: str) -> Path:
        again = "remount," if place.is_mount() else ""
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"{again}size={size}", "tmpfs", place],
            capture_output=True,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.decode().strip()}")
        return place

    yield mounted
    if place.is_mount():
        subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_ends_the_worker_in_one_line_and_nothing_is_lost(
    tiny_disk: Callable[[str], Path], rig: Rig
) -> None:
    state_dir = tiny_disk("1m") / "state"
    rig.send(30_000)
    why = rig.start(state_dir=state_dir).failed(Stopped)
    assert "No space left on device" in why
    assert why.startswith("wallet: ")
    tiny_disk("200m")
    rig.start(state_dir=state_dir)
    rig.wait_until_posted()
    assert_exact(rig.settings)


@pytest.mark.full
def test_the_session_time_out_is_the_one_that_the_settings_say(rig: Rig, tmp_path: Path) -> None:
    """A worker that has vanished is replaced; one with a longer session would hold its partitions on."""
    vanishes = rig.start(session_timeout_s=300, state_dir=tmp_path / "of a machine that is gone")
    rig.wait_until_shared_by(1)
    vanishes.kill()
    follows = rig.start(session_timeout_s=6)
    wait_s = 12
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        assert not follows.events("ready"), "the dead worker's session of 300 s has ended early"
        time.sleep(0.2)
