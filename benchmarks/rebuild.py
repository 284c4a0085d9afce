"""A lost state folder: how fast a partition's store is made again from Kafka."""

import threading

from benchmarks.measurement import Measurement, of_this_process
from benchmarks.place import Place
from config.settings import Settings
from config.topics import Topics
from streams.catchup import CatchUp
from streams.reader import Progress
from streams.store import Identity, PartitionStore, StoreMemory


def measure(place: Place, settings: Settings) -> Measurement:
    """Rebuild one partition after the other from a pipeline's `ledger` and `balances`, in this process."""
    return of_this_process("rebuild of the stores, records", lambda: _rebuild(place, settings))


def _rebuild(place: Place, settings: Settings) -> int:
    progress, memory = Progress(), StoreMemory(settings.store_memory_mb)
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
    return progress.records
