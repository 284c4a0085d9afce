"""The table at the end of `wallet demo`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table

from audit.contract import Reason
from audit.report import Report
from config.settings import Settings
from operations.cli.output import console, table
from operations.verify.show import in_words

if TYPE_CHECKING:
    from operations.demo.run import Run


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


def show(run: "Run", results: Results, took_s: float) -> bool:
    """Print the tables; returns whether everything is exact."""
    out = console()
    out.print(_figures(run, results, took_s))
    out.print()
    out.print(_checks(results))
    for difference in results.report.differences.shown:
        out.print(in_words(difference), markup=False)
    passed = results.passed
    out.print("\n[bold green]everything is exact[/]" if passed else "\n[bold red]NOT exact[/]")
    return passed


def show_kept(settings: Settings) -> None:
    """Say how to look around in what was kept."""
    out = console()
    out.print("\nkept: a demo started more than 15 minutes from now removes it. To look around:")
    out.print(f"  export WALLET_PREFIX={settings.prefix} WALLET_OVERDRAFT={settings.overdraft}")
    out.print(f"  export WALLET_KAFKA={settings.kafka} WALLET_PARTITIONS={settings.partitions}")
    out.print(f"  export WALLET_POSTGRES={settings.postgres.get_secret_value()}", markup=False)
    out.print("  wallet status; wallet balance wallet-000001; wallet statement wallet-000001")


def show_running(address: str) -> None:
    """Say where the console is, and how to end it all."""
    out = console()
    out.print("\nthe pipeline goes on running until `wallet demo --stop`; its console:", markup=False)
    out.print(f"  {address}", markup=False)


def _figures(run: "Run", results: Results, took_s: float) -> Table:
    records, entries = results.total("records"), results.total("entries")
    rows = [
        ("sent", f"{run.count:,}"),
        ("posted (entries)", f"{entries:,}"),
        ("rejected", f"{results.total('rejections'):,}"),
        *((f"  {reason}", f"{results.reasons.get(reason, 0):,}") for reason in Reason),
        ("snapshots", f"{results.total('snapshots'):,}"),
        *((f"rows in {name}", f"{count:,}") for name, count in results.rows.items()),
    ]
    taken_over_s = max(0.0, (run.resumed or run.posted) - run.killed) if run.killed else 0.0
    if run.killed:
        rows += [
            ("worker killed at record", f"{run.killed_at:,}"),
            ("taken over after", f"{taken_over_s:.1f} s"),
        ]
    working_s = run.posted - run.began - taken_over_s
    if working_s > 0.5:
        rows.append(("posted per second, without the takeover", f"{records / working_s:,.0f}"))
    rows += [
        ("posted per second, takeover included", f"{records / max(0.1, run.posted - run.began):,.0f}"),
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
