"""`wallet rebuild discard`: remove a shadow's topics, groups, tables and folder; the live pipeline stays untouched."""

import shutil
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import closing
from dataclasses import asdict, dataclass

import typer
from confluent_kafka import KafkaError, KafkaException

from config.asking import in_time
from config.errors import NotReachable, Refused
from operations.cli.output import as_line
from operations.rebuild.place import Rebuild, groups_of
from operations.rebuild.switch import members
from sinks import shadow
from topics.cluster import ASK_PAUSE_S, ASK_S, describe
from topics.names import Topics

GONE = frozenset({KafkaError.GROUP_ID_NOT_FOUND, KafkaError.UNKNOWN_TOPIC_OR_PART})


@dataclass(frozen=True)
class Removal:
    """What is or would be removed. `tables` are those of the shadow's database, which itself stays."""

    executed: bool
    topics: tuple[str, ...]
    groups: tuple[str, ...]
    tables: tuple[str, ...]
    folder: str | None


def run(place: Rebuild, *, execute: bool, switched: bool) -> Removal:
    """Say what would be removed, and with `execute` do it. Raises Refused if it is in use or not a shadow."""
    record = place.begun()
    if record.switched_at and not switched:
        raise Refused(
            f"{place.shadow.prefix!r} was switched to at {record.switched_at}: it may be live now; if it is not, add "
            "--even-switched"
        )
    groups = _existing(place)
    for group in groups:
        if working := members(place, group):
            raise Refused(f"{working[0]} is working in group {group}: stop it first")
    there = describe(place.client, place.own_topics)
    topics = [name for name in place.own_topics if name in there]
    with closing(shadow.connect_shadow(place.shadow)) as connection:
        if writing := shadow.sink_sessions(connection):
            raise Refused(f"{writing[0]} is writing to the shadow: stop it first")
        _refuse_what_is_live(place, topics, groups)
        tables = shadow.tables(connection)
        if execute:
            # The record goes last: without it, leftovers could not be recognised as a shadow's.
            shadow.drop_everything(connection)
            if groups:
                _gone("group", place.client.delete_consumer_groups(groups, request_timeout=ASK_S))
            _delete_topics(place, topics[:-1])
            shutil.rmtree(place.folder, ignore_errors=True)
            _delete_topics(place, topics[-1:])
    folder = str(place.folder) if place.folder.exists() or execute else None
    return Removal(execute, tuple(topics), tuple(groups), tuple(tables), folder)


def show(removal: Removal, *, as_json: bool) -> None:
    """Print what was or would be removed."""
    if as_json:
        typer.echo(as_line(asdict(removal)))
        return
    verb = "removed" if removal.executed else "would be removed:"
    for what, names in (("topic", removal.topics), ("group", removal.groups), ("table", removal.tables)):
        for name in names:
            typer.echo(f"{verb} {what} {name}")
    if removal.folder:
        typer.echo(f"{verb} folder {removal.folder}")
    typer.echo("the database itself, and the roles, stay")
    if not removal.executed:
        typer.echo("dry run, nothing was removed: add --execute to do it")


def _refuse_what_is_live(place: Rebuild, topics: list[str], groups: list[str]) -> None:
    """A second check: names and databases were compared before, but a removal cannot be undone."""
    live = {*Topics.of(place.live).partitioned, Topics.of(place.live).pipeline, *groups_of(place.live)}
    if shared := live & {*topics, *groups}:
        raise Refused(
            f"{', '.join(sorted(shared))} belong to the live pipeline, nothing was removed: please report this"
        )


def _existing(place: Rebuild) -> list[str]:
    try:
        listed = place.client.list_consumer_groups(request_timeout=ASK_S).result(2 * ASK_S)
    except KafkaException as error:
        raise NotReachable(f"Kafka did not list the groups: {error.args[0].str()}") from None
    there = {one.group_id for one in listed.valid}
    return [group for group in groups_of(place.shadow) if group in there]


def _gone(what: str, answers: Mapping[str, Future[None]]) -> None:
    """Wait until these are deleted; raises Refused unless they are, or were not there."""
    for name, answer in answers.items():
        try:
            answer.result(2 * ASK_S)
        except KafkaException as error:
            if error.args[0].code() not in GONE:
                raise Refused(f"Kafka did not delete {what} {name}: {error.args[0].str()}") from None


def _delete_topics(place: Rebuild, topics: list[str]) -> None:
    if not topics:
        return
    _gone("topic", place.client.delete_topics(topics, operation_timeout=ASK_S, request_timeout=ASK_S))
    # Brokers may list deleted topics for a moment longer, and then a new shadow would be refused.
    listed = place.client.list_topics
    in_time(lambda: not listed(timeout=ASK_S).topics.keys() & set(topics), ASK_PAUSE_S, ASK_S)
