"""Workers times partitions: how the rate grows with both. Each worker is bound to one processor, in turn.

Kafka is not bound, and takes its time from the same processors: on two of them the curve shows how far the workers get
in each other's way, not how far they scale.
"""

import os
from collections.abc import Iterator
from functools import partial

from benchmarks import worker
from benchmarks.measurement import Measurement, watch
from benchmarks.place import Place
from config.settings import Settings
from topics import group_offsets

WORKERS, PARTITIONS = (1, 2), (1, 2, 4, 8, 16)


def measure(place: Place, events: int, wallets: int) -> Iterator[Measurement]:
    """Every number of workers with every number of partitions, over new input."""
    for partitions in PARTITIONS:
        for workers in WORKERS:
            if workers > partitions:
                continue
            prefix = f"scale-{workers}-{partitions}"
            settings = worker.filled(place, prefix, events, wallets, partitions=partitions)
            yield _measure(place, settings, workers, events)


def _measure(place: Place, settings: Settings, workers: int, events: int) -> Measurement:
    processors, done = sorted(os.sched_getaffinity(0)), partial(group_offsets.handled, settings)
    with place.children(settings) as children:
        pids = [children.start(f"worker-{number}", "worker").pid for number in range(workers)]
        for number, pid in enumerate(pids):
            os.sched_setaffinity(pid, {processors[number % len(processors)]})
        name = f"workers {workers}, partitions {settings.partitions}"
        beside = place.server_pids() | {f"worker {number}": pid for number, pid in enumerate(pids[1:], 2)}
        return watch(name, pids[0], done, events, children.raise_if_ended, beside=beside)
