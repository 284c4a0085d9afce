"""The command `wallet replay`."""

from datetime import datetime
from typing import Annotated, Literal

import typer

from operations.cli.arguments import Execute, Json, aware_time, read_by
from sinks.names import WRITING, WritingName

SinkName = Literal[WritingName, "all"]


def replay(
    name: Annotated[SinkName, typer.Argument(help="The sink to replay.")] = "all",
    partition: Annotated[int | None, typer.Option(min=0, help="Only this partition.")] = None,
    from_offset: Annotated[int | None, typer.Option(min=0, help="Start at this offset of the topic.")] = None,
    begin: Annotated[
        datetime | None, read_by(aware_time, "--from", "Start at this time of the topic; ISO 8601.")
    ] = None,
    back: Annotated[str | None, typer.Option(help="Start this long ago: 36h, 7d, 1d12h.")] = None,
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="Start at the first record.")
    ] = False,
    to_offset: Annotated[int | None, typer.Option(min=0, help="Stop before this offset.")] = None,
    end: Annotated[datetime | None, read_by(aware_time, "--to", "Stop before this time; ISO 8601.")] = None,
    execute: Execute = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an unfinished replay.")] = False,
    abandon: Annotated[bool, typer.Option("--abandon", help="Forget an unfinished replay.")] = False,
    as_json: Json = False,
) -> None:
    """Read a sink's topic again: insert missing rows, compare the others. A dry run without --execute."""
    from operations.cli.context import current
    from operations.replay import run as replaying
    from operations.replay.ranges import Range, duration

    since = duration("--back", back)
    wanted = Range(partition, from_offset, begin, since, from_beginning, to_offset, end)
    how = replaying.How(execute, resume, abandon)
    names = WRITING if name == "all" else (name,)
    raise typer.Exit(replaying.run(current(), names, wanted, how, as_json=as_json))
