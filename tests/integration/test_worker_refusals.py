"""What a worker refuses to start with: each refusal is one line, naming what is wrong, and an exit code."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet
from rocksdict import Options, Rdict

from config.errors import ConfigurationError, NotReachable, Refused, Stopped
from config.settings import Settings
from local.state import free_port
from operations.setup.init import create
from tests.integration.exactness import assert_exact
from tests.integration.pipelines import Rig, delete_topic, initialise_topics, small
from tests.integration.workers import Worker
from topics.cluster import quiet_admin, specs
from topics.names import Topics
from topics.topic_settings import alter

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
    alter(quiet_admin(settings), topic, {name: value})


@pytest.mark.full
def test_without_init_the_worker_says_to_run_it(settings_here: Settings, tmp_path: Path) -> None:
    code, line = refusal(settings_here, tmp_path)
    assert code == Refused.exit_code
    assert f"topic {settings_here.prefix}.pipeline does not exist: run `wallet init`" in line


@pytest.mark.full
def test_a_missing_topic_is_named(settings_here: Settings, tmp_path: Path) -> None:
    initialise_topics(settings_here)
    gone = Topics.of(settings_here).snapshots
    delete_topic(settings_here, gone)
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
    assert "name another WALLET_STATE_DIR, or delete this store" in line


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
