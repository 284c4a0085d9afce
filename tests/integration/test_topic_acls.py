"""The ACLs of docs/operations/acls.md on a broker that holds everybody to them: enough for each, and no more."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from config.settings import Settings
from operations.sending.lines import to_json
from schemas.producer import TransactionProducer
from sinks.postgres import databases
from tests.conftest import CACHE
from tests.integration.acl_commands import bindings
from tests.integration.pipelines import transaction
from tests.integration.workers import Worker, wait_until
from tests.secured import as_user, running
from topics.clients import librdkafka
from topics.cluster import quiet_admin
from topics.names import Topics

pytestmark = [pytest.mark.integration, pytest.mark.full, pytest.mark.timeout(480)]

USERS = ("upstream", "init", "worker", "sink", "archivist", "auditor", "sender", "importer", "rebuilder")
PIPELINE_TOPICS = ("transactions", "ledger", "balances", "snapshots", "rejections", "pipeline")
#: The topics that each user may write to; all others are tried and must be refused.
WRITES = {
    "upstream": {"transactions"},
    "init": {"pipeline"},
    "worker": {"ledger", "balances", "snapshots", "rejections", "pipeline"},
    "sink": set[str](),
    "archivist": set[str](),
    "auditor": set[str](),
    "sender": {"transactions"},
    "importer": {"transactions"},
    "rebuilder": set[str](),
}


class Place(NamedTuple):
    """A pipeline on a broker with users, and where its programs write their logs."""

    settings: Settings
    folder: Path
    started: list[Worker]

    def runs(self, user: str, *words: str) -> Worker:
        """A `wallet` command of this user."""
        log = self.folder / f"{user}-{words[0]}.log"
        self.started.append(Worker(as_user(self.settings, user), log, *words))
        return self.started[-1]

    def done(self, user: str, *words: str) -> str:
        """What a command of this user said, which must end well."""
        return self.runs(user, *words).done()


@pytest.fixture
def place(settings: Settings, tmp_path: Path) -> Iterator[Place]:
    with running(tmp_path / "kafka", CACHE, USERS) as broker:
        variables = {
            "KAFKA": broker.address,
            "PREFIX": settings.prefix,
            "PARTITIONS": str(settings.partitions),
            "SHADOW": f"{settings.prefix}-next",
            **{user.upper(): f"User:{user}" for user in USERS},
        }
        admin = broker.admin()
        for answer in admin.create_acls(bindings(tmp_path / "commands", variables)).values():
            answer.result(30)
        name = f"{settings.prefix.replace('-', '_')}_next"
        shadow = {
            "rebuild_prefix": f"{settings.prefix}-next",
            "rebuild_postgres": databases.create(settings, name).postgres,
        }
        place = Place(settings.model_copy(update={"kafka": broker.address, **shadow}), tmp_path, [])
        try:
            yield place
        finally:
            for program in place.started:
                program.kill()
            databases.drop(settings, name)


def test_each_program_can_do_its_work_and_nothing_beyond(place: Place) -> None:
    the_whole_pipeline_runs(place)
    only_its_own_topics_can_be_written(place)
    only_the_worker_can_open_its_transactions(place)
    only_the_worker_can_move_the_groups_offsets(place)
    upstream_reads_nothing(place)


def the_whole_pipeline_runs(place: Place) -> None:
    place.done("init", "init", "--history")
    line = to_json(transaction(999_999, "wallet-0")) | {"recorded_at": "2026-07-01T00:00:00Z"}
    history = place.folder / "history.jsonl"
    history.write_text(json.dumps(line))
    place.done("importer", "import", str(history))
    place.done("init", "init", "--open")
    worker, sink = place.runs("worker", "worker"), place.runs("sink", "sink")
    with TransactionProducer(as_user(place.settings, "upstream")) as producer:
        for number in range(500):
            producer.send(transaction(number, f"wallet-{number % 7}"))
    place.done("sender", "generate", "--count", "2000", "--bad", "0.1")

    def lag() -> int:
        worker.check_runs()
        sink.check_runs()
        said = place.done("auditor", "status", "--json").splitlines()[-1]
        return sum(one["lag"] + (one["position"] is None) for one in json.loads(said)["places"])

    wait_until(lambda: lag() == 0, f"nothing was left to do\n{worker.told()}\n{sink.told()}")
    place.done("init", "init")
    place.done("auditor", "verify")
    place.done("auditor", "rejections", "list")
    place.done("auditor", "inspect", "wallet-0")
    place.done("sink", "replay", "--from-beginning")
    place.done("sender", "rejections", "resubmit", "--reason", "MISROUTED", "--key-from-wallet", "--execute")
    archives_a_month(place)
    wait_until(lambda: lag() == 0, "what was sent again is decided and written")
    worker.stop()
    sink.stop()
    assert worker.events("lag_unknown") == []
    place.done("sink", "replay", "--from-beginning", "--execute")
    rebuilds(place)


def archives_a_month(place: Place) -> None:
    """The one of the imported record, which is long over."""
    place.done("archivist", "archive", "run", "--month", "2026-07")
    place.done("archivist", "archive", "status")
    place.done("archivist", "archive", "verify")
    archive = place.runs("archivist", "sink", "archive")
    archive.wait_until_told("assigned")
    archive.stop()


def rebuilds(place: Place) -> None:
    """Over the live input, and over a copy of it."""
    for partitions in (place.settings.partitions, place.settings.partitions + 1):
        place.done("rebuilder", "rebuild", "start", "--partitions", str(partitions))
        place.done("rebuilder", "rebuild", "status")
        place.done("rebuilder", "rebuild", "diff")
        place.done("rebuilder", "rebuild", "switch", "--execute")
        place.done("rebuilder", "rebuild", "discard", "--even-switched", "--execute")


def only_its_own_topics_can_be_written(place: Place) -> None:
    for user, own in WRITES.items():
        for topic in PIPELINE_TOPICS:
            refused = _write(as_user(place.settings, user), f"{place.settings.prefix}.{topic}")
            assert (refused is None) == (topic in own), f"{user} writes {topic}: {refused}"
            assert refused in {None, KafkaError.TOPIC_AUTHORIZATION_FAILED}


def _write(settings: Settings, topic: str) -> int | None:
    """Try to write a record; the error's code, None if it was written."""
    codes: list[int] = []
    producer = Producer(librdkafka(settings, delivery_timeout_ms=20_000) | {"log_level": 0})
    producer.produce(
        topic, b"", b"pipeline", 0, on_delivery=lambda error, _: codes.append(error.code() if error else 0)
    )
    producer.flush(30)
    return codes[0] or None


