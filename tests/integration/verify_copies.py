"""A pipeline that ran, and copies of it to tamper with: the same input, derived topics written anew."""

# ruff: noqa: S608 - the names of tables are literals here

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition

from audit.report import Report
from config.settings import Settings
from local.stack import Addresses
from operations.sending.delivery import deliver
from operations.sending.generating import fitted
from operations.sending.generator import Mix, records
from operations.setup.init import claim, create, initialise
from operations.verify.run import Options, run
from schemas.records import CREDIT
from sinks import postgres
from sinks.postgres import Connection, questions
from tests.conftest import delete_topics, settings_on
from tests.integration.pipelines import Worker, as_record, transaction, wait_until
from tests.integration.tables import unguarded
from tests.ledgers import running
from tests.reading import incoming, read_all
from topics.clients import librdkafka
from topics.cluster import offsets, quiet_admin, specs
from topics.names import Topics

PARTITIONS = 2
COUNT = 2_500

#: A record of a derived topic: key, value, timestamp in ms, headers.
Copied = tuple[bytes | None, bytes | None, int, list[tuple[str, bytes | None]]]
#: Changes one topic's records, by partition and in their order.
Tamper = Callable[[dict[int, list[Copied]]], None]


@contextmanager
def pipeline_that_ran(addresses: Addresses, folder: Path) -> Iterator[Settings]:
    """A worker and the sinks have been through mixed input of every kind; gone afterwards."""
    plain = Settings(
        _env_file=None,
        state_dir=folder / "state",
        partitions=PARTITIONS,
        snapshot_every=5,
        max_record_bytes=2_048,
        overdraft="reject",
        session_timeout_s=6,
    )
    with settings_on(addresses, plain) as settings:
        pipeline = initialise(settings).pipeline
        mix = fitted(Mix(wallets=150, bad=0.06, duplicates=0.03, seed=3), pipeline)
        deliver(settings, records(COUNT, mix), lambda _: None)
        # Two keys of metadata, which jsonb does not keep in their order, and a group with one leg.
        rich = transaction(
            1, "rich", 100, metadata=(("zz", "1"), ("a", "\u20ac")), group_id="one-legged", type=CREDIT
        )
        deliver(settings, [as_record(rich, PARTITIONS)], lambda _: None)
        decide(settings, folder, COUNT + 1)
        write_rows(settings)
        yield settings


def decide(settings: Settings, folder: Path, count: int) -> None:
    """Run a worker until so many records of the input are decided."""
    with Worker(settings, folder / "worker.log") as worker:
        wait_until(lambda: decided(settings) == count, "all input is decided", worker.check_runs)
        worker.stop()


def write_rows(settings: Settings) -> None:
    """Run the sinks until everything that was decided is in the tables."""
    with running(settings, "ledger", "snapshots", "rejections"):
        wait_until(lambda: written(settings), "all rows are written")


def decided(settings: Settings) -> int:
    """How many outcomes there are."""
    names = Topics.of(settings)
    return sum(
        1 for name in (names.ledger, names.rejections) for _ in read_all(settings, name, settings.partitions)
    )


def written(settings: Settings) -> bool:
    """Whether every record of the topics has its row. Positions do not tell: markers end the topics."""
    rows, names = questions.counts(settings), Topics.of(settings)
    tables = {
        "transactions": names.ledger,
        "rejections": names.rejections,
        "transaction_snapshots": names.snapshots,
    }
    return all(
        rows[table] == sum(1 for _ in read_all(settings, topic, settings.partitions))
        for table, topic in tables.items()
    )


@contextmanager
def copy_of(original: Settings, **tampering: Tamper) -> Iterator[Settings]:
    """Another pipeline over the same input, its derived topics copied, tampered with on the way.

    It has no tables. The name of a tampering is the topic's, as in `Topics`.
    """
    names = Topics.of(original)
    prefix = f"test-{secrets.token_hex(4)}"
    settings = original.model_copy(update={"prefix": prefix, "input": names.transactions})
    try:
        wanted = [replace(spec) for spec in specs(settings) if spec.name != names.transactions]
        create(quiet_admin(settings), wanted, settings.replication)
        claim(settings, initialise(original).pipeline)
        producer = Producer(librdkafka(settings))
        for name in ("ledger", "rejections", "snapshots", "balances"):
            copied = read_records(original, getattr(names, name))
            if name in tampering:
                tampering[name](copied)
            for partition, one_partition in copied.items():
                for key, value, timestamp_ms, headers in one_partition:
                    producer.produce(
                        f"{prefix}.{name}",
                        value,
                        key,
                        partition,
                        timestamp=timestamp_ms,
                        headers=[*headers],
                    )
        assert producer.flush(60) == 0
        commit(settings)
        yield settings
    finally:
        delete_topics(settings)


def read_records(settings: Settings, topic: str) -> dict[int, list[Copied]]:
    """All records of a topic, by partition."""
    found: dict[int, list[Copied]] = {at: [] for at in range(PARTITIONS)}
    for message in read_all(settings, topic, PARTITIONS):
        one = incoming(message)
        found[message.partition() or 0].append((one.key, one.value, one.timestamp_ms, list(one.headers)))
    return found


def commit(settings: Settings) -> None:
    """Put the group's offsets to the ends of the input, as its worker would have."""
    topic = Topics.of(settings).transactions
    client = quiet_admin(settings)
    ends = offsets(client, {topic: settings.partitions})
    moved = [TopicPartition(topic, at, there.end) for (_, at), there in ends.items()]
    for answer in client.alter_consumer_group_offsets(
        [ConsumerGroupTopicPartitions(settings.group, moved)]
    ).values():
        answer.result(30)


@contextmanager
def tampering(settings: Settings) -> Iterator[Connection]:
    """The owner of the tables, whose changes of rows are undone afterwards."""
    with postgres.connect(settings) as connection:
        tables = ("wallets", "transactions", "transaction_snapshots", "rejections")
        for table in tables:
            connection.execute(f"CREATE TEMPORARY TABLE kept_{table} AS SELECT * FROM {table}".encode())
        yield connection
        with unguarded(connection):
            for table in reversed(tables):
                connection.execute(f"DELETE FROM {table}".encode())
            for table in tables:
                connection.execute(f"INSERT INTO {table} SELECT * FROM kept_{table}".encode())
                connection.execute(f"DROP TABLE kept_{table}".encode())


def verified(settings: Settings, **options: Any) -> Report:
    """The report of `wallet verify`."""
    return run(settings, Options(**options))


def told(report: Report) -> list[tuple[str, str]]:
    """What differs: the last part of where, and what."""
    assert report.differences.total == len(report.differences.shown), asdict(report.differences.shown[0])
    return sorted((one.where.split(".")[-1], one.what) for one in report.differences.shown)
