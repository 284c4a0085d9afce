"""The commands that send: `wallet send`, `import` and `generate`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from config.errors import BAD_LINES
from operations.cli.arguments import Json, refuse_two_outputs

FileForm = Literal["jsonl", "csv", "parquet"]
Mapping = Annotated[
    Path | None,
    typer.Option("--map", help="A TOML or JSON file that maps your columns to ours: docs/files.md."),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Only check the lines and show the first ones as they would be sent."),
]


def send(
    file: Annotated[
        Path, typer.Argument(help="JSON Lines, CSV or Parquet; - for standard input.", metavar="FILE")
    ],
    form: Annotated[FileForm | None, typer.Option("--format", help="Default: by the file's name.")] = None,
    mapping: Mapping = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Send the transactions in a file. Good lines are delivered, bad ones are reported with their number.

    Exit code 6 if any line was bad or not delivered.
    """
    from operations.cli.context import current
    from operations.sending import send as sending

    settings = current(servers=not dry_run)
    sent = sending.send_file(file, form, settings, mapping=mapping, dry_run=dry_run, as_json=as_json)
    if sent.bad:
        raise typer.Exit(BAD_LINES)


def import_(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="JSON Lines, CSV or Parquet, oldest first.", metavar="FILE"),
    ] = None,
    form: Annotated[
        FileForm | None, typer.Option("--format", help="Format of the files. Default: by their names.")
    ] = None,
    mapping: Mapping = None,
    opening: Annotated[Path | None, typer.Option(help="A file of opening balances, imported first.")] = None,
    check: Annotated[
        Path | None, typer.Option(help="A file of balances to compare once everything is written.")
    ] = None,
    dry_run: DryRun = False,
    earliest: Annotated[
        str | None, typer.Option(help="Earliest date to accept, YYYY-MM-DD.", show_default="2000-01-01")
    ] = None,
    leave_out_bad: Annotated[
        bool, typer.Option("--leave-out-bad", help="Send the good lines even if others are bad.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Load an existing ledger with its own dates, exactly once. If it is interrupted, run it again to continue.

    Exit code 6 if any line was bad, 8 if balances differ.
    """
    from operations.cli.context import current
    from operations.sending.importing import run as importing

    options = importing.Options(
        tuple(files or ()),
        form,
        opening,
        check,
        dry_run,
        leave_out_bad,
        mapping,
        importing.first_day(earliest),
    )
    raise typer.Exit(importing.run(current(servers=not dry_run), options, as_json=as_json))


def generate(
    count: Annotated[int, typer.Option(min=1, help="Number of records.")] = 10_000,
    rate: Annotated[float | None, typer.Option(min=0.1, help="Most records per second.")] = None,
    wallets: Annotated[int, typer.Option(min=1, help="Number of wallets.")] = 1_000,
    skew: Annotated[
        float, typer.Option(min=0.0, max=5.0, help="How unevenly wallets are used; 0: evenly, 1: Zipf's law.")
    ] = 0.8,
    transfers: Annotated[float, typer.Option(min=0, max=1, help="Share that are legs of transfers.")] = 0.2,
    duplicates: Annotated[float, typer.Option(min=0, max=1, help="Share that repeat a record.")] = 0.02,
    bad: Annotated[float, typer.Option(min=0, max=1, help="Share to be rejected, for all reasons.")] = 0.0,
    seed: Annotated[int | None, typer.Option(help="The same seed makes the same records.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write JSON Lines to this file (- for stdout) instead of Kafka.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make synthetic transactions and send them with confirmed delivery, or write them as JSON Lines with --out."""
    import random

    from operations.sending import generating
    from operations.sending.generator import Mix

    mix = Mix(
        wallets=wallets,
        skew=skew,
        transfers=transfers,
        duplicates=duplicates,
        bad=bad,
        seed=random.SystemRandom().randrange(2**32) if seed is None else seed,
    )
    if out is None:
        from operations.cli.context import current

        made = generating.to_kafka(current(), count, mix, rate)
    else:
        refuse_two_outputs(out, as_json=as_json)
        made = generating.to_file(out, count, mix)
    generating.show(made, as_json=as_json)
