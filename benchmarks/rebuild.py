"""A lost state folder: how fast a partition's store is made again from Kafka."""

import os
import threading
import time

from benchmarks import machine
from benchmarks.measurement import Measurement
from benchmarks.place import Place
from config.settings import Settings
from config.topics import Topics
from streams.catchup import CatchUp
from streams.reader import Progress
from streams.store import Identity, PartitionStore, StoreMemory


def measure(place: Place, settings: Settings) -> Measurement:
    """Rebuild one partition after the other from a pipeline's `ledger` and `balances`, in this process."""
    progress, memory = Progress(), StoreMemory(settings.store_memory_mb)
    before, began_s = machine.usage(os.getpid()), time.monotonic()
    for partition in range(settings.partitions):
        store = PartitionStore(
            place.folder / settings.prefix / "rebuilt" / str(partition),
            Identity("benchmark", settings.prefix, "", partition),
            memory,
            settings.cached_wallets,
        )
        try:
            CatchUp(settings, Topics.of(settings), partition, store, progress).run(threading.Event())
        finally:
            store.close()
    seconds, after = time.monotonic() - began_s, machine.usage(os.getpid())
    cpu_s = after.cpu_s - before.cpu_s
    return Measurement(
        "rebuild of the stores, records",
        progress.records,
        seconds,
        cpu_s,
        cpu_s / progress.records * 1e6,
        after.peak_mib,
    )
