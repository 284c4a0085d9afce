"""The results as a table for people and as JSON for programs."""

from dataclasses import asdict, dataclass, field
from statistics import median

import typer
from rich.table import Table

from benchmarks.measurement import Measurement
from operations.cli.output import as_line, console


@dataclass
class Results:
    """What one run measured. `baseline` is the name of the line that ratios are taken to."""

    baseline: str
    machine: dict[str, str] = field(default_factory=dict)
    measurements: list[Measurement] = field(default_factory=list)
    end_to_end_cpu_us: dict[str, float] = field(default_factory=dict)
    latency: dict[str, dict[str, float]] = field(default_factory=dict)
    latency_rate: int = 0
    pauses: dict[str, list[float]] = field(default_factory=dict)


def show(results: Results) -> None:
    """Print the tables."""
    output = console()
    output.print(" · ".join(f"{name} {value}" for name, value in results.machine.items()), style="dim")
    if results.measurements:
        output.print(_throughput(results))
    if results.end_to_end_cpu_us:
        costs = " · ".join(f"{name} {cost:.1f}" for name, cost in results.end_to_end_cpu_us.items())
        output.print(f"end to end, CPU µs an event: {costs}")
    if results.latency:
        output.print(_latency(results))
    if results.pauses:
        output.print(_pauses(results))


def show_json(results: Results) -> None:
    """Print one line of JSON."""
    lines = [asdict(one) | {"rate": one.rate, "cpu_us": one.cpu_us} for one in results.measurements]
    typer.echo(as_line(asdict(results) | {"measurements": lines}))


def _throughput(results: Results) -> Table:
    table = Table(title="Throughput")
    table.add_column("what")
    for name in ("events", "events/s", "ratio", "CPU µs/event", "ratio", "with start-up", "peak MiB"):
        table.add_column(name, justify="right")
    table.add_column("note")
    beside = next((one for one in results.measurements if one.name == results.baseline), None)
    for one in results.measurements:
        faster = f"{one.rate / beside.rate:.1f}" if beside else ""
        cheaper = f"1/{beside.cpu_us / one.cpu_us:.1f}" if beside and one.cpu_us else ""
        table.add_row(
            one.name,
            f"{one.events:,.0f}",
            f"{one.rate:,.0f}",
            faster,
            f"{one.cpu_us:.1f}",
            cheaper,
            f"{one.whole_cpu_us:.1f}",
            f"{one.peak_mib:.0f}",
            one.note,
        )
    return table


def _latency(results: Results) -> Table:
    table = Table(title=f"Latency at {results.latency_rate} transactions a second, from send to")
    table.add_column("what")
    for name in ("p50 ms", "p99 ms", "max ms"):
        table.add_column(name, justify="right")
    for what, times in results.latency.items():
        table.add_row(what, *(f"{time:.0f}" for time in times.values()))
    return table


def _pauses(results: Results) -> Table:
    table = Table(title="Longest time without an entry in any partition")
    table.add_column("what")
    for name in ("times", "median s", "longest s"):
        table.add_column(name, justify="right")
    for what, pauses in results.pauses.items():
        table.add_row(what, str(len(pauses)), f"{median(pauses):.2f}", f"{max(pauses):.2f}")
    return table
