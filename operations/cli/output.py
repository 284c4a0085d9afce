"""What commands print: tables for people, JSON for programs, progress on a terminal and in logs."""

import contextlib
import json
import logging
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import datetime

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

from config.errors import WalletError
from config.logs import EventLog
from config.times import rfc3339

#: Seconds between two log lines of the same progress.
LOG_EVERY_S = 2.0

#: Widest table, in characters.
WIDEST = 100_000

#: Rows that a dry run shows as they would be sent.
SHOWN = 3

log = EventLog("operations")

Advance = Callable[[int], None]
LOOK_EVERY_S = 0.3


def as_line(value: object) -> str:
    """JSON on one line; times as RFC 3339, bytes in hex, other types as their text."""
    return json.dumps(value, default=_as_text, ensure_ascii=False)


def _as_text(value: object) -> str:
    if isinstance(value, datetime):
        return rfc3339(value)
    return value.hex() if isinstance(value, bytes) else str(value)


def console() -> Console:
    """Standard output for tables and text. Nothing is cut or wrapped: people copy ids and times."""
    return Console(highlight=False, soft_wrap=True)


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    numbers: Collection[str] = (),
    title: str | None = None,
) -> Table:
    """A table without lines; columns in `numbers` are right-aligned. Values as in JSON, None as nothing.

    Markup in plain strings is not interpreted.
    """
    made = Table(box=None, header_style="bold", title=title and escape(title), title_justify="left")
    for name in columns:
        made.add_column(name, justify="right" if name in numbers else "left", overflow="fold")
    for row in rows:
        made.add_row(*map(_cell, row))
    return made


def _cell(value: object) -> str:
    if isinstance(value, Text):
        return value.markup
    return "" if value is None else escape(_as_text(value))


def lag_cell(lag: int, text: str) -> Text:
    """A lag as a table cell, highlighted unless it is 0."""
    return Text(text, "yellow" if lag else "")


def fits(table: Table, on: Console) -> bool:
    """Whether each row fits on one line; output that is not a terminal is made as wide as the table."""
    wide = Console(width=WIDEST, highlight=False)
    needed = Measurement.get(wide, wide.options, table).maximum
    if on.is_terminal:
        return needed <= on.width
    on.width = max(needed, 1)
    return True


def show_table(table: Table) -> None:
    """Print a table with one row a line; on a terminal too narrow for that, one cell a line."""
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
    """A bar on a terminal, a log line every two seconds elsewhere; call what it yields with how many are done.

    Both show the rate and the time left at that rate.
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
        # Work that was skipped counts as done.
        bars.update(task, completed=total)


@contextlib.contextmanager
def _logs_above() -> Iterator[None]:
    """Log through rich's replacement of stderr while it shows a bar, or log lines would tear the bar."""
    with contextlib.ExitStack() as back:
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler) and (before := handler.setStream(sys.stderr)):
                back.callback(handler.setStream, before)
        yield


class _Rate(ProgressColumn):
    """Items per second."""

    def render(self, task: Task) -> Text:
        """The rate; empty until something is done."""
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
    """Progress of one part of the work: adds the `done` of the parts before it."""
    return lambda more: advance(done + more)


def until_done(
    title: str, total: int, look: Callable[[], int], *, stall_s: float, stalled: Callable[[int], WalletError]
) -> None:
    """Return once `look` says that `total` items are done.

    Raises `stalled(done)` if the number has not changed for `stall_s` seconds.
    """
    done, moved_at = -1, time.monotonic()
    with progress(title, total) as advance:
        while (now := look()) < total:
            advance(now)
            if now != done:
                done, moved_at = now, time.monotonic()
            elif time.monotonic() - moved_at > stall_s:
                raise stalled(now)
            time.sleep(LOOK_EVERY_S)
        advance(total)
