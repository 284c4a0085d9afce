"""What the writers of one worker share, and the stores that they open."""

import threading
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Consumer

from config.pipeline import Pipeline
from config.settings import Settings
from schemas.registry import Writers
from schemas.versions import SchemaIds
from streams.store import Identity, PartitionStore, StoreMemory
from topics.names import Topics


@dataclass(frozen=True)
class WriterParts:
    """What the writers of one worker share."""

    settings: Settings
    topics: Topics
    pipeline: Pipeline
    writers: Writers
    stopping: threading.Event
    #: Set during a rebalance: a batch that has written nothing yet is abandoned.
    rebalancing: threading.Event
    ids: SchemaIds
    memory: StoreMemory
    folder: Path
    cluster: str
    ledger_topic_id: str
    #: Never joins. Its metadata goes along with the group's offsets in a transaction; reads what is committed.
    group_consumer: Consumer
    uncommitted: Consumer
    #: Lets WALLET_BATCH_THREADS batches be worked on at the same time; more of them may wait for Kafka.
    working: threading.Semaphore


def open_store(parts: WriterParts, partition: int) -> PartitionStore:
    """Open a partition's store in this worker's folder; raises Refused if it belongs to something else."""
    settings = parts.settings
    return PartitionStore(
        parts.folder / settings.prefix / str(partition),
        Identity(parts.cluster, settings.prefix, parts.ledger_topic_id, partition),
        parts.memory,
        settings.cached_wallets // parts.pipeline.partitions + 1,
    )
