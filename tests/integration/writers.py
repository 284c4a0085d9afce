"""Partitions' writers without a worker, driven by hand, and the input that they are given."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import islice

from confluent_kafka import KafkaError, Producer

from config.pipeline import Pipeline
from config.settings import Settings
from operations.sending.generator import Mix, records
from schemas.registry import Writers, schema_ids
from streams.parts import WriterParts
from streams.store import PartitionStore, StoreMemory
from streams.writer import PartitionWriter
from tests.integration.pipelines import Upstream
from tests.integration.workers import PATIENCE_S, wait_until
from tests.reading import incoming, read_all
from topics.clients import librdkafka, member, standalone
from topics.cluster import quiet_admin
from topics.names import Topics
from topics.source import Source
from topics.topic_settings import alter

#: The one that tests write, where it does not matter which.
PARTITION = 1


@contextmanager
def parts_of(settings: Settings) -> Iterator[WriterParts]:
    """What a worker's writers share; the pipeline's topics are there."""
    stopping, ids = threading.Event(), schema_ids(settings)
    with (
        closing(member(settings, settings.group)) as group_consumer,
        closing(standalone(settings, settings.group, isolation_level="read_uncommitted")) as uncommitted,
    ):
        yield WriterParts(
            settings=settings,
            topics=Topics.of(settings),
            pipeline=Pipeline.of(settings, ids.transaction),
            writers=Writers(settings, stopping),
            stopping=stopping,
            rebalancing=threading.Event(),
            ids=ids,
            memory=StoreMemory(16),
            folder=settings.state_dir,
            cluster="cluster",
            ledger_topic_id="ledger",
            group_consumer=group_consumer,
            uncommitted=uncommitted,
            working=threading.Semaphore(1),
        )


@contextmanager
def written_by(settings: Settings, partition: int = PARTITION) -> Iterator[PartitionWriter]:
    """An open writer of a partition, as a worker has it."""
    with parts_of(settings) as parts, closing(PartitionWriter(parts, partition)) as writer:
        writer.open()
        yield writer


def sent(settings: Settings, count: int) -> list[Source]:
    """Mixed input of this partition alone, as the broker holds it."""
    mix = Mix(
        wallets=40,
        bad=0.1,
        duplicates=0.1,
        seed=3,
        partitions=4,
        max_record_bytes=2_048,
        overdraft_rejected=True,
    )
    here = (record for record in records(10**6, mix) if record.partition == PARTITION)
    Upstream(settings).send(islice(here, count))
    return stored(settings)


def stored(settings: Settings) -> list[Source]:
    """The partition's input."""
    return [incoming(one) for one in read_all(settings, Topics.of(settings).transactions, 4)]


def store_of(writer: PartitionWriter) -> PartitionStore:
    assert writer.store is not None
    return writer.store


def set_message_bytes(settings: Settings, limit: int) -> None:
    """Change what a derived topic takes, and return when the broker acts on it."""
    topic = Topics.of(settings).rejections
    alter(quiet_admin(settings), topic, {"max.message.bytes": str(limit)})
    producer = Producer(librdkafka(settings, transactional_id=f"{settings.prefix}-probe"))
    producer.init_transactions(PATIENCE_S)

    def acts() -> bool:
        refused: list[KafkaError | None] = []
        producer.begin_transaction()
        producer.produce(topic, bytes(1_000), partition=0, on_delivery=lambda error, _: refused.append(error))
        producer.flush(PATIENCE_S)
        producer.abort_transaction(PATIENCE_S)
        (error,) = refused
        return (error is not None and error.code() == KafkaError.MSG_SIZE_TOO_LARGE) == (limit < 1_000)

    wait_until(acts, f"the broker takes {limit} bytes a message")
