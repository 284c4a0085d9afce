"""The worker alone: one process, an input that is there already, four partitions by default."""

import time
from functools import partial

from benchmarks.filling import fill, transactions
from benchmarks.measurement import LOOK_EVERY_S, Measurement, watch
from benchmarks.place import Place
from config.settings import Settings
from topics import group_offsets
from topics.cluster import offsets, quiet_admin
from topics.names import Topics


def filled(place: Place, prefix: str, events: int, wallets: int, **changes: object) -> Settings:
    """A new pipeline whose input holds `events` transactions."""
    settings = place.pipeline(prefix, **changes)
    fill(settings, transactions(events, wallets, settings.partitions), events)
    return settings


def measure(place: Place, settings: Settings, name: str, events: int) -> Measurement:
    """Run a worker to the end of the input, from its first committed batch to its last."""
    client = quiet_admin(settings)
    topic = Topics.of(settings).transactions
    ends = offsets(client, {topic: settings.partitions})
    total = sum(at.end - at.begin for at in ends.values())
    done = partial(group_offsets.handled, settings)
    with place.children(settings) as children:
        worker = children.start("worker", "worker")
        beside = place.server_pids()
        return watch(name, worker.pid, done, total, children.raise_if_ended, events=events, beside=beside)


def start_s(place: Place, settings: Settings) -> float:
    """Seconds from the start of a worker's process, whose stores are there, until all partitions are ready."""
    with place.children(settings) as children:
        began_s = time.monotonic()
        worker = children.start("worker-again", "worker")
        while worker.log.read_text().count(" ready partition=") < settings.partitions:
            children.raise_if_ended()
            time.sleep(LOOK_EVERY_S)
        return time.monotonic() - began_s
