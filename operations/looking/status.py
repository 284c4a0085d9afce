"""`wallet status`: progress of the worker and each sink in every partition, and rejections."""

import time
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from itertools import groupby

import typer
from confluent_kafka.admin import AdminClient
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from config.errors import NotReachable, Refused, WalletError
from config.settings import Settings
from operations.cli.output import as_line, console, fits, lag_cell, table
from sinks.names import ARCHIVE, SINKS, WRITING, topic_of
from sinks.postgres import questions
from topics import group_offsets
from topics.cluster import Offsets, describe, offsets, quiet_admin, wait_for_kafka
from topics.incoming import Incoming
from topics.lag import LagReader
from topics.names import Topics


@dataclass(frozen=True)
class Step:
    """One partition at one reader: the next offset to read, the end, and about how many records are left.

    `position` is None if the reader has not started. The lag is 0 only if nothing is missing.
    """

    reader: str
    topic: str
    partition: int
    position: int | None
    end: int
    lag: int


@dataclass(frozen=True)
class Place(Step):
    """The same up to the read-committed end; `progress_at` is when the reader last moved, if known."""

    progress_at: datetime | None


@dataclass(frozen=True)
class Status:
    """The state of a pipeline; while PostgreSQL is away its part is empty and the reason is given."""

    prefix: str
    workers: int | None
    places: tuple[Place, ...]
    rejections: dict[str, int]
    postgres_problem: str | None

    def lag(self, reader: str) -> int:
        """Number of records that this reader has not read."""
        return sum(place.lag for place in self.places if place.reader == reader)


def look(settings: Settings, client: AdminClient) -> Status:
    """Look at everything once; raises NotReachable without Kafka, Refused if the pipeline does not exist."""
    names = Topics.of(settings)
    found = describe(client, names.partitioned)
    if names.transactions not in found:
        raise Refused(f"topic {names.transactions} does not exist: run `wallet init`, or set WALLET_PREFIX")
    ends = offsets(client, {name: topic.partitions for name, topic in found.items()})
    partitions = range(found[names.transactions].partitions)
    committed = group_offsets.offsets(settings, names.transactions, partitions, wait=False)
    places = [
        _place("worker", names.transactions, partition, offset, ends, None)
        for partition, offset in committed.items()
    ]
    rejections: dict[str, int] = {}
    problem = None
    try:
        at = {(row.sink, row.partition): row for row in questions.positions(settings)}
        rejections = questions.rejections_by_reason(settings)
    except WalletError as error:
        at, problem = {}, str(error)
    if problem is None:
        # The archive only if it has ever run.
        for sink in SINKS if any(sink == ARCHIVE for sink, _ in at) else WRITING:
            topic = topic_of(names, sink)
            for partition in range(found[topic].partitions if topic in found else 0):
                row = at.get((sink, partition))
                place = _place(sink, topic, partition, row and row.next_offset, ends, row and row.updated_at)
                places.append(place)
    exact = _without_marks(settings, places)
    return Status(settings.prefix, _members(settings), exact, rejections, problem)


def show(settings: Settings, *, every_s: float | None, as_json: bool) -> None:
    """Print the status once, or every `every_s` seconds until Ctrl-C."""
    wait_for_kafka(settings)
    # A look must not wait for PostgreSQL as long as a start does: it shows what it has.
    settings = settings.model_copy(update={"startup_wait_s": min(2.0, settings.startup_wait_s)})
    client = quiet_admin(settings)
    if every_s is None:
        status = look(settings, client)
        if as_json:
            typer.echo(as_line(asdict(status)))
        else:
            shown = console()
            shown.print(_table(status, shown), soft_wrap=False)
            for line in _lines(status):
                console().print(line)
        return
    if as_json:
        while True:
            typer.echo(as_line(asdict(look(settings, client))))
            time.sleep(every_s)
    shown = console()
    with Live(_drawn(look(settings, client), shown), console=shown, auto_refresh=False) as live:
        while True:
            time.sleep(every_s)
            live.update(_drawn(look(settings, client), shown), refresh=True)


def _place(
    reader: str,
    topic: str,
    partition: int,
    position: int | None,
    ends: dict[tuple[str, int], Offsets],
    progress_at: datetime | None,
) -> Place:
    there = ends[topic, partition]
    begun = there.begin if position is None else position
    return Place(reader, topic, partition, position, there.end, max(0, there.end - begun), progress_at)


def _members(settings: Settings) -> int | None:
    """How many workers have joined the group; None if the group does not exist."""
    try:
        return len(group_offsets.members(settings, settings.group))
    except NotReachable:
        return None


def _without_marks(settings: Settings, places: list[Place]) -> tuple[Place, ...]:
    """The same places, with lag 0 if no record is left: offsets also count marks and rolled-back records."""
    exact: list[Place] = []
    with closing(LagReader(settings, Incoming.for_lag(settings, Topics.of(settings).transactions))) as lags:
        # Reader by reader: two can be at different positions of one partition.
        for _, some in groupby(places, key=lambda place: place.reader):
            of_one = [*some]
            behind = {(place.topic, place.partition): place.end - place.lag for place in of_one if place.lag}
            read = {at for at, lag in lags.look(behind).items() if lag.records == 0}
            exact += [replace(one, lag=0) if (one.topic, one.partition) in read else one for one in of_one]
    return tuple(exact)


def _drawn(status: Status, on: Console) -> Group:
    return Group(_table(status, on), *_lines(status))


def _lines(status: Status) -> list[str]:
    workers = f"workers: {status.workers or 'none'}"
    if status.postgres_problem:
        return [workers, f"PostgreSQL: {status.postgres_problem}"]
    told = ", ".join(f"{reason} {count}" for reason, count in status.rejections.items())
    return [workers, f"rejections: {told or 'none'}"]


def _table(status: Status, on: Console) -> Table:
    """Leaves out the topics on a narrow terminal: the readers imply them."""
    wide = _columns(status, topics=True)
    return wide if fits(wide, on) else _columns(status, topics=False)


def _columns(status: Status, *, topics: bool) -> Table:
    columns = [
        "reader",
        *(["topic"] if topics else []),
        "partition",
        "position",
        "end",
        "lag",
        "last progress",
    ]
    rows = (
        (
            place.reader,
            *([place.topic] if topics else []),
            place.partition,
            "-" if place.position is None else place.position,
            place.end,
            lag_cell(place.lag, str(place.lag)),
            place.progress_at,
        )
        for place in status.places
    )
    numbers = ("partition", "position", "end", "lag")
    return table(columns, rows, numbers=numbers, title=f"pipeline {status.prefix}")
