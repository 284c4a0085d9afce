"""The check that workers and sinks make at their start, against topics that somebody changed."""

import os
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from config.errors import ConfigurationError, Refused
from config.pipeline import Pipeline
from config.settings import Settings
from local.stack import Stack
from operations.cli.context import environment
from operations.setup import init
from tests.integration.pipelines import delete_topic, make_topics
from tests.integration.workers import wait_until
from topics.cluster import agreed, check, describe, offsets, quiet_admin, refuse_differences, specs
from topics.topic_settings import alter

pytestmark = pytest.mark.integration

Change = Callable[[str, str, str], None]


@pytest.fixture
def client(kafka_only_settings: Settings) -> AdminClient:
    return quiet_admin(kafka_only_settings)


@pytest.fixture
def ready(kafka_only_settings: Settings) -> Settings:
    """Settings of a pipeline whose topics and record are there."""
    make_topics(kafka_only_settings)
    init.claim(kafka_only_settings, Pipeline.of(kafka_only_settings, 1))
    return kafka_only_settings


@pytest.fixture
def change(client: AdminClient) -> Change:
    def set_config(topic: str, name: str, value: str) -> None:
        alter(client, topic, {name: value})

    return set_config


def test_a_pipeline_as_init_made_it_passes_and_the_ends_of_its_topics_are_known_at_once(
    ready: Settings, client: AdminClient
) -> None:
    found = offsets(client, {f"{ready.prefix}.ledger": 4})
    assert {(at.begin, at.end) for at in found.values()} == {(0, 0)}
    assert check(ready) == Pipeline.of(ready, 1)


def test_a_cluster_without_the_pipeline_is_refused(kafka_only_settings: Settings) -> None:
    with pytest.raises(Refused, match="run `wallet init`"):
        check(kafka_only_settings)


def test_topics_without_a_record_are_refused(kafka_only_settings: Settings) -> None:
    make_topics(kafka_only_settings)
    with pytest.raises(Refused, match="holds no pipeline record"):
        check(kafka_only_settings)


def test_other_settings_than_the_pipelines_are_named(ready: Settings) -> None:
    others: list[tuple[dict[str, object], str]] = [
        ({"overdraft": "reject"}, "WALLET_OVERDRAFT is reject, the pipeline has allow"),
        ({"snapshot_every": 7}, "WALLET_SNAPSHOT_EVERY is 7, the pipeline has 100"),
        ({"partitions": 5}, "WALLET_PARTITIONS is 5, the pipeline has 4"),
        ({"id_window_days": 3}, "WALLET_ID_WINDOW_DAYS is 3, the pipeline has None"),
    ]
    for changes, named in others:
        with pytest.raises(ConfigurationError, match=named):
            check(ready.model_copy(update=changes))


def test_what_was_not_set_is_the_pipelines(ready: Settings) -> None:
    silent = Settings(_env_file=None, prefix=ready.prefix, kafka=ready.kafka)
    assert silent.partitions == 12
    found = agreed(silent)
    assert (found.partitions, found.snapshot_every) == (4, 100)
    assert found.prefix == ready.prefix
    partitions = "WALLET_PARTITIONS is 12, the pipeline has 4: unset them, or"
    with pytest.raises(ConfigurationError, match=partitions):
        agreed(silent.model_copy(update={"partitions": 12}))


def test_a_topic_that_was_changed_is_refused_by_name(ready: Settings, change: Change) -> None:
    right = {spec.name: spec.config for spec in specs(ready)}
    for name, setting, value in (
        ("balances", "cleanup.policy", "delete"),
        ("ledger", "cleanup.policy", "compact"),
        ("ledger", "message.timestamp.type", "LogAppendTime"),
        ("rejections", "message.timestamp.after.max.ms", "3600000"),
        ("snapshots", "max.message.bytes", "1048588"),
        ("pipeline", "cleanup.policy", "delete"),
    ):
        topic = f"{ready.prefix}.{name}"
        change(topic, setting, value)
        with pytest.raises(Refused, match=f"{topic}: {setting} is {value}, must be "):
            check(ready)
        change(topic, setting, right[topic][setting])
    assert check(ready) == Pipeline.of(ready, 1)


def test_a_missing_topic_is_refused_by_name(ready: Settings) -> None:
    delete_topic(ready, f"{ready.prefix}.snapshots")
    with pytest.raises(Refused, match=f"{ready.prefix}.snapshots: does not exist"):
        check(ready)


def test_a_worker_takes_an_input_with_its_own_dates(ready: Settings, change: Change) -> None:
    change(f"{ready.prefix}.transactions", "message.timestamp.type", "CreateTime")
    assert check(ready) == Pipeline.of(ready, 1)


def test_wrong_partitions_are_refused_by_name(kafka_only_settings: Settings, client: AdminClient) -> None:
    settings = kafka_only_settings
    init.create(client, specs(settings)[1:], -1)
    for answer in client.create_topics([NewTopic(f"{settings.prefix}.transactions", 3)]).values():
        answer.result(10)
    names = [spec.name for spec in specs(settings)]
    wait_until(lambda: len(describe(client, names)) == len(names), "the broker knows them")
    found = describe(client, names)
    with pytest.raises(Refused, match="transactions: has 3 partitions, must have 4"):
        refuse_differences(settings, found)


#: Asks for the ids of a cluster and a topic again and again, until it is killed.
ASKS = """
from topics.cluster import identity, quiet_admin
from config.errors import NotReachable
from config.settings import from_environment
from topics.names import Topics

settings = from_environment()
client, topic = quiet_admin(settings), Topics.of(settings).ledger
while True:
    try:
        identity(client, topic)
    except NotReachable:
        pass
"""


@pytest.mark.full
def test_a_broker_that_knows_of_no_broker_yet_ends_nobody_who_asks_for_ids(
    own_stack: Stack, own_settings: Settings
) -> None:
    # Suspended for about its session, a broker answers for a moment as if there was none, not even itself:
    # librdkafka ends a program that asks it to describe the cluster then, which this saw in the second of ten rounds.
    make_topics(own_settings)
    with subprocess.Popen([sys.executable, "-c", ASKS], env=os.environ | environment(own_settings)) as asking:
        try:
            for tenth in range(10):
                time.sleep(2)
                with own_stack.suspended("kafka"):
                    time.sleep(2.9 + tenth / 10)
                time.sleep(2)
                assert asking.poll() is None
        finally:
            asking.kill()


#: Asks again and again who is in a group, each time for a second only, until it is killed.
ASKS_ABOUT_A_GROUP = """
from config.errors import NotReachable
from config.settings import from_environment
from topics import cluster, rights

cluster.ASK_S = rights.ASK_S = 1.0
settings = from_environment()
while True:
    rights.require(settings, {}, {settings.group: rights.READ})
"""


@pytest.mark.full
def test_a_group_that_was_asked_about_in_vain_ends_nobody_once_its_coordinator_is_there(
    own_stack: Stack, own_settings: Settings
) -> None:
    env = os.environ | environment(own_settings)
    with subprocess.Popen([sys.executable, "-c", ASKS_ABOUT_A_GROUP], env=env) as asking:
        try:
            time.sleep(2)
            own_stack.kill("kafka")
            time.sleep(3)
            own_stack.start("kafka")
            time.sleep(5)
            assert asking.poll() is None
        finally:
            asking.kill()
