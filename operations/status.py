"""`wallet status`: how far the worker and each sink are in every partition, and what was rejected."""

import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import typer
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from rich.console import Group
from rich.live import Live
from rich.table import Table

from config.clients import looking
from config.cluster import ASK_S, Offsets, answered, describe, offsets, quiet_admin, wait_for_kafka
from config.errors import NotReachable, Refused, WalletError
from config.settings import Settings
from config.topics import Topics
from operations.output import as_line, console
from sinks import postgres

#: A lag up to so many offsets is looked at: what lies there may be marks of transactions, not records.
MARKS = 8


@dataclass(frozen=True)
class Place:
    """One partition at one reader: the next offset to read, the read-committed end, and what lies between.

    `position` is None where the reader has not begun; `progress_at` is when it last moved, where known.
    """

    reader: str
    topic: str
    partition: int
    position: int | None
    end: int
    lag: int
    progress_at: datetime | None


@dataclass(frozen=True)
class Status:
    """The state of a pipeline; what PostgreSQL knows is empty, with the reason, while it is away."""

    prefix: str
    workers: int | None
    places: tuple[Place, ...]
    rejections: dict[str, int]
    postgres_problem: str | None

    def lag(self, reader: str) -> int:
        """Records that this reader has not read."""
        return sum(place.lag for place in self.places if place.reader == reader)


def look(settings: Settings, client: AdminClient) -> Status:
    """One look at everything; raises NotReachable without Kafka, Refused for a pipeline that is not there."""
    names = Topics.of(settings)
    found = describe(client, names.partitioned)
    if names.transactions not in found:
        raise Refused(f"topic {names.transactions} does not exist: run `wallet init`, or set WALLET_PREFIX")
    ends = offsets(client, {name: topic.partitions for name, topic in found.items()})
    places = [
        _place("worker", names.transactions, partition, committed, ends, None)
        for partition, committed in enumerate(
            committed(client, settings, found[names.transactions].partitions)
        )
    ]
    rejections: dict[str, int] = {}
    problem = None
    try:
        at = {(row.sink, row.partition): row for row in postgres.positions(settings)}
        rejections = postgres.rejections_by_reason(settings)
    except WalletError as error:
        at, problem = {}, str(error)
    if problem is None:
        for sink, topic in _read_by_sinks(names, archive=any(sink == "archive" for sink, _ in at)):
            for partition in range(found[topic].partitions if topic in found else 0):
                row = at.get((sink, partition))
                place = _place(sink, topic, partition, row and row.next_offset, ends, row and row.updated_at)
                places.append(place)
    exact = _without_marks(settings, places)
    return Status(settings.prefix, _members(client, settings), exact, rejections, problem)


def _read_by_sinks(names: Topics, *, archive: bool) -> list[tuple[str, str]]:
    """Each sink and its topic; the archive's, which not everybody runs, where it has run."""
    sinks = [("ledger", names.ledger), ("snapshots", names.snapshots), ("rejections", names.rejections)]
    return [*sinks, ("archive", names.snapshots)] if archive else sinks


def show(settings: Settings, *, every_s: float | None, as_json: bool) -> None:
    """Print the status once, or again and again every so many seconds until Ctrl-C."""
    wait_for_kafka(settings)
    # A look must not wait for PostgreSQL as a start does: it tells what it found.
    settings = settings.model_copy(update={"startup_wait_s": min(2.0, settings.startup_wait_s)})
    client = quiet_admin(settings)
    if every_s is None:
        status = look(settings, client)
        if as_json:
            typer.echo(as_line(asdict(status)))
        else:
            console().print(_drawn(status))
        return
    if as_json:
        while True:
            typer.echo(as_line(asdict(look(settings, client))))
            time.sleep(every_s)
    with Live(_drawn(look(settings, client)), auto_refresh=False) as live:
        while True:
            time.sleep(every_s)
            live.update(_drawn(look(settings, client)), refresh=True)


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


def committed(client: AdminClient, settings: Settings, partitions: int) -> list[int | None]:
    """The group's committed offset of each partition of the input."""
    topic = Topics.of(settings).transactions
    wanted = [TopicPartition(topic, partition) for partition in range(partitions)]
    asked = ConsumerGroupTopicPartitions(settings.group, wanted)
    try:
        answer: Any = answered(client.list_consumer_group_offsets([asked])[settings.group])
    except KafkaException as error:
        raise NotReachable(f"Kafka did not tell the group's offsets: {error.args[0].str()}") from None
    at = {one.partition: one.offset for one in answer.topic_partitions}
    return [at[partition] if at.get(partition, -1) >= 0 else None for partition in range(partitions)]


def _members(client: AdminClient, settings: Settings) -> int | None:
    """How many workers have joined; None where the group is not known."""
    try:
        described: Any = answered(client.describe_consumer_groups([settings.group])[settings.group])
    except KafkaException:
        return None
    return len(described.members)


def _without_marks(settings: Settings, places: list[Place]) -> tuple[Place, ...]:
    """The same places with an exact lag where it is small.

    Offsets also count the marks that end transactions, so the difference of two offsets never becomes 0
    behind a transactional writer; whether records lie between is told by reading them.
    """
    near = [place for place in places if 0 < place.lag <= MARKS]
    if not near:
        return tuple(places)
    counted = {(place.reader, place.partition): _records(settings, place) for place in near}
    return tuple(
        Place(**asdict(place) | {"lag": counted.get((place.reader, place.partition), place.lag)})
        for place in places
    )


def _records(settings: Settings, place: Place) -> int:
    reader = Consumer(
        looking(
            settings,
            f"{settings.prefix}.status",
            fetch_wait_max_ms=10,
        )
    )
    count, deadline = 0, time.monotonic() + ASK_S
    try:
        reader.assign([TopicPartition(place.topic, place.partition, place.end - place.lag)])
        while time.monotonic() < deadline:
            message = reader.poll(1.0)
            if message is None:
                continue
            error = message.error()
            if error is None:
                count += 1
            elif error.code() == KafkaError._PARTITION_EOF:
                return count
            else:
                return place.lag
    finally:
        reader.close()
    return place.lag


def _drawn(status: Status) -> Group:
    """The status for people."""
    table = Table(box=None, header_style="bold", title=f"pipeline {status.prefix}", title_justify="left")
    for name in ("reader", "topic", "partition", "position", "end", "lag", "last progress"):
        table.add_column(name, justify="right" if name in {"partition", "position", "end", "lag"} else "left")
    for place in status.places:
        table.add_row(
            place.reader,
            place.topic,
            str(place.partition),
            "-" if place.position is None else str(place.position),
            str(place.end),
            f"[yellow]{place.lag}[/]" if place.lag else "0",
            _ago(place.progress_at),
        )
    lines = [f"workers: {'none' if not status.workers else status.workers}"]
    if status.postgres_problem:
        lines.append(f"PostgreSQL: {status.postgres_problem}")
    else:
        told = ", ".join(f"{reason} {count}" for reason, count in status.rejections.items())
        lines.append(f"rejections: {told or 'none'}")
    return Group(table, *lines)


def _ago(at: datetime | None) -> str:
    if at is None:
        return ""
    return f"{max(0, round((datetime.now(UTC) - at).total_seconds()))} s ago"
