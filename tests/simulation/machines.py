"""Where simulated workers run: what each has of its own, and the seams where the real code meets the simulation."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from typing import cast

import pytest
from confluent_kafka import Consumer as KafkaConsumer
from rocksdict import Options

from config import asking
from config.settings import Settings
from schemas.registry import Writers
from schemas.versions import FIXED_IDS
from streams import catchup, reader, store, transaction, writer
from streams.parts import WriterParts
from streams.store import StoreMemory
from streams.writer import PartitionWriter
from tests.simulation.broker import Broker
from tests.simulation.consumer import Consumer
from tests.simulation.disk import Disk, Folder, Store, WriteBatch
from tests.simulation.inputs import PIPELINE
from tests.simulation.processes import Process, Stage
from tests.simulation.producer import Producer
from topics import clients, consuming, exactly_once
from topics.names import Topics


@cache
def settings() -> Settings:
    """Settings of the simulated pipeline."""
    return Settings(
        _env_file=None,
        prefix="simulated",
        partitions=PIPELINE.partitions,
        snapshot_every=PIPELINE.snapshot_every,
        overdraft="reject",
        max_record_bytes=PIPELINE.max_record_bytes,
        cached_wallets=3,
        stall_s=30.0,
    )


@cache
def known_writers() -> Writers:
    """The schemas of a pipeline without a registry."""
    return Writers(settings())


class Memory(StoreMemory):
    """No RocksDB, so none of its memory."""

    def __init__(self) -> None:
        """There is nothing to share."""

    def options(self) -> Options:
        """Those that RocksDB has."""
        return Options(raw_mode=True)


class Machine:
    """A place where one worker at a time runs, with its disk."""

    def __init__(self, broker: Broker, number: int, disk: Disk) -> None:
        self.number = number
        self.disk = disk
        self.writer: PartitionWriter | None = None
        self.process: Process | None = None
        self.parts = WriterParts(
            settings=settings(),
            topics=Topics.of(settings()),
            pipeline=PIPELINE,
            writers=known_writers(),
            stopping=threading.Event(),
            rebalancing=threading.Event(),
            ids=FIXED_IDS,
            memory=Memory(),
            folder=Folder(f"/{number}"),  # type: ignore[arg-type]  # a path without a disk under it
            cluster="simulated",
            ledger_topic_id="ledger",
            group_consumer=cast("KafkaConsumer", Consumer(broker, {"isolation.level": "read_committed"})),
            uncommitted=cast("KafkaConsumer", Consumer(broker, {"isolation.level": "read_uncommitted"})),
            working=threading.Semaphore(
                1_000
            ),  # a process that is killed while it decides does not come back to it
        )

    @property
    def free(self) -> bool:
        """Whether no process is alive here."""
        return self.process is None or self.process.ended


class Never:
    """Stands for the event that nobody sets: waiting for it takes no time."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def wait(self, seconds: float) -> bool:
        """The clock moves."""
        self._stage.clock.sleep(seconds)
        return False


def removed(stage: Stage, disks: Mapping[int, Disk], path: Folder, *, ignore_errors: bool) -> None:
    """A store's folder that was renamed."""
    assert path.name.endswith(".gone")
    stage.effect("clear the store")
    disks[int(path.parts[1])].back_to(0)


@contextmanager
def in_place(broker: Broker, disks: Mapping[int, Disk]) -> Iterator[None]:
    """Put the simulated clients, store and clock where the code looks for the real ones."""
    stage = broker.stage

    def opened(path: str, options: object, families: object) -> Store:
        return Store(stage, disks[int(path.split("/")[1])])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clients, "Producer", partial(Producer, broker))
        patch.setattr(clients, "Consumer", partial(Consumer, broker))
        patch.setattr(store, "Rdict", opened)
        patch.setattr(store, "WriteBatch", WriteBatch)
        patch.setattr(catchup, "MANY_RECORDS", 2)
        patch.setattr(reader, "ASK_PAUSE_S", 0.0)
        patch.setattr(exactly_once, "RETRY_PAUSE_S", 0.0)
        patch.setattr(writer, "TORN_PAUSE_S", 0.0)
        patch.setattr(writer, "TORN_LOOKS", 2)
        patch.setattr(store, "rmtree", partial(removed, stage, disks))
        patch.setattr(asking, "NEVER", Never(stage))
        for module in (asking, writer, transaction, consuming, catchup):
            patch.setattr(module, "time", stage.clock)
        yield
