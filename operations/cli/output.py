"""What commands print: tables for people, JSON for programs, progress on a terminal and in logs."""

import contextlib
import json
import logging
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from config.logs import EventLog
from config.times import rfc3339

if TYPE_CHECKING:
    from operations.setup.init import Report

#: Between two log lines of the same progress, in seconds.
LOG_EVERY_S = 2.0

#: No table is wider.
WIDEST = 100_000

#: Rows of a file that a dry run shows as they would be sent.
SHOWN = 3

log = EventLog("operations")

Advance = Callable[[int], None]


def as_line(value: object) -> str:
    """JSON on one line; times and the like as text."""
    return json.dumps(value, default=_as_text, ensure_ascii=False)


def _as_text(value: object) -> str:
    return rfc3339(value) if isinstance(value, datetime) else str(value)


def console() -> Console:
    """Standard output for tables and lines of text, none of which is cut or broken: ids and times are to be copied."""
    return Console(highlight=False, soft_wrap=True)


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    numbers: Collection[str] = (),
    title: str | None = None,
) -> Table:
    """A table without lines; the columns named in `numbers` are flush right. Only a Text is styled."""
    made = Table(box=None, header_style="bold", title=title and escape(title), title_justify="left")
    for name in columns:
        made.add_column(name, justify="right" if name in numbers else "left", overflow="fold")
    for row in rows:
        made.add_row(*(cell.markup if isinstance(cell, Text) else escape(str(cell)) for cell in row))
    return made


def lag_cell(lag: int, text: str) -> Text:
    """A lag as a table's cell: it catches the eye where there is one."""
    return Text(text, "yellow" if lag else "")


def fits(table: Table, on: Console) -> bool:
    """Whether each row has room on one line; what is no terminal is made as wide as the table."""
    wide = Console(width=WIDEST, highlight=False)
    needed = Measurement.get(wide, wide.options, table).maximum
    if on.is_terminal:
        return needed <= on.width
    on.width = max(needed, 1)
    return True


def show_table(table: Table) -> None:
    """Print a table, each row on one line; on a terminal that is too narrow for that, each row as lines of its own."""
    shown = console()
    if fits(table, shown):
        shown.print(table, soft_wrap=False)
        return
    if table.title:
        shown.print(table.title)
    names = [str(column.header) for column in table.columns]
    for row in zip(*(column.cells for column in table.columns), strict=True):
        shown.print()
        for name, cell in zip(names, row, strict=True):
            if cell != "":
                shown.print(f"[bold]{name:<{max(map(len, names))}}[/]  {cell}")


@contextlib.contextmanager
def progress(title: str, total: int) -> Iterator[Advance]:
    """A bar on a terminal, a log line every two seconds elsewhere; told how many are done.

    Both with the rate and the time that is left at that rate.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _logged(title, total)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=False) as bars, _logs_above():
        task = bars.add_task(title, total=total)
        yield lambda done: bars.update(task, completed=done)
        # What was left out on the way is done, too.
        bars.update(task, completed=total)


@contextlib.contextmanager
def _logs_above() -> Iterator[None]:
    """Log lines take the way that keeps them off a bar: rich has replaced stderr while it shows one."""
    with contextlib.ExitStack() as back:
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler) and (before := handler.setStream(sys.stderr)):
                back.callback(handler.setStream, before)
        yield


class _Rate(ProgressColumn):
    """How many are done in a second."""

    def render(self, task: Task) -> Text:
        """Nothing as long as nothing is done."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f}/s" if speed else "")


def _logged(title: str, total: int) -> Advance:
    told_at = began_at = time.monotonic()

    def advance(done: int) -> None:
        nonlocal told_at
        if done >= total or time.monotonic() - told_at >= LOG_EVERY_S:
            told_at = time.monotonic()
            rate = done / max(told_at - began_at, 0.001)
            left_s = round((total - done) / rate) if rate else None
            log.info(title.replace(" ", "_"), done=done, of=total, per_s=round(rate), left_s=left_s)

    return advance


def behind(advance: Advance, done: int) -> Advance:
    """The same for a part of the work: told how many of the part are done, behind those that were before it."""
    return lambda more: advance(done + more)


def show_report(report: "Report", *, as_json: bool) -> None:
    """What `wallet init` did."""
    if as_json:
        typer.echo(as_line(asdict(report)))
        return
    for name in report.created:
        typer.echo(f"created topic {name}")
    if report.record_written:
        typer.echo(f"wrote the pipeline record: {report.pipeline.to_json().decode()}")
    for name in report.migrated:
        typer.echo(f"applied migration {name}")
    for change in report.altered:
        typer.echo(change)
    if not (report.created or report.altered or report.record_written or report.migrated):
        typer.echo("everything was there already")
    for warning in report.warnings:
        typer.echo(f"warning: {warning}", err=True)
