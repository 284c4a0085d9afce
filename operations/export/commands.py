"""The commands of `wallet export`."""

from pathlib import Path
from typing import Annotated

import typer

from config.errors import ConfigurationError
from operations.cli.arguments import aware_time, month_of
from operations.cli.context import briefly, current
from operations.export import run as exporting
from operations.export import statement as statements
from operations.export.spans import TOPICS
from operations.export.statement import STANDARD_OUTPUT, Form

app = typer.Typer(
    help="Write files for others: topics and sealed months as Parquet, statements as CSV or journal.",
    no_args_is_help=True,
    add_completion=False,
)


@app.command("topics")
def topics(
    folder: Annotated[
        Path, typer.Argument(help="Folder for the files and manifest.json; created if missing.")
    ],
    topic: Annotated[
        list[str] | None, typer.Option("--topic", help="input, ledger, rejections or snapshots; repeatable.")
    ] = None,
    partition: Annotated[
        list[int] | None, typer.Option("--partition", min=0, help="Only this partition; repeatable.")
    ] = None,
    month: Annotated[
        list[str] | None, typer.Option("--month", help="Only this sealed month, YYYY-MM; repeatable.")
    ] = None,
    all_months: Annotated[bool, typer.Option("--all-months", help="Only the sealed months.")] = False,
    records_per_file: Annotated[int, typer.Option(min=1, help="Most records in one file.")] = 1_000_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Write the topics as Parquet files with raw bytes and readable columns. Run it again to continue or to add more.

    Exit code 8 if a month does not match its seal.
    """
    for name in topic or ():
        if name not in TOPICS:
            raise ConfigurationError(f"--topic {name} is none of {', '.join(TOPICS)}")
    if month and all_months:
        raise ConfigurationError("use either --month or --all-months, not both")
    months = [one for text in month or () if (one := month_of("--month", text))]
    options = exporting.Options(
        folder,
        [name for name in TOPICS if not topic or name in topic],
        partition or (),
        months if month or all_months else None,
        records_per_file,
    )
    raise typer.Exit(exporting.run(current(), options, as_json=as_json))


@app.command("statement")
def statement(
    wallet: Annotated[str, typer.Argument(help="The wallet's id.")],
    file: Annotated[Path, typer.Argument(help="File to write; - for standard output.")] = STANDARD_OUTPUT,
    form: Annotated[
        Form | None, typer.Option("--format", help="Default: by the file's name; CSV for -.")
    ] = None,
    begin: Annotated[str | None, typer.Option("--from", help="Start at this time; ISO 8601.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="Stop before this time; ISO 8601.")] = None,
) -> None:
    """Write a wallet's entries as CSV, or as a journal for hledger. Exit code 1 if the wallet has no entry."""
    times = aware_time("--from", begin), aware_time("--to", end)
    count = statements.export(briefly(), wallet, file, form, *times)
    typer.echo(f"{count:,} entries exported", err=True)
