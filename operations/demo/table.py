"""The table at the end of `wallet demo`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table

from audit.contract import Reason
from config.settings import Settings
from operations.checks import Check, Expected
from operations.output import console

if TYPE_CHECKING:
    from operations.demo.run import Run


@dataclass(frozen=True)
class Results:
    """What the fold expected, what every check found, and the rows of each table."""

    expected: Expected
    checks: list[Check]
    rows: dict[str, int]


def show(run: "Run", results: Results, took_s: float) -> bool:
    """Print everything; whether every check passed."""
    out = console()
    out.print(_figures(run, results, took_s))
    out.print()
    out.print(_checks(results.checks))
    passed = all(check.passed for check in results.checks)
    out.print("\n[bold green]everything is exact[/]" if passed else "\n[bold red]NOT exact[/]")
    return passed


def show_kept(settings: Settings) -> None:
    """Say how to look around in what was kept; it is removed by a later demo."""
    out = console()
    out.print("\nkept; the next demo removes it after a quarter of an hour. To look around:")
    out.print(f"  export WALLET_PREFIX={settings.prefix} WALLET_OVERDRAFT={settings.overdraft}")
    out.print(f"  export WALLET_KAFKA={settings.kafka} WALLET_PARTITIONS={settings.partitions}")
    out.print(f"  export WALLET_POSTGRES={settings.postgres.get_secret_value()}", markup=False)
    out.print("  wallet status; wallet balance wallet-000001; wallet statement wallet-000001")


def _figures(run: "Run", results: Results, took_s: float) -> Table:
    expected = results.expected
    table = Table(title="wallet demo", title_justify="left", show_header=False, box=None)
    table.add_column("what")
    table.add_column("figure", justify="right")
    table.add_row("sent", f"{expected.records:,}")
    table.add_row("posted (entries)", f"{expected.posted:,}")
    table.add_row("rejected", f"{sum(expected.reasons.values()):,}")
    for reason in Reason:
        table.add_row(f"  {reason}", f"{expected.reasons[reason]:,}")
    table.add_row("snapshots", f"{expected.snapshots:,}")
    for name, count in results.rows.items():
        table.add_row(f"rows in {name}", f"{count:,}")
    if run.killed:
        table.add_row("worker killed at record", f"{run.killed_at:,}")
        table.add_row("taken over after", f"{max(0.0, (run.resumed or run.posted) - run.killed):.1f} s")
    working_s = (
        run.posted - run.began - (max(0.0, (run.resumed or run.posted) - run.killed) if run.killed else 0)
    )
    if working_s > 0.5:
        table.add_row("posted a second, takeover aside", f"{expected.records / working_s:,.0f}")
    table.add_row(
        "posted a second, takeover and all", f"{expected.records / max(0.1, run.posted - run.began):,.0f}"
    )
    table.add_row("all of it took", f"{took_s:.1f} s")
    return table


def _checks(checks: list[Check]) -> Table:
    table = Table(title="checked against an independent fold of the input", title_justify="left", box=None)
    table.add_column("")
    table.add_column("right", justify="right")
    table.add_column("of", justify="right")
    table.add_column("")
    for check in checks:
        mark = "[green]ok[/]" if check.passed else "[red]WRONG[/]"
        table.add_row(check.question, f"{check.right:,}", f"{check.of:,}", mark)
        if check.first_wrong:
            table.add_row(f"  {check.first_wrong}")
    return table