def only_the_worker_can_open_its_transactions(place: Place) -> None:
    """Whoever opens a partition's transactional id fences its worker."""
    for user in USERS:
        for name, owner in (("0", "worker"), ("init", "init")):
            producer = Producer(
                librdkafka(as_user(place.settings, user), transactional_id=f"{place.settings.prefix}-{name}")
                | {"log_level": 0}
            )
            refused = _refusal(partial(producer.init_transactions, 20))
            assert refused == (None if user == owner else KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED), (
                f"{user} opens {name}"
            )


def only_the_worker_can_move_the_groups_offsets(place: Place) -> None:
    at = TopicPartition(Topics.of(place.settings).transactions, 0, 0)
    for user in USERS:
        client = quiet_admin(as_user(place.settings, user))
        wanted = ConsumerGroupTopicPartitions(place.settings.group, [at])

        def move(client: AdminClient = client, wanted: ConsumerGroupTopicPartitions = wanted) -> None:
            for answer in client.alter_consumer_group_offsets([wanted]).values():
                for one in answer.result(20).topic_partitions:
                    if one.error:
                        raise KafkaException(one.error)

        refused = _refusal(move)
        expected = (
            {None}
            if user == "worker"
            else {
                KafkaError.GROUP_AUTHORIZATION_FAILED,
                KafkaError.TOPIC_AUTHORIZATION_FAILED,
            }
        )
        assert refused in expected, f"{user} moves the group: {refused}"


def upstream_reads_nothing(place: Place) -> None:
    """Not even what the other topics are like: who may read one may also ask that."""
    client = quiet_admin(as_user(place.settings, "upstream"))
    names = [f"{place.settings.prefix}.{name}" for name in PIPELINE_TOPICS if name != "transactions"]
    for answer in client.describe_topics(TopicCollection(names), request_timeout=20).values():
        assert _refusal(answer.result) == KafkaError.TOPIC_AUTHORIZATION_FAILED


def _refusal(attempt: Callable[[], object]) -> int | None:
    """The code with which Kafka refuses; None if it does not."""
    try:
        attempt()
    except KafkaException as refused:
        return int(refused.args[0].code())
    return None
