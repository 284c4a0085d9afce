"""The command `wallet verify`."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from operations.cli.arguments import Json, aware_time, read_by


def verify(
    partition: Annotated[int | None, typer.Option(min=0, help="Only this partition.")] = None,
    to_offset: Annotated[
        int | None, typer.Option(min=0, help="Stop before this offset of the input.")
    ] = None,
    end: Annotated[
        datetime | None, read_by(aware_time, "--to", "Stop before this time of the input; ISO 8601.")
    ] = None,
    since: Annotated[
        Path | None, typer.Option(help="Continue from the verified point in this folder.")
    ] = None,
    save: Annotated[Path | None, typer.Option(help="Save a verified point here if nothing differs.")] = None,
    no_postgres: Annotated[bool, typer.Option("--no-postgres", help="Only check Kafka.")] = False,
    limit: Annotated[int, typer.Option(min=0, help="Show this many differences; all are counted.")] = 20,
    jobs: Annotated[int, typer.Option(min=1, help="Number of processes to share the partitions.")] = 1,
    export: Annotated[Path | None, typer.Option(help="Also write the report to this JSON file.")] = None,
    folder: Annotated[
        Path | None,
        typer.Option(help="Verify a folder that `wallet export topics` wrote, without servers."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Audit everything the pipeline wrote against its input. It only reads.

    Exit code 8 if anything differs.
    """
    from operations.cli.context import current
    from operations.verify import offline
    from operations.verify import run as auditing
    from operations.verify.report import show as show_report
    from operations.verify.run import Options

    options = Options(partition, to_offset, end, since, save, not no_postgres, limit, jobs, export)
    report = auditing.run(current(), options) if folder is None else offline.run(folder, options)
    raise typer.Exit(show_report(report, as_json=as_json))
