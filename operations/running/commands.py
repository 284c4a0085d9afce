"""The commands that run until they are stopped: `wallet worker` and `wallet sink`."""

import threading
from typing import Annotated, Any, Literal

import typer

from sinks.names import WRITING, WritingName

Processes = Annotated[
    int, typer.Option(min=1, max=64, help="Run this many processes, which start, stop and end together.")
]


def worker(processes: Processes = 1) -> None:
    """Run a worker until SIGTERM or Ctrl-C. Start several to share the partitions."""
    from operations.cli.context import current

    if processes > 1:
        from operations.cli.processes import run

        raise typer.Exit(run(processes, current(), "worker"))
    from streams import worker as streaming
    from vitals import spans

    settings = current()
    with spans.exported("worker", settings.prefix):
        raise typer.Exit(streaming.run(settings))


def sink(
    name: Annotated[
        Literal[WritingName, "archive", "all"],
        typer.Argument(help="Tables to fill. archive seals and moves old months; all does not include it."),
    ] = "all",
    processes: Processes = 1,
) -> None:
    """Write topics to PostgreSQL until SIGTERM or Ctrl-C. Start several to share the partitions."""
    from operations.cli.context import current

    if processes > 1:
        from operations.cli.processes import run

        raise typer.Exit(run(processes, current(), "sink", name))
    from sinks import consumer
    from vitals import spans
    from vitals.ending import END_S, end_within, ended_by, on_order

    stop = threading.Event()

    def end(number: int) -> None:
        stop.set()
        end_within(END_S, lambda: None, ended_by([number]))

    signals = on_order(end)
    settings = current()
    with spans.exported("sink", settings.prefix):
        consumer.run(settings, WRITING if name == "all" else (name,), stop, _open_input)
    raise typer.Exit(ended_by(signals))


def _open_input(*of: Any) -> Any:
    """How sinks read the input; imported late, since aiokafka is slow to load and most commands do without."""
    from topics.incoming import Incoming

    return Incoming(*of)
