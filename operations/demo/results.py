"""What one run of `wallet demo` measured and found, as tables and as JSON."""

import shlex
from dataclasses import dataclass

import typer
from rich.table import Table

from audit.contract import Reason
from audit.report import Report
from config.settings import Settings
from operations.cli import context
from operations.cli.output import console, table
from operations.verify.report import in_words


@dataclass
class Run:
    """One run and the times it measured, in seconds of the monotonic clock."""

    settings: Settings
    count: int
    began: float = 0.0
    killed: float = 0.0
    killed_at: int = 0
    resumed: float = 0.0
    posted: float = 0.0

    @property
    def taken_over_s(self) -> float:
        """From the kill to the first record after it."""
        return max(0.0, (self.resumed or self.posted) - self.killed) if self.killed else 0.0

    @property
    def posting_s(self) -> float:
        """From the first record to the last, the takeover included."""
        return max(0.1, self.posted - self.began)


@dataclass(frozen=True)
class Results:
    """The audit's report, the rows of each table, and the rejections by reason."""

    report: Report
    rows: dict[str, int]
    reasons: dict[str, int]

    def total(self, name: str) -> int:
        """A figure summed over all partitions."""
        return sum(getattr(one, name) for one in self.report.covered)

    @property
    def passed(self) -> bool:
        """Whether nothing differs and every record sent was audited."""
        return self.report.clean and all(one.conserved and not one.in_flight for one in self.report.covered)


def show_figures(run: Run, results: Results, took_s: float) -> None:
    """Print the tables, and whether everything is exact."""
    out = console()
    out.print(_figures(run, results, took_s))
    out.print()
    out.print(_checks(results))
    for difference in results.report.differences.shown:
        out.print(in_words(difference), markup=False)
    out.print("\n[bold green]everything is exact[/]" if results.passed else "\n[bold red]NOT exact[/]")


def as_fields(run: Run, results: Results, took_s: float, console_at: str | None) -> dict[str, object]:
    """What the tables say, as JSON has it; `verified` is what `wallet verify --json` prints."""
    return {
        "exact": results.passed,
        "prefix": run.settings.prefix,
        "sent": run.count,
        "entries": results.total("entries"),
        "rejections": {str(reason): results.reasons.get(reason, 0) for reason in Reason},
        "snapshots": results.total("snapshots"),
        "rows": results.rows,
        "killed_at": run.killed_at if run.killed else None,
        "taken_over_s": round(run.taken_over_s, 3) if run.killed else None,
        "posting_s": round(run.posting_s, 3),
        "took_s": round(took_s, 3),
        "console": console_at,
        "verified": results.report.to_json(),
    }


def show_kept(settings: Settings, console_at: str) -> None:
    """Say how to look around in what was kept, where the console is, and how to end it all."""
    out = console()
    out.print("\nkept: a demo started more than 15 minutes from now removes it. To look around:")
    variables = context.environment(settings)
    for name in ("PREFIX", "OVERDRAFT", "KAFKA", "PARTITIONS", "POSTGRES"):
        # Past rich, which would break a long line that is to be copied.
        typer.echo(f"  export WALLET_{name}={shlex.quote(variables[f'WALLET_{name}'])}")
    out.print("  wallet status; wallet balance wallet-000001; wallet statement wallet-000001")
    out.print("\nthe pipeline goes on running until `wallet demo --stop`; its console:", markup=False)
    out.print(f"  {console_at}", markup=False)


def _figures(run: Run, results: Results, took_s: float) -> Table:
    records, entries = results.total("records"), results.total("entries")
    rows = [
        ("sent", f"{run.count:,}"),
        ("posted (entries)", f"{entries:,}"),
        ("rejected", f"{results.total('rejections'):,}"),
        *((f"  {reason}", f"{results.reasons.get(reason, 0):,}") for reason in Reason),
        ("snapshots", f"{results.total('snapshots'):,}"),
        *((f"rows in {name}", f"{count:,}") for name, count in results.rows.items()),
    ]
    if run.killed:
        rows += [
            ("worker killed at record", f"{run.killed_at:,}"),
            ("taken over after", f"{run.taken_over_s:.1f} s"),
        ]
    working_s = run.posted - run.began - run.taken_over_s
    if working_s > 0.5:
        rows.append(("posted per second, without the takeover", f"{records / working_s:,.0f}"))
    rows += [
        ("posted per second, takeover included", f"{records / run.posting_s:,.0f}"),
        ("total time", f"{took_s:.1f} s"),
    ]
    figures = table(("what", "figure"), rows, numbers=("figure",), title="wallet demo")
    figures.show_header = False
    return figures


def _checks(results: Results) -> Table:
    report = results.report
    counts = (
        ("records with exactly one outcome each", results.total("records")),
        ("ledger entries, byte by byte", results.total("entries")),
        ("rejections, reason and bytes", results.total("rejections")),
        ("snapshots", results.total("snapshots")),
        ("balances", results.total("balances")),
        *((f"rows in {name}, every column", count) for name, count in report.rows.items()),
        ("answers of the balance functions", report.functions.get("answers", 0)),
        ("differences", report.differences.total),
    )
    rows = ((name, f"{count:,}") for name, count in counts)
    title = "audited by `wallet verify`, which shares no code with worker and sinks"
    return table(("", "compared"), rows, numbers=("compared",), title=title)
