"""What is wrong around a worker: each refusal is one line and an exit code, each absence is waited out."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource
from rocksdict import Options, Rdict

from config.cluster import quiet_admin, specs
from config.errors import ConfigurationError, NotReachable, Refused, Stopped
from config.settings import Settings
from config.topics import Topics
from local.stack import Stack
from local.state import free_port
from operations.init import create
from tests.integration.exactness import assert_exact
from tests.integration.pipelines import (
    Rig,
    Worker,
    as_record,
    initialise_topics,
    small,
    transaction,
    wallets_of,
)

pytestmark = pytest.mark.integration


def in_full(*values: object) -> ParameterSet:
    """A case that runs in `make test-full` only."""
    return pytest.param(*values, marks=pytest.mark.full)


@pytest.fixture
def settings_here(kafka_only_settings: Settings) -> Settings:
    return small(kafka_only_settings)


def refusal(settings: Settings, folder: Path) -> tuple[int, str]:
    """Exit code and last line of a worker that does not start; nothing that it says is a traceback."""
    worker = Worker(settings, folder / "refused.log")
    code = worker.wait()
    assert "Traceback" not in worker.text(), worker.text()
    assert worker.last_line().startswith("wallet: "), worker.told()
    return code, worker.last_line()


def configure(settings: Settings, topic: str, name: str, value: str) -> None:
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
    admin = quiet_admin(settings)
    for answer in admin.incremental_alter_configs([resource]).values():
        answer.result(30)


# -- refusals


def test_without_init_the_worker_says_to_run_it(settings_here: Settings, tmp_path: Path) -> None:
    code, line = refusal(settings_here, tmp_path)
    assert code == Refused.exit_code
    assert f"topic {settings_here.prefix}.pipeline does not exist: run `wallet init`" in line


def test_a_missing_topic_is_named(settings_here: Settings, tmp_path: Path) -> None:
    initialise_topics(settings_here)
    gone = Topics.of(settings_here).snapshots
    admin = quiet_admin(settings_here)
    for answer in admin.delete_topics([gone], operation_timeout=30).values():
        answer.result(30)
    code, line = refusal(settings_here, tmp_path)
    assert code == Refused.exit_code
    assert f"{gone}: does not exist" in line


def test_a_topic_with_another_number_of_partitions_is_named(settings_here: Settings, tmp_path: Path) -> None:
    wanted = specs(settings_here)
    create(quiet_admin(settings_here), [replace(wanted[1], partitions=3)], -1)
    initialise_topics(settings_here)
    code, line = refusal(settings_here, tmp_path)
    assert code == Refused.exit_code
    assert f"{Topics.of(settings_here).ledger}: has 3 partitions, must have 4" in line


@pytest.mark.parametrize(
    ("topic", "name", "value", "told"),
    [
        ("balances", "cleanup.policy", "delete", "cleanup.policy is delete, must be compact"),
        in_full("ledger", "cleanup.policy", "compact", "cleanup.policy is compact, must be delete"),
        in_full("rejections", "message.timestamp.type", "LogAppendTime", "must be CreateTime"),
        in_full("rejections", "max.message.bytes", "1000", "max.message.bytes is 1000, must be at least"),
    ],
)
def test_a_topic_with_another_setting_is_named(
    settings_here: Settings, tmp_path: Path, topic: str, name: str, value: str, told: str
) -> None:
    initialise_topics(settings_here)
    configure(settings_here, f"{settings_here.prefix}.{topic}", name, value)
    code, line = refusal(settings_here, tmp_path)
    assert code == Refused.exit_code
    assert f"{settings_here.prefix}.{topic}: " in line
    assert told in line


def test_settings_that_the_pipeline_was_not_made_with_are_named(
    settings_here: Settings, tmp_path: Path
) -> None:
    initialise_topics(settings_here)
    other = settings_here.model_copy(update={"snapshot_every": 8, "overdraft": "allow"})
    code, line = refusal(other, tmp_path)
    assert code == ConfigurationError.exit_code
    assert "WALLET_SNAPSHOT_EVERY is 8, the pipeline has 7" in line
    assert "WALLET_OVERDRAFT is allow, the pipeline has reject" in line


def test_kafka_that_is_not_there_is_waited_for_and_then_named(
    settings_here: Settings, tmp_path: Path
) -> None:
    nowhere = f"127.0.0.1:{free_port(without=[])}"
    code, line = refusal(settings_here.model_copy(update={"kafka": nowhere, "startup_wait_s": 1.0}), tmp_path)
    assert code == NotReachable.exit_code
    assert f"Kafka at {nowhere} did not answer within 1 s" in line


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cluster", "another-cluster"),
        in_full("prefix", "another-pipeline"),
        in_full("ledger_topic_id", "a-ledger-that-was-made-again"),
        in_full("format", 99),
    ],
)
def test_a_store_of_something_else_is_refused(
    settings_here: Settings, tmp_path: Path, name: str, value: object
) -> None:
    with Rig(settings_here, tmp_path) as rig:
        worker = rig.start()
        worker.wait_until_told("ready", 4)
        worker.stop()
    (store,) = settings_here.state_dir.glob(f"0/{settings_here.prefix}/2")
    db = Rdict(str(store), Options(raw_mode=True))
    db.put(b"m:identity", json.dumps(json.loads(db.get(b"m:identity") or b"{}") | {name: value}).encode())
    db.close()
    code, line = refusal(settings_here, tmp_path)
    assert code == Refused.exit_code
    assert f"{name} {value!r} instead of" in line
    assert "name another WALLET_STATE_DIR, or delete this one" in line


def test_a_damaged_store_ends_the_worker_in_one_line(settings_here: Settings, tmp_path: Path) -> None:
    with Rig(settings_here, tmp_path) as rig:
        rig.send(200)
        worker = rig.start()
        rig.wait_until_posted()
        worker.stop()
        (store,) = settings_here.state_dir.glob(f"0/{settings_here.prefix}/2")
        (store / "CURRENT").write_text("MANIFEST-999999\n")
        code, line = refusal(settings_here, tmp_path)
        assert code in {Refused.exit_code, Stopped.exit_code}
        assert str(store) in line
        shutil.rmtree(store)
        rig.start()
        rig.send(200)
        rig.wait_until_posted()
        assert_exact(settings_here)


# -- records from the future


def test_a_record_from_the_future_stops_its_partition_until_its_time_has_come(
    settings_here: Settings, tmp_path: Path
) -> None:
    strict = settings_here.model_copy(update={"max_clock_ahead_s": 1.0, "retry_wait_s": 0.5})
    with Rig(strict, tmp_path, create_time=True) as rig:
        here, elsewhere = next(wallets_of(0)), next(wallets_of(1))
        now_ms = int(time.time() * 1000)
        ahead_ms = now_ms + 12_000
        rig.upstream.send([as_record(transaction(1, here))], iter([now_ms]))
        rig.upstream.send([as_record(transaction(2, here))], iter([ahead_ms]))
        rig.upstream.send([as_record(transaction(3, here))], iter([now_ms]))
        rig.upstream.send([as_record(transaction(4, elsewhere))], iter([now_ms]))
        worker = rig.start()
        worker.wait_until_told("partition_stopped")
        stopped = worker.events("partition_stopped")[0]
        assert " error " in stopped
        assert "partition=0 offset=1" in stopped
        rig.upstream.send([as_record(transaction(5, elsewhere))], iter([now_ms]))
        rig.wait_until_posted()
        assert time.time() * 1000 > ahead_ms - 1_000, "the record was posted before its time had come near"
        wanted = assert_exact(strict)
        assert [len(wanted.ledger[at]) for at in (0, 1)] == [3, 2]


def test_a_partition_that_is_stopped_does_not_keep_the_others_from_going_on(
    settings_here: Settings, tmp_path: Path
) -> None:
    strict = settings_here.model_copy(update={"max_clock_ahead_s": 1.0})
    with Rig(strict, tmp_path, create_time=True) as rig:
        here, elsewhere = next(wallets_of(0)), next(wallets_of(1))
        now_ms = int(time.time() * 1000)
        half_an_hour_ms = 1_800_000  # a broker refuses what is more than an hour ahead of its own clock
        rig.upstream.send([as_record(transaction(1, here))], iter([now_ms + half_an_hour_ms]))
        worker = rig.start()
        worker.wait_until_told("partition_stopped")
        rig.upstream.next_offsets.pop(0)
        rig.upstream.send(
            (as_record(transaction(number, elsewhere)) for number in range(2, 50)), iter([now_ms] * 48)
        )
        rig.wait_until_posted()
        assert rig.committed() == {1: 48}
        worker.stop()


# -- Kafka and the disk


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
            own_stack.start("kafka")
            rig.send(500)
        if not worker.runs:  # crash only: it may end itself where an outcome cannot be known
            assert worker.wait() == Stopped.exit_code, worker.told()
            rig.start()
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
    settings_here: Settings, tmp_path: Path, tiny_disk: Callable[[str], Path]
) -> None:
    state_dir = tiny_disk("1m") / "state"
    with Rig(settings_here.model_copy(update={"state_dir": state_dir}), tmp_path) as rig:
        rig.send(30_000)
        worker = rig.start()
        assert worker.wait() == Stopped.exit_code, worker.told()
        assert "No space left on device" in worker.last_line()
        assert worker.last_line().startswith("wallet: ")
        tiny_disk("200m")
        rig.start()
        rig.wait_until_posted()
        assert_exact(rig.settings)


@pytest.mark.full
def test_the_session_time_out_is_the_one_that_the_settings_say(
    settings_here: Settings, tmp_path: Path
) -> None:
    """A worker that has vanished is replaced; one with a longer session would hold its partitions on."""
    with Rig(settings_here, tmp_path) as rig:
        vanishes = rig.start(session_timeout_s=300)
        rig.wait_until_shared_by(1)
        vanishes.kill()
        follows = rig.start(session_timeout_s=6)
        wait_s = 12
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            assert not follows.events("ready"), "the dead worker's session of 300 s has ended early"
            time.sleep(0.2)
