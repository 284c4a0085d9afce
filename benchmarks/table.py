"""The results as a table for people and as JSON for programs."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from statistics import median

from rich.table import Table

from benchmarks.contest import Comparison
from benchmarks.measurement import Measurement
from benchmarks.ratios import ratios, spread
from operations.cli.output import as_line, console, show_table, table


@dataclass
class Results:
    """What one run measured."""

    machine: dict[str, str] = field(default_factory=dict)
    comparisons: list[Comparison] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
    end_to_end_cpu_us: dict[str, float] = field(default_factory=dict)
    #: By transactions a second.
    latency: dict[int, dict[str, dict[str, float]]] = field(default_factory=dict)
    pauses: dict[str, list[float]] = field(default_factory=dict)


def show(results: Results) -> None:
    """Print the tables."""
    output = console()
    output.print(" · ".join(f"{name} {value}" for name, value in results.machine.items()), style="dim")
    if results.comparisons:
        show_table(_comparisons(results))
        for line in _unmeasured(results):
            output.print(line)
    if results.measurements:
        show_table(_throughput(results))
    if results.end_to_end_cpu_us:
        costs = " · ".join(f"{name} {cost:.1f}" for name, cost in results.end_to_end_cpu_us.items())
        output.print(f"end to end, CPU µs an event: {costs}")
    if results.latency:
        show_table(_latency(results))
    if results.pauses:
        show_table(_pauses(results))


def as_json(results: Results) -> str:
    """One line of JSON: what the table says, each round of it, versions and machine."""
    lines = [_line(one) for one in results.measurements]
    compared = [
        asdict(one)
        | {"rounds": [{"ours": _line(ours), "theirs": _line(theirs)} for ours, theirs in one.rounds]}
        for one in results.comparisons
    ]
    return as_line(asdict(results) | {"measurements": lines, "comparisons": compared})


def _line(one: Measurement) -> dict[str, object]:
    return asdict(one) | {"rate": one.rate, "cpu_us": one.cpu_us}


def with_servers_us(one: Measurement) -> float:
    """Processor time of an event in its process and in Kafka and PostgreSQL."""
    return one.cpu_us + sum(one.beside_us.values())


#: Of a comparison: a figure of each side, and how it is written.
FIGURES: tuple[tuple[str, Callable[[Measurement], float], str], ...] = (
    ("events/s", lambda one: one.steady_rate, ",.0f"),
    ("CPU µs/event", lambda one: one.steady_cpu_us, ".1f"),
    ("with servers", with_servers_us, ".1f"),
    ("peak MiB", lambda one: one.peak_mib, ".0f"),
)


def _comparisons(results: Results) -> Table:
    rows = [row for one in results.comparisons if one.rounds for row in _three(one)]
    names = [name for name, _, _ in FIGURES]
    title = "In turn: medians, and the spread of the ratio"
    return table(["what", *names], rows, numbers=names, title=title)


def _three(one: Comparison) -> list[list[str]]:
    """Ours, theirs, and the one to the other."""
    found: list[list[str]] = [[one.what], [f"{one.rival}, {one.guarantee}"], ["  ratio"]]
    for _, figure, style in FIGURES:
        ours, theirs = one.sides(figure)
        cells = format(median(ours), style), format(median(theirs), style), str(spread(ratios(ours, theirs)))
        for row, cell in zip(found, cells, strict=True):
            row.append(cell)
    return found


def _unmeasured(results: Results) -> list[str]:
    lacking = [f"not measured: {one.rival}: {one.lacking}" for one in results.comparisons if one.lacking]
    different = [f"DIFFERENT: {one.rival}: {what}" for one in results.comparisons for what in one.differences]
    return lacking + different


def _throughput(results: Results) -> Table:
    names = ("events", "events/s", "CPU µs/event", "with start-up", "peak MiB")
    rows = (
        (
            one.name,
            f"{one.events:,.0f}",
            f"{one.rate:,.0f}",
            f"{one.cpu_us:.1f}",
            f"{one.whole_cpu_us:.1f}",
            f"{one.peak_mib:.0f}",
            one.note,
        )
        for one in results.measurements
    )
    return table(("what", *names, "note"), rows, numbers=names, title="Throughput")


def _latency(results: Results) -> Table:
    names = ("p50 ms", "p99 ms", "max ms")
    rows = (
        (f"{rate:,}", what, *(f"{time:.0f}" for time in times.values()))
        for rate, measured in results.latency.items()
        for what, times in measured.items()
    )
    title = "Latency, from the planned time of sending"
    return table(("a second", "until", *names), rows, numbers=("a second", *names), title=title)


def _pauses(results: Results) -> Table:
    names = ("times", "median s", "longest s")
    rows = (
        (what, len(pauses), f"{median(pauses):.2f}", f"{max(pauses):.2f}")
        for what, pauses in results.pauses.items()
    )
    return table(
        ("what", *names), rows, numbers=names, title="Longest time without an entry in any partition"
    )
