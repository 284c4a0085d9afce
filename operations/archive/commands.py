"""The commands of `wallet archive`."""

from datetime import date
from typing import Annotated

import typer

from operations.cli.arguments import Json, group, month_of, read_by

app = group("Seal and archive old months: status, run, verify.")


@app.command("status")
def status(as_json: Json = False) -> None:
    """Show every month that has rows: open, not due, incomplete (and why), due, sealed or archived."""
    from operations.archive.run import show_status
    from operations.cli.context import briefly

    show_status(briefly(), as_json=as_json)


@app.command("run")
def run(
    month: Annotated[
        date | None,
        read_by(month_of, "--month", "Last month to archive, YYYY-MM; exit code 1 if it is not ready."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Seal and move the months that are due and complete now, oldest first."""
    from operations.archive import run as archiving
    from operations.cli.context import current

    archiving.run(current(), month, as_json=as_json)


@app.command("verify")
def verify(
    month: Annotated[
        date | None, read_by(month_of, "--month", "Check only this month's rows, YYYY-MM.")
    ] = None,
    no_kafka: Annotated[bool, typer.Option("--no-kafka", help="Only check PostgreSQL.")] = False,
    as_json: Json = False,
) -> None:
    """Check the chain of seals, and compare the rows of every sealed month with its seal and the topic. It only reads.

    Stops at the first mismatch with exit code 8.
    """
    from operations.archive import verify as checking
    from operations.cli.context import current

    raise typer.Exit(checking.run(current(), month, kafka=not no_kafka, as_json=as_json))
