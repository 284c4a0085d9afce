"""`wallet offsets`: where consumers that are not ours would begin for a time, and how to put them there.

Nothing is changed here. Kafka's own `kafka-consumer-groups.sh` does that, which refuses while a group has members.
"""

import shlex
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

import typer
from confluent_kafka import KafkaError, KafkaException
from rich.table import Table

from config.errors import ConfigurationError, NotReachable, Refused
from config.settings import Settings
from config.times import rfc3339
from operations.cli.output import as_line, show_table
from operations.looking.time_lookup import MILLISECOND, offsets_at
from schemas.records import EPOCH
from topics import group_offsets
from topics.cluster import ASK_S, answered, describe, offsets, quiet_admin, wait_for_kafka
from topics.names import Topics


@dataclass(frozen=True)
class Wanted:
    """Whose offsets, and where to: exactly one of the last four is given."""

    group: str
    topic: str
    time: datetime | None = None
    back: timedelta | None = None
    beginning: bool = False
    end: bool = False


@dataclass(frozen=True)
class Target:
    """One partition: what it holds, where the group is, None where it never committed, and where it should be."""

    partition: int
    begin: int
    end: int
    committed: int | None
    offset: int

    @property
    def again(self) -> int | None:
        """Offsets that the group would read again; below zero it would leave out so many."""
        return None if self.committed is None else self.committed - self.offset


def show(settings: Settings, wanted: Wanted, *, as_json: bool) -> None:
    """Print the offsets and the commands that set them."""
    topic, targets, members = look(settings, wanted)
    at = _time(wanted)
    commands = _commands(settings, wanted, topic, at)
    if as_json:
        told = {
            "group": wanted.group,
            "topic": topic,
            "time": at and rfc3339(at),
            "members": members,
            "partitions": [asdict(one) | {"again": one.again} for one in targets],
            "csv": _csv(topic, targets),
            "commands": commands,
        }
        typer.echo(as_line(told))
        return
    typer.echo(f"group {wanted.group}, topic {topic}{f', from {rfc3339(at)} on' if at else ''}")
    table = Table(box=None, header_style="bold")
    for name in ("partition", "begin", "end", "committed", "new offset", "read again"):
        table.add_column(name, justify="right")
    for one in targets:
        numbers = (one.partition, one.begin, one.end, one.committed, one.offset, one.again)
        table.add_row(*("-" if number is None else str(number) for number in numbers))
    show_table(table)
    if members:
        typer.echo(f"the group has {members} members: stop them first, or Kafka refuses")
    typer.echo("\nexactly these offsets (first as a dry run):")
    typer.echo(f"cat > offsets.csv <<'END'\n{_csv(topic, targets)}END")
    typer.echo("\n".join(commands["exact"]))
    typer.echo(
        "\nor let Kafka look them up when it runs (it counts transaction marks, too, and may begin earlier):"
    )
    typer.echo("\n".join(commands["looked_up"]))


def look(settings: Settings, wanted: Wanted) -> tuple[str, list[Target], int]:
    """The topic's name, each partition's target, and how many members the group has now.

    Raises Refused for a group of the pipeline, ConfigurationError for a topic that is none or a time to come.
    """
    _refuse_ours(settings, wanted.group)
    if sum((wanted.time is not None, wanted.back is not None, wanted.beginning, wanted.end)) != 1:
        raise ConfigurationError("say where to: exactly one of --time, --back, --beginning, --end")
    at = _time(wanted)
    if at and at > datetime.now(UTC):
        raise ConfigurationError(f"--time {rfc3339(at)} is in the future")
    wait_for_kafka(settings)
    client = quiet_admin(settings)
    topic = getattr(Topics.of(settings), wanted.topic, wanted.topic)
    found = describe(client, [topic]).get(topic)
    if found is None:
        raise ConfigurationError(f"--topic {wanted.topic}: there is no topic {topic}")
    logs = offsets(client, {topic: found.partitions})
    partitions = [*range(found.partitions)]
    at_time = offsets_at(settings, partitions, at, topic) if at else {}
    found_offsets = group_offsets.committed(settings, topic, partitions, wanted.group, wait=False)
    committed = {at: one.offset for at, one in found_offsets.items() if one.offset >= 0}
    try:
        group = answered(client.describe_consumer_groups([wanted.group], request_timeout=ASK_S)[wanted.group])
        members = len(group.members)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.GROUP_ID_NOT_FOUND:
            raise NotReachable(
                f"Kafka did not tell about group {wanted.group}: {error.args[0].str()}"
            ) from None
        members = 0
    targets = []
    for one in partitions:
        log = logs[topic, one]
        named = at_time.get(one) if at else log.begin if wanted.beginning else None
        targets.append(
            Target(one, log.begin, log.end, committed.get(one), log.end if named is None else named)
        )
    return topic, targets, members


def _refuse_ours(settings: Settings, group: str) -> None:
    """Groups of the pipeline keep their place elsewhere; moving them by hand changes nothing, or worse."""
    if group == settings.group:
        raise Refused(
            f"{group} is the worker's group: its offsets are part of exactly once, and a record handled again is a "
            "fault; to fold the input again use `wallet rebuild`"
        )
    if group.startswith(settings.sink_group("")):
        sink = group.removeprefix(settings.sink_group(""))
        raise Refused(
            f"{group} is a sink's group: sinks read from where PostgreSQL says, not from their group's offsets; "
            f"use `wallet replay {sink}`"
        )
    if group.startswith(f"{settings.prefix}."):
        raise Refused(f"{group} is one of the pipeline's own groups: nothing is to be set there")


def _time(wanted: Wanted) -> datetime | None:
    if wanted.back is None:
        return wanted.time
    try:
        return datetime.now(UTC) - wanted.back
    except OverflowError:
        raise ConfigurationError("--back goes back to before the year 1: say --beginning") from None


def _csv(topic: str, targets: list[Target]) -> str:
    return "".join(f"{topic},{one.partition},{one.offset}\n" for one in targets)


def _commands(settings: Settings, wanted: Wanted, topic: str, at: datetime | None) -> dict[str, list[str]]:
    """Command lines of Kafka's tool: as a dry run, then in earnest."""
    script = ["kafka-consumer-groups.sh", "--bootstrap-server", settings.kafka]
    if settings.kafka_security_protocol != "PLAINTEXT":
        script += ["--command-config", "client.properties"]
    script += ["--group", wanted.group, "--reset-offsets"]
    if at:
        # Kafka counts whole milliseconds: the first one that is not before it.
        at = EPOCH - (EPOCH - at) // MILLISECOND * MILLISECOND
        where = ["--to-datetime", f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1_000:03}Z"]
    else:
        where = ["--to-earliest" if wanted.beginning else "--to-latest"]
    lines = {
        "exact": [*script, "--from-file", "offsets.csv"],
        "looked_up": [*script, "--topic", topic, *where],
    }
    return {
        name: [shlex.join([*line, how]) for how in ("--dry-run", "--execute")] for name, line in lines.items()
    }
