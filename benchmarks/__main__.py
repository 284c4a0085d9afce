"""`python -m benchmarks`: measure in one run, on a stack of its own, and print a table."""

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from benchmarks import (
    contest,
    end_to_end,
    id_index,
    latency,
    machine,
    plots,
    post,
    rebuild,
    scale,
    sink,
    sink_contest,
    table,
    takeover,
    whole_contest,
    worker,
    worker_contest,
)
from benchmarks.filling import transactions
from benchmarks.id_index import BATCH_IDS
from benchmarks.load_contest import LoadContest
from benchmarks.measurement import Measurement
from benchmarks.place import Place, log, own_stack
from benchmarks.rivals import kafka_streams, plain_faust, quix
from benchmarks.whole_contest import WholeContest
from config.errors import WalletError


class What(StrEnum):
    """What can be measured: first ours beside others, then ours alone."""

    STREAMS = "streams"
    QUIX = "quix"
    PLAIN = "plain"
    CONNECT = "connect"
    WHOLE = "whole"
    WORKER = "worker"
    SINK = "sink"
    SNAPSHOTS = "snapshots"
    END = "end"
    LATENCY = "latency"
    POST = "post"
    MILLION = "million"
    GROWTH = "growth"
    HOT = "hot"
    SCALE = "scale"
    REBUILD = "rebuild"
    IDS = "ids"
    TAKEOVER = "takeover"


#: The worker beside three others, in five minutes.
DEFAULT = frozenset({What.STREAMS, What.QUIX, What.PLAIN})
#: Ten million ids, stopping workers, millions of records, and many workers take minutes each: only when named.
FULL = frozenset(What) - {What.IDS, What.TAKEOVER, What.GROWTH, What.SCALE}
ENGINES = {What.STREAMS: kafka_streams.RIVAL, What.QUIX: quix.RIVAL, What.PLAIN: plain_faust.RIVAL}
MILLION = 1_000_000
#: The share of the transactions that one wallet gets.
HOT = 0.9
LATENCY_S = 60.0
RATES = (500, 5_000)
#: POSTs a second, and requests that wait meanwhile.
POSTS, WAITING = 500, 5_000


