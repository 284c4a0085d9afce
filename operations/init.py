"""`wallet init`: make what a pipeline needs, once, and refuse what differs (DESIGN section 3)."""

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from config.clients import librdkafka
from config.cluster import (
    ASK_S,
    FoundTopic,
    describe,
    input_bytes,
    quiet_admin,
    read_pipeline,
    refuse_differences,
    specs,
    wait_for_kafka,
)
from config.errors import NotReachable, Refused
from config.pipeline import KEY, Pipeline
from config.settings import Settings
from config.topics import Topics, TopicSpec
from schemas import registry
from schemas.registry import SchemaIds
from sinks import migrations

#: How often an init that another one overtook looks again.
ATTEMPTS = 10
#: Being fenced is an ordinary outcome here; librdkafka would shout it on stderr.
_unheard = logging.getLogger("operations.init.librdkafka")
_unheard.setLevel(logging.CRITICAL + 1)


@dataclass(frozen=True)
class Report:
    """What `wallet init` found and did; everything is empty where all was there already."""

    pipeline: Pipeline
    record_written: bool
    created: tuple[str, ...]
    schemas: SchemaIds
    migrated: tuple[str, ...]
    warnings: tuple[str, ...]


def initialise(settings: Settings) -> Report:
    """Create topics, schemas, the pipeline record and the tables; running it again changes nothing.

    The record is written after the topics, so where it is there, they must be there too. Raises
    ConfigurationError, NotReachable or Refused.
    """
    wait_for_kafka(settings)
    client = quiet_admin(settings)
    created = _topics(client, settings)
    ids = registry.register(settings)
    pipeline, written = claim(settings, Pipeline.of(settings, ids.transaction))
    migrated = migrations.migrate(settings)
    names = Topics.of(settings)
    warnings = _costs(describe(client, names.partitioned), names)
    return Report(pipeline, written, tuple(created), ids, tuple(migrated), tuple(warnings))


def _topics(client: AdminClient, settings: Settings) -> list[str]:
    """Create the topics that are missing and refuse what is not as it must be; names of those created."""
    names = Topics.of(settings)
    everything = (*names.partitioned, names.pipeline)
    found = describe(client, everything)
    initialised = names.pipeline in found and read_pipeline(settings)
    if initialised:
        initialised.check(settings)
        if missing := [name for name in everything if name not in found]:
            raise Refused(
                f"the pipeline {settings.prefix!r} was initialised and has lost {', '.join(missing)}: "
                "restore them, or begin a new pipeline under another WALLET_PREFIX"
            )
    if settings.input and settings.input not in found:
        raise Refused(f"the topic {settings.input} that WALLET_INPUT names does not exist: create it first")
    lacking = [spec for spec in specs(settings, input_bytes(settings, found)) if spec.name not in found]
    create(client, lacking, settings.replication)
    found = settled(client, everything)
    # A topic that WALLET_INPUT names may hold history under its own dates; one of ours may not, yet.
    refuse_differences(settings, found, any_input_time=settings.input is not None)
    return [spec.name for spec in lacking]


def create(client: AdminClient, topics: Iterable[TopicSpec], replication: int) -> None:
    """Create topics; one that somebody else has just created is left to the check that follows."""
    wanted = [
        NewTopic(
            spec.name, num_partitions=spec.partitions, replication_factor=replication, config=spec.config
        )
        for spec in topics
    ]
    if not wanted:
        return
    for name, answer in client.create_topics(wanted, operation_timeout=ASK_S, request_timeout=ASK_S).items():
        try:
            answer.result(2 * ASK_S)
        except KafkaException as failure:
            error = failure.args[0]
            if error.code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise Refused(f"Kafka did not create topic {name}: {error.str()}") from None


def settled(client: AdminClient, names: tuple[str, ...]) -> dict[str, FoundTopic]:
    """The topics once the broker asked knows all of them, which may take a moment after they were created."""
    deadline = time.monotonic() + ASK_S
    while True:
        found = describe(client, names)
        if len(found) == len(names) or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


def claim(settings: Settings, wanted: Pipeline) -> tuple[Pipeline, bool]:
    """The pipeline record that counts, and whether this call wrote it; two at once agree on one.

    Raises ConfigurationError where the record is there and says something else.
    """
    for attempt in range(ATTEMPTS):
        there = read_pipeline(settings)
        written = there is None and _write_first(settings, wanted)
        there = there or read_pipeline(settings)
        if there:
            # The record's schema id stands, whatever the registry knows by now.
            there.check(settings)
            return there, written
        time.sleep(0.2 * attempt)
    raise NotReachable("other `wallet init` runs kept overtaking this one: run it again")


def _write_first(settings: Settings, wanted: Pipeline) -> bool:
    """Write the record unless there is one; False where another init came between.

    The order is what makes two of them agree: 1. fence every other init, which aborts its open transaction
    and waits for one that is committing, 2. look again, 3. write and commit, which fails if we were fenced.
    """
    producer = Producer(
        librdkafka(settings, transactional_id=f"{settings.prefix}-init", transaction_timeout_ms=60_000),
        logger=_unheard,
    )
    failed: list[KafkaError] = []
    try:
        producer.init_transactions(max(ASK_S, settings.startup_wait_s))
        if read_pipeline(settings) is not None:
            return False
        producer.begin_transaction()
        producer.produce(
            Topics.of(settings).pipeline,
            wanted.to_json(),
            KEY,
            partition=0,
            on_delivery=lambda error, _: failed.append(error) if error else None,
        )
        producer.commit_transaction(max(ASK_S, settings.startup_wait_s))
    except KafkaException as failure:
        error = failure.args[0]
        if error.code() in {KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH} or error.fatal():
            return False
        raise NotReachable(f"the pipeline record could not be written: {error.str()}") from None
    return not failed


def _costs(found: dict[str, FoundTopic], names: Topics) -> list[str]:
    """What a finite retention of a topic costs, for each that has one."""
    costs = {
        names.transactions: "audits and rebuilds cannot read from the beginning",
        names.ledger: "exact duplicates are not found after a worker lost its store, and sinks cannot replay",
        names.snapshots: "the snapshots sink cannot replay what is gone",
        names.rejections: "the rejections sink cannot replay what is gone",
    }
    return [
        f"topic {name} has {setting}={found[name].config[setting]}: {cost}"
        for name, cost in costs.items()
        for setting in ("retention.ms", "retention.bytes")
        if found[name].config.get(setting, "-1") != "-1"
    ]
