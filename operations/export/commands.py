"""The commands of `wallet export`."""

from datetime import date
from pathlib import Path
from typing import Annotated, Literal

import typer

from config.errors import ConfigurationError
from operations.cli.arguments import From, Json, To, Wallet, group, month_of, read_by, refuse_two_outputs

app = group("Write files for others: topics and sealed months as Parquet, statements as CSV or journal.")


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
        list[date] | None,
        read_by(month_of, "--month", "Only this sealed month, YYYY-MM; repeatable.", "<list[str]>"),
    ] = None,
    all_months: Annotated[bool, typer.Option("--all-months", help="Only the sealed months.")] = False,
    records_per_file: Annotated[int, typer.Option(min=1, help="Most records in one file.")] = 1_000_000,
    as_json: Json = False,
) -> None:
    """Write the topics as Parquet files with raw bytes and readable columns. Run it again to continue or to add more.

    Exit code 8 if a month does not match its seal.
    """
    from operations.cli.context import current
    from operations.export import run as exporting
    from operations.export.spans import TOPICS

    for name in topic or ():
        if name not in TOPICS:
            raise ConfigurationError(f"--topic {name} is none of {', '.join(TOPICS)}")
    if month and all_months:
        raise ConfigurationError("use either --month or --all-months, not both")
    options = exporting.Options(
        folder,
        [name for name in TOPICS if not topic or name in topic],
        partition or (),
        month or [] if month or all_months else None,
        records_per_file,
    )
    raise typer.Exit(exporting.run(current(), options, as_json=as_json))


@app.command("statement")
def statement(
    wallet: Wallet,
    file: Annotated[Path, typer.Argument(help="File to write; - for standard output.")] = Path("-"),
    form: Annotated[
        Literal["csv", "journal"] | None,
        typer.Option("--format", help="Default: by the file's name; CSV for -."),
    ] = None,
    begin: From = None,
    end: To = None,
    as_json: Json = False,
) -> None:
    """Write a wallet's entries as CSV, or as a journal for hledger. Exit code 1 if the wallet has no entry."""
    from operations.cli.context import briefly
    from operations.cli.output import as_line
    from operations.export import statement as statements

    refuse_two_outputs(file, as_json=as_json)
    count = statements.export(briefly(), wallet, file, form, begin, end)
    if as_json:
        typer.echo(as_line({"wallet_id": wallet, "file": str(file), "entries": count}))
    else:
        typer.echo(f"{count:,} entries exported", err=True)
