"""`python -m benchmarks`: measure everything in one run, on a stack of its own, and print a table."""

import signal
import sys
from collections.abc import Callable
from enum import StrEnum
from types import FrameType
from typing import Annotated

import typer

from benchmarks import (
    end_to_end,
    id_index,
    latency,
    machine,
    other_engine,
    quix,
    rebuild,
    sink,
    table,
    takeover,
    worker,
)
from benchmarks.id_index import BATCH_IDS
from benchmarks.measurement import Measurement
from benchmarks.place import Place, log, own_stack
from config.errors import WalletError


class What(StrEnum):
    """What can be measured."""

    PLAIN = "plain"
    QUIX = "quix"
    WORKER = "worker"
    SINK = "sink"
    SNAPSHOTS = "snapshots"
    END = "end"
    LATENCY = "latency"
    MILLION = "million"
    REBUILD = "rebuild"
    IDS = "ids"
    TAKEOVER = "takeover"


#: Ten million ids, and stopping workers, take minutes: only when named.
DEFAULT = frozenset(What) - {What.IDS, What.TAKEOVER}
PLAIN = "plain Faust, at least once"
#: What is slow gets fewer events, what is quick gets them all.
PLAIN_EVENTS, QUIX_EVENTS = 30_000, 100_000
MILLION = 1_000_000
LATENCY_S = 10.0


class Session:
    """One run of the benchmarks."""

    def __init__(
        self,
        place: Place,
        results: table.Results,
        events: int,
        wallets: int,
        quix_python: str,
        id_count: int,
    ) -> None:
        self._results = results
        self._place = place
        self._events = events
        self._wallets = wallets
        self._quix = quix_python
        self._id_count = id_count

    def run(self, wanted: set[What]) -> None:
        """Measure what is wanted, the baseline first."""
        steps: list[tuple[set[What], Callable[[set[What]], None]]] = [
            ({What.PLAIN}, self._plain),
            ({What.QUIX}, self._beside_quix),
            ({What.WORKER, What.SINK, What.REBUILD}, self._worker_and_sink),
            ({What.SNAPSHOTS}, self._snapshots),
            ({What.END, What.LATENCY}, self._at_once),
            ({What.MILLION}, self._million),
            ({What.IDS}, self._ids),
            ({What.TAKEOVER}, self._takeover),
        ]
        for what, step in steps:
            if what & wanted:
                log.info("measuring", what=" ".join(sorted(what & wanted)))
                step(wanted)

    def _plain(self, _: set[What]) -> None:
        command = (sys.executable, "-m", "benchmarks.plain_faust")
        events = min(PLAIN_EVENTS, self._events)
        self._add(other_engine.measure(self._place, "plain", PLAIN, command, events, self._wallets))

    def _beside_quix(self, _: set[What]) -> None:
        if not quix.is_installed(self._quix):
            log.info("skipped", what="Quix Streams", reason="not installed, see benchmarks/quix.py")
            return
        command = (self._quix, quix.__file__)
        events = min(QUIX_EVENTS, self._events)
        name = "Quix Streams, at least once"
        self._add(other_engine.measure(self._place, "quix", name, command, events, self._wallets))

    def _worker_and_sink(self, wanted: set[What]) -> None:
        settings = worker.filled(self._place, "bench", self._events, self._wallets)
        measured = worker.measure(self._place, settings, "worker, exactly once", self._events)
        if What.WORKER in wanted:
            self._add(measured)
        if What.SINK in wanted:
            self._add(sink.measure(self._place, settings, "ledger", "ledger sink", self._events))
        if What.REBUILD in wanted:
            self._add(rebuild.measure(self._place, settings))

    def _snapshots(self, _: set[What]) -> None:
        """A snapshot for every entry, so that there are enough of them."""
        events = self._events // 2
        settings = worker.filled(self._place, "snap", events, self._wallets, snapshot_every=1)
        worker.measure(self._place, settings, "worker with a snapshot each", events)
        self._add(sink.measure(self._place, settings, "snapshots", "snapshots sink", events))

    def _at_once(self, wanted: set[What]) -> None:
        with end_to_end.running(self._place, "end") as pipeline:
            if What.END in wanted:
                measured, self._results.end_to_end_cpu_us = end_to_end.measure(
                    pipeline, self._events, self._wallets
                )
                self._add(measured)
            if What.LATENCY in wanted:
                self._results.latency = latency.measure(pipeline, self._results.latency_rate, LATENCY_S)

    def _million(self, _: set[What]) -> None:
        events = MILLION + MILLION // 5
        settings = worker.filled(self._place, "million", events, MILLION)
        self._add(worker.measure(self._place, settings, "worker, a million wallets", events))

    def _ids(self, _: set[What]) -> None:
        for measured in id_index.measure(self._place, self._id_count):
            self._add(measured)

    def _takeover(self, _: set[What]) -> None:
        self._results.pauses = takeover.measure(self._place, "takeover")

    def _add(self, measured: Measurement) -> None:
        log.info("measured", what=measured.name, rate=f"{measured.rate:.0f}", cpu_us=f"{measured.cpu_us:.1f}")
        self._results.measurements.append(measured)


def main(
    only: Annotated[list[What] | None, typer.Option(help="Measure only this; may be repeated.")] = None,
    events: Annotated[int, typer.Option(min=10_000, help="Transactions of each measurement.")] = 400_000,
    wallets: Annotated[int, typer.Option(min=10, help="Wallets they are spread over.")] = 10_000,
    partitions: Annotated[int, typer.Option(min=1, max=64, help="Partitions of the topics.")] = 4,
    rate: Annotated[int, typer.Option(min=1, help="Transactions a second for latency.")] = 500,
    ids: Annotated[int, typer.Option(min=BATCH_IDS, help="Ids in the index.")] = 10_000_000,
    quix_python: Annotated[str, typer.Option("--quix", help="A Python with quixstreams.")] = sys.executable,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Measure worker, sinks, end to end and latency beside plain Faust."""
    signal.signal(signal.SIGTERM, _stop)
    results = table.Results(PLAIN, latency_rate=rate)
    try:
        results.machine = machine.description()
        with own_stack(partitions) as place:
            Session(place, results, events, wallets, quix_python, ids).run(set(only or DEFAULT))
    except WalletError as error:
        typer.echo(f"benchmarks: {error}", err=True)
        raise typer.Exit(error.exit_code) from None
    finally:
        # What was measured before something failed took minutes: it is shown.
        (table.show_json if as_json else table.show)(results)


def _stop(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    typer.run(main)
