"""A lost state folder: how fast a partition's store is made again from Kafka."""

import threading
from concurrent.futures import ThreadPoolExecutor

from benchmarks.measurement import Measurement, of_this_process
from benchmarks.place import Place
from config.settings import Settings
from streams.catchup import CatchUp
from streams.partitions import OPENING_AT_ONCE
from streams.reader import Progress
from streams.store import Identity, PartitionStore, StoreMemory
from topics.names import Topics
from vitals.collecting import few_collections


def measure(place: Place, settings: Settings) -> Measurement:
    """Rebuild all partitions from a pipeline's `ledger` and `balances`, in this process, as a worker does."""
    with few_collections():
        return of_this_process("rebuild of the stores, records", lambda: _rebuild(place, settings))


def _rebuild(place: Place, settings: Settings) -> int:
    memory = StoreMemory(settings.store_memory_mb)

    def rebuilt(partition: int) -> int:
        progress = Progress()
        store = PartitionStore(
            place.folder / settings.prefix / "rebuilt" / str(partition),
            Identity("benchmark", settings.prefix, "", partition),
            memory,
            settings.cached_wallets // settings.partitions + 1,
        )
        try:
            CatchUp(settings, Topics.of(settings), partition, store, progress).run(threading.Event())
        finally:
            store.close()
        return progress.records

    with ThreadPoolExecutor(OPENING_AT_ONCE) as threads:
        return sum(threads.map(rebuilt, range(settings.partitions)))