@dataclass(frozen=True)
class Session:
    """One run of the benchmarks."""

    place: Place
    results: table.Results
    events: int
    wallets: int
    rounds: int
    id_count: int
    rates: Sequence[int]

    def run(self, wanted: set[What]) -> None:
        """Measure what is wanted, rounds in turn first."""
        steps: list[tuple[set[What], Callable[[set[What]], None]]] = [
            ({*ENGINES}, self._beside_engines),
            ({What.CONNECT}, self._beside_connect),
            ({What.WHOLE}, self._beside_both),
            ({What.WORKER, What.SINK, What.REBUILD}, self._worker_and_sink),
            ({What.SNAPSHOTS}, self._snapshots),
            ({What.END, What.LATENCY}, self._at_once),
            ({What.POST}, self._post),
            ({What.MILLION}, self._million),
            ({What.GROWTH}, self._growth),
            ({What.HOT}, self._hot),
            ({What.SCALE}, self._scale),
            ({What.IDS}, self._ids),
            ({What.TAKEOVER}, self._takeover),
        ]
        for what, step in steps:
            if what & wanted:
                log.info("measuring", what=" ".join(sorted(what & wanted)))
                step(wanted)

    def _beside_engines(self, wanted: set[What]) -> None:
        source = worker_contest.filled(self.place, self.events, self.wallets)
        engines = [rival for what, rival in ENGINES.items() if what in wanted]
        self._compare([worker_contest.WorkerContest(self.place, source, rival) for rival in engines])

    def _beside_connect(self, _: set[What]) -> None:
        pipeline = sink_contest.filled(self.place, self.events, self.wallets)
        self._compare([sink_contest.SinkContest(self.place, pipeline, self.events)])

    def _beside_both(self, _: set[What]) -> None:
        self._compare([WholeContest(self.place, self.events, self.wallets)])

    def _compare(self, contests: Sequence[contest.Contest[Any]]) -> None:
        self.results.comparisons += [one.comparison for one in contests]
        contest.run(contests, self.rounds)

    def _worker_and_sink(self, wanted: set[What]) -> None:
        settings = worker.filled(self.place, "bench", self.events, self.wallets)
        measured = worker.measure(self.place, settings, "worker, exactly once", self.events)
        if What.WORKER in wanted:
            self._add(measured)
        if What.SINK in wanted:
            self._add(sink.measure(self.place, settings, "ledger", "ledger sink", self.events))
        if What.REBUILD in wanted:
            self._add(rebuild.measure(self.place, settings))

    def _snapshots(self, _: set[What]) -> None:
        """A snapshot for every entry, so that there are enough of them."""
        events = self.events // 2
        settings = worker.filled(self.place, "snap", events, self.wallets, snapshot_every=1)
        worker.measure(self.place, settings, "worker with a snapshot each", events)
        self._add(sink.measure(self.place, settings, "snapshots", "snapshots sink", events))

    def _at_once(self, wanted: set[What]) -> None:
        with end_to_end.running(self.place, "end") as pipeline:
            if What.END in wanted:
                measured, self.results.end_to_end_cpu_us = end_to_end.measure(
                    pipeline, self.events, self.wallets
                )
                self._add(measured)
            if What.LATENCY in wanted:
                for rate in self.rates:
                    self.results.latency[rate] = latency.measure(pipeline, rate, LATENCY_S)

    def _post(self, _: set[What]) -> None:
        with end_to_end.running(self.place, "post", whole_contest.WARM) as pipeline:
            measured = post.measure(pipeline, POSTS, WAITING, LATENCY_S)
        self.results.latency.setdefault(POSTS, {})[f"POST answered, {WAITING:,} others wait"] = measured

    def _million(self, _: set[What]) -> None:
        events = MILLION + MILLION // 5
        settings = worker.filled(self.place, "million", events, MILLION)
        measured = worker.measure(self.place, settings, "worker, a million wallets", events)
        note = f"starts again, with its stores, in {worker.start_s(self.place, settings):.1f} s"
        self._add(replace(measured, note=note))

    def _growth(self, _: set[What]) -> None:
        """What the last half of an input costs: by then the wallets, few or a million, are all open."""
        name, few = "worker, a million wallets", f"{self.wallets:,} wallets"
        loads = [
            [*transactions(2 * MILLION, wallets, self.place.settings.partitions)]
            for wallets in (MILLION, self.wallets)
        ]
        self._compare([LoadContest(self.place, "growth", name, few, *loads)])

    def _hot(self, _: set[What]) -> None:
        name, even = f"worker, one wallet has {HOT:.0%}", "all wallets alike"
        partitions = self.place.settings.partitions
        loads = [[*transactions(self.events, self.wallets, partitions, hot)] for hot in (HOT, 0.0)]
        self._compare([LoadContest(self.place, "hot", name, even, *loads)])

    def _scale(self, _: set[What]) -> None:
        for measured in scale.measure(self.place, self.events, self.wallets):
            self._add(measured)

    def _ids(self, _: set[What]) -> None:
        for measured in id_index.measure(self.place, self.id_count):
            self._add(measured)

    def _takeover(self, _: set[What]) -> None:
        self.results.pauses = takeover.measure(self.place, "takeover")

    def _add(self, measured: Measurement) -> None:
        log.info("measured", what=measured.name, rate=f"{measured.rate:.0f}", cpu_us=f"{measured.cpu_us:.1f}")
        self.results.measurements.append(measured)


def main(
    only: Annotated[list[What] | None, typer.Option(help="Measure only this; may be repeated.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Measure everything that takes no hours.")] = False,
    events: Annotated[int, typer.Option(min=10_000, help="Transactions of each measurement.")] = 300_000,
    wallets: Annotated[int, typer.Option(min=10, help="Wallets they are spread over.")] = 10_000,
    partitions: Annotated[int, typer.Option(min=1, max=64, help="Partitions of the topics.")] = 4,
    rounds: Annotated[int, typer.Option(min=1, help="How often ours and each rival take their turn.")] = 2,
    rate: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Transactions a second for latency; may be repeated.  [default: 500, 5000]"),
    ] = None,
    ids: Annotated[int, typer.Option(min=BATCH_IDS, help="Ids in the index.")] = 10_000_000,
    json: Annotated[Path | None, typer.Option(help="Write everything to this file, too.")] = None,
    plot_folder: Annotated[Path | None, typer.Option("--plots", help="Write plots to this folder.")] = None,
) -> None:
    """Measure ours beside others, in turn, and ours alone; exit code 1 where results differ."""
    signal.signal(signal.SIGTERM, _stop)
    results = table.Results()
    try:
        results.machine = machine.description()
        with own_stack(partitions) as place:
            results.machine |= place.versions()
            wanted = set(only or (FULL if full else DEFAULT))
            Session(place, results, events, wallets, rounds, ids, rate or RATES).run(wanted)
    except WalletError as error:
        typer.echo(f"benchmarks: {error}", err=True)
        raise typer.Exit(error.exit_code) from None
    finally:
        # What was measured before something failed took minutes: it is shown.
        table.show(results)
        if json:
            json.write_text(table.as_json(results) + "\n", "utf-8")
        if plot_folder:
            plots.write(results.comparisons, plot_folder)
    if any(one.differences for one in results.comparisons):
        raise typer.Exit(1)


def _stop(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    typer.run(main)
