"""Everything at once: records are sent while worker and ledger sink run, until the last row is there."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from benchmarks import machine
from benchmarks.filling import fill, transactions
from benchmarks.measurement import PATIENCE_S, Measurement
from benchmarks.place import Place
from benchmarks.sink import TABLES, moved, records_of
from config.errors import Stopped
from config.settings import Settings
from operations.cli.children import Child, Children
from sinks.postgres import questions
from topics.names import Topics

LOOK_EVERY_S = 0.1
FIRST = 1_000


@dataclass(frozen=True)
class Running:
    """A pipeline at work, all of whose processes have written already.

    `processes` are its own, beside the servers. `wait_for_rows` returns when that many rows are in Postgres, and raises
    Stopped if they do not come.
    """

    place: Place
    settings: Settings
    children: Children
    processes: Mapping[str, Child]
    wait_for_rows: Callable[[int], None]
    #: Records that open the way, before anything is measured, and the wallets that they are of.
    first: int = FIRST
    wallets: int = FIRST

    @property
    def pids(self) -> dict[str, int]:
        """Every process that takes part, but ours, which sends."""
        return {name: child.pid for name, child in self.processes.items()} | self.place.server_pids()

    def open(self) -> None:
        """Let the first records through."""
        records = transactions(self.first, self.wallets, self.settings.partitions)
        fill(self.settings, records, self.first)
        self.wait_for_rows(self.first)


@contextlib.contextmanager
def running(place: Place, prefix: str, first: int = FIRST, wallets: int = FIRST) -> Iterator[Running]:
    """A new pipeline at work: a worker and a ledger sink."""
    settings = place.pipeline(prefix)
    with place.children(settings) as children:
        started = {
            "worker": children.start("worker", "worker"),
            "sink": children.start("sink ledger", "sink", "ledger"),
        }
        pipeline = Running(
            place,
            settings,
            children,
            started,
            lambda wanted: sink_is_through(settings, children, wanted),
            first,
            wallets,
        )
        pipeline.open()
        yield pipeline


def measure(
    pipeline: Running, events: int, wallets: int, name: str = "end to end: send, worker, ledger sink"
) -> tuple[Measurement, dict[str, float]]:
    """Send, post and write `events` records; also the processor time of each process, us an event.

    They go on where the first ones ended, which were of as many wallets unless there was one record of each, and are
    made before anything is measured.
    """
    settings = pipeline.settings
    stream = list(
        islice(transactions(pipeline.first + events, wallets, settings.partitions), pipeline.first, None)
    )
    before = {one: machine.tree_cpu_s(pid) for one, pid in pipeline.pids.items()}
    ours, began = time.process_time(), time.monotonic()
    fill(settings, stream, events)
    sent_s, ours = time.monotonic() - began, time.process_time() - ours
    pipeline.wait_for_rows(pipeline.first + events)
    seconds = time.monotonic() - began
    after = {one: machine.tree_cpu_s(pid) for one, pid in pipeline.pids.items()}
    costs = {one: (after[one] - cpu_s) / events * 1e6 for one, cpu_s in before.items()}
    costs["sender"] = ours / events * 1e6
    whole = sum(costs.values())
    peak = sum(machine.usage(child.pid).peak_mib for child in pipeline.processes.values())
    memory = " and ".join(pipeline.processes)
    note = f"all processes; sending took {sent_s:.1f} s of {seconds:.1f} s; memory: {memory}"
    return Measurement(name, events, seconds, whole * events / 1e6, whole, peak, note), costs


def sink_is_through(settings: Settings, children: Children, wanted: int) -> None:
    """Wait until the ledger sink has written all there is, and that is as many rows as wanted."""
    ledger = Topics.of(settings).ledger

    def is_all(done: int) -> bool:
        # Counting reads the table, so it is done only when nothing seems to be left.
        return done >= records_of(settings, ledger) and questions.counts(settings)[TABLES["ledger"]] >= wanted

    until_through(children, lambda: moved(settings, "ledger"), is_all, f"the ledger sink, of {wanted} rows,")


def until_through(
    children: Children, done: Callable[[], int], is_all: Callable[[int], bool], stuck: str
) -> None:
    """Return once `is_all` says so of what is done; raises Stopped, which begins with `stuck`, if it does not grow."""
    moved_at, before = time.monotonic(), -1
    while not is_all(now := done()):
        children.raise_if_ended()
        if now > before:
            moved_at, before = time.monotonic(), now
        elif time.monotonic() - moved_at > PATIENCE_S:
            raise Stopped(f"{stuck} stands at {now} for {PATIENCE_S:g} s")
        time.sleep(LOOK_EVERY_S)
