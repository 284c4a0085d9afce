"""The commands of `wallet archive`."""

from typing import Annotated

import typer

from operations.archive import run as archive
from operations.archive import verify as archive_verify
from operations.cli.arguments import month_of
from operations.cli.context import briefly, current

app = typer.Typer(
    help="Old months: sealed, moved to the archive, checked.", no_args_is_help=True, add_completion=False
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


@app.command("status")
def status(as_json: Json = False) -> None:
    """Every month that has rows: open, not due, incomplete and why, due, sealed, archived."""
    archive.show_status(briefly(), as_json=as_json)


@app.command("run")
def run(
    month: Annotated[
        str | None, typer.Option(help="Up to this month, YYYY-MM; it must be ready to be sealed.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Seal and move the months that are due and complete, the oldest first, now."""
    archive.run(current(), month_of("--month", month), as_json=as_json)


@app.command("verify")
def verify(
    month: Annotated[str | None, typer.Option(help="Only this month's rows, YYYY-MM.")] = None,
    no_kafka: Annotated[bool, typer.Option("--no-kafka", help="Only look at PostgreSQL.")] = False,
    as_json: Json = False,
) -> None:
    """The chain of seals, and the rows of every sealed month beside its seal and the topic; only reads.

    Exit code 8 at the first that does not match, which it names.
    """
    found = archive_verify.run(current(), month_of("--month", month), kafka=not no_kafka, as_json=as_json)
    raise typer.Exit(found)
