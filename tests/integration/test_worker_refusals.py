"""What a worker refuses to start with: each refusal is one line, naming what is wrong, and an exit code."""

import json
import shutil
from typing import Any

import pytest
from rocksdict import Options, Rdict

from config.errors import ConfigurationError, NotReachable, Refused, WalletError
from local.state import free_port
from tests.effort import in_full
from tests.integration.exactness import assert_exact
from tests.integration.pipelines import Rig
from topics.cluster import quiet_admin
from topics.names import Topics
from topics.topic_settings import alter

pytestmark = pytest.mark.integration


def refusal(rig: Rig, error: type[WalletError], **changes: Any) -> str:
    """The last line of a worker that does not start; nothing that it says is a traceback."""
    worker = rig.start(**changes)
    line = worker.failed(error)
    assert "Traceback" not in worker.text(), worker.text()
    assert line.startswith("wallet: "), worker.told()
    return line


def test_a_topic_that_is_not_as_it_must_be_is_named(rig: Rig) -> None:
    """What else it may be: test_cluster_topics.py."""
    topic = Topics.of(rig.settings).balances
    alter(quiet_admin(rig.settings), topic, {"cleanup.policy": "delete"})
    assert f"{topic}: cleanup.policy is delete, must be compact" in refusal(rig, Refused)


def test_settings_that_the_pipeline_was_not_made_with_are_named(rig: Rig) -> None:
    line = refusal(rig, ConfigurationError, snapshot_every=8, overdraft="allow")
    assert "WALLET_SNAPSHOT_EVERY is 8, the pipeline has 7" in line
    assert "WALLET_OVERDRAFT is allow, the pipeline has reject" in line


def test_kafka_that_is_not_there_is_waited_for_and_then_named(rig: Rig) -> None:
    nowhere = f"127.0.0.1:{free_port(without=[])}"
    line = refusal(rig, NotReachable, kafka=nowhere, startup_wait_s=1.0)
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
def test_a_store_of_something_else_is_refused(rig: Rig, name: str, value: object) -> None:
    worker = rig.start()
    worker.wait_until_told("ready", 4)
    worker.stop()
    (store,) = rig.settings.state_dir.glob(f"0/{rig.settings.prefix}/2")
    db = Rdict(str(store), Options(raw_mode=True))
    db.put(b"m:identity", json.dumps(json.loads(db.get(b"m:identity") or b"{}") | {name: value}).encode())
    db.close()
    line = refusal(rig, Refused)
    assert f"{name} {value!r} instead of" in line
    assert "name another WALLET_STATE_DIR, or delete this store" in line


def test_a_damaged_store_ends_the_worker_in_one_line(rig: Rig) -> None:
    rig.send(200)
    worker = rig.start()
    rig.wait_until_posted()
    worker.stop()
    (store,) = rig.settings.state_dir.glob(f"0/{rig.settings.prefix}/2")
    (store / "CURRENT").write_text("MANIFEST-999999\n")
    assert str(store) in refusal(rig, Refused)
    shutil.rmtree(store)
    rig.start()
    rig.send(200)
    rig.wait_until_posted()
    assert_exact(rig.settings)
