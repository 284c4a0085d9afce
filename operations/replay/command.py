"""`wallet replay` from its options to its exit code."""

from collections.abc import Sequence
from contextlib import closing
from threading import Event
from typing import NamedTuple

import typer

from config.errors import ConfigurationError, Refused
from config.settings import Settings
from operations.cli.output import as_line
from operations.replay import run as replay_run
from operations.replay.ranges import Range, plans, sinks_of
from operations.replay.show import show
from sinks import replay
from sinks.replay import Replay, told_unfinished
from sinks.sink import Sink
from topics.cluster import agreed


class How(NamedTuple):
    """What to do: execute, resume or abandon an unfinished replay, or nothing, which means a dry run."""

    execute: bool = False
    resume: bool = False
    abandon: bool = False


def run(settings: Settings, names: Sequence[str], wanted: Range, how: How, *, as_json: bool) -> int:
    """Replay these sinks, or say what would happen; returns the exit code."""
    if sum(how) > 1 and how != How(execute=True, resume=True):
        raise ConfigurationError("use only one of --execute, --resume and --abandon")
    if (how.resume or how.abandon) and not wanted.is_empty:
        raise ConfigurationError(
            "an unfinished replay keeps its range: use --resume or --abandon without a range"
        )
    sinks = sinks_of(settings, names)
    settings = agreed(settings)
    if how.abandon:
        _abandon(settings, sinks, as_json=as_json)
        return 0
    with replay_run.stopping() as stop:
        if how.resume:
            return show(replay_run.resume(settings, sinks, stop), as_json=as_json)
        planned = plans(settings, sinks, wanted)
        if how.execute:
            return show(replay_run.execute(settings, planned, stop), as_json=as_json)
        code = show((replay_run.try_out(settings, plan, stop) for plan in planned), as_json=as_json)
    for sink in sinks:
        if unfinished := replay.unfinished(settings, sink):
            typer.echo(f"note: {told_unfinished(sink.name, unfinished)}", err=True)
    return code


def _abandon(settings: Settings, sinks: Sequence[Sink], *, as_json: bool) -> None:
    left = [sink for sink in sinks if replay.unfinished(settings, sink)]
    if not left:
        raise Refused(
            f"{', '.join(sink.name for sink in sinks)} has no unfinished replay: nothing to abandon"
        )
    for sink in left:
        with closing(Replay(settings, sink, Event())) as one:
            one.abandon()
    names = [sink.name for sink in left]
    typer.echo(as_line({"abandoned": names}) if as_json else f"abandoned the replay of {', '.join(names)}")
