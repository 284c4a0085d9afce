"""`wallet init`: create what a pipeline needs, once, and refuse what differs (DESIGN section 3)."""

import logging
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import Literal

import typer
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from config.asking import in_time
from config.errors import NotReachable, Refused
from config.pipeline import KEY, Pipeline
from config.settings import Settings
from operations.cli.output import as_line
from operations.sending.importing.producer import read_progress
from schemas import registry
from schemas.versions import SchemaIds
from sinks.postgres import migrations
from topics import clients, retention, rights
from topics import history as open_input
from topics.causes import because, passes
from topics.cluster import (
    ASK_PAUSE_S,
    ASK_S,
    FoundTopic,
    all_there,
    describe,
    input_bytes,
    offsets,
    quiet_admin,
    read_pipeline,
    refuse_differences,
    specs,
    wait_for_kafka,
)
from topics.history import CREATE_TIME, is_open
from topics.incoming import Incoming
from topics.lag import First
from topics.names import LOG_APPEND_TIME, TIMESTAMP_TYPE, Topics, TopicSpec
from topics.topic_settings import alter

#: What to do about the input's times: leave them, open it for history, or open it to live records.
Times = Literal["as they are", "history", "upstream"]

#: How often an init that was overtaken by another tries again.
ATTEMPTS = 10
OVERTAKEN = "other runs of `wallet init` kept overtaking this one"
CREATE_ATTEMPTS = 3
UNANSWERED = frozenset(
    {KafkaError._TIMED_OUT, KafkaError.REQUEST_TIMED_OUT, KafkaError._TRANSPORT, KafkaError.NOT_CONTROLLER}
)
#: Being fenced is normal here, but librdkafka would log it to stderr.
_unheard = logging.getLogger("operations.setup.init.librdkafka")
_unheard.setLevel(logging.CRITICAL + 1)


@dataclass(frozen=True)
class Report:
    """What `wallet init` did; everything is empty if there was nothing to do."""

    pipeline: Pipeline
    record_written: bool
    created: tuple[str, ...]
    altered: tuple[str, ...]
    schemas: SchemaIds
    migrated: tuple[str, ...]
    warnings: tuple[str, ...]


def initialise(settings: Settings, times: Times = "as they are", *, agreed: bool = False) -> Report:
    """Create topics, schemas, the pipeline record and the tables; running it again changes nothing.

    The record is written after the topics, so if it exists, they must exist too. `agreed`: the user has confirmed
    what cannot be undone, such as a shorter retention. Raises ConfigurationError, NotReachable or Refused.
    """
    wait_for_kafka(settings)
    client = quiet_admin(settings)
    created, altered = _topics(client, settings, times, agreed=agreed)
    rights.require(settings, _needed(settings), {})
    ids = registry.register(settings)
    pipeline, written = claim(settings, Pipeline.of(settings, ids.transaction))
    migrated = migrations.migrate(settings)
    warnings = _warnings(settings, describe(client, Topics.of(settings).partitioned))
    return Report(pipeline, written, tuple(created), tuple(altered), ids, tuple(migrated), tuple(warnings))


def _needed(settings: Settings) -> rights.Needed:
    """The rights that init may need, even if there is nothing to do this time."""
    names = Topics.of(settings)
    own = [name for name in names.partitioned if name != settings.input]
    return dict.fromkeys(own, rights.ALTER_CONFIGS) | {names.pipeline: rights.READ | rights.WRITE}


def _topics(
    client: AdminClient, settings: Settings, times: Times, *, agreed: bool
) -> tuple[list[str], list[str]]:
    """Create missing topics and refuse wrong ones.

    Returns the names of created topics, and what changed in existing ones.
    """
    names = Topics.of(settings)
    everything = (*names.partitioned, names.pipeline)
    found = describe(client, everything)
    initialised = read_pipeline(settings) if names.pipeline in found else None
    if initialised:
        settings = initialised.check(settings)
        if missing := [name for name in everything if name not in found]:
            raise Refused(
                f"the pipeline {settings.prefix!r} has lost {', '.join(missing)}: "
                "restore them, or start a new pipeline with another WALLET_PREFIX"
            )
    if settings.input and settings.input not in found:
        raise Refused(f"WALLET_INPUT names topic {settings.input}, which does not exist: create it first")
    lacking = [spec for spec in specs(settings, input_bytes(settings, found)) if spec.name not in found]
    if times == "history":
        lacking = [_open(spec) if spec.name == names.transactions else spec for spec in lacking]
    found = create(client, lacking, settings.replication, everything)
    # An input on CreateTime is allowed if WALLET_INPUT names it, or once --history has opened ours.
    may_be_open = settings.input is not None or initialised is not None or times != "as they are"
    refuse_differences(settings, found, any_input_time=may_be_open)
    altered = _keep(client, settings, found, agreed=agreed)
    if times == "history":
        altered += open_for_history(client, settings, found)
    elif times == "upstream":
        altered += open_to_upstream(client, settings, found, agreed=agreed)
    return [spec.name for spec in lacking], altered


def _open(spec: TopicSpec) -> TopicSpec:
    return replace(spec, config=spec.config | {TIMESTAMP_TYPE: open_input.CREATE_TIME})


def _keep(
    client: AdminClient, settings: Settings, found: dict[str, FoundTopic], *, agreed: bool
) -> list[str]:
    """Apply the retention settings and return what changed; Refused if that deletes records and nobody agreed."""
    asked = retention.changes(settings, found)
    if not agreed and (shorter := [str(change) for change in asked if change.shortens]):
        raise Refused(
            f"a shorter retention permanently deletes older records: {'; '.join(shorter)}; add --yes to do it"
        )
    for change in asked:
        alter(client, change.topic, {"retention.ms": str(change.wanted_ms)})
    return [str(change) for change in asked]


def create(
    client: AdminClient, topics: Iterable[TopicSpec], replication: int, others: Iterable[str] = ()
) -> dict[str, FoundTopic]:
    """Create topics; returns them and the others that exist, once one answer of a broker has all of them.

    That takes a moment. If somebody else has just created one, the check that follows judges it. Raises NotReachable.
    """
    wanted = [
        NewTopic(
            spec.name, num_partitions=spec.partitions, replication_factor=replication, config=spec.config
        )
        for spec in topics
    ]
    names, told = {topic.topic for topic in wanted} | set(others), ""
    for _ in range(CREATE_ATTEMPTS):
        wanted, told = _unanswered(client, wanted) if wanted else (wanted, told)
    if wanted:
        raise NotReachable(f"Kafka did not create topic {wanted[0].topic}: {told}")
    found = dict[str, FoundTopic]()

    def has_all() -> bool:
        nonlocal found
        found = describe(client, names)
        return names <= found.keys()

    if not in_time(has_all, ASK_PAUSE_S, ASK_S):
        raise NotReachable(f"Kafka did not create topic {min(names - found.keys())} in time: run it again")
    return found


def _unanswered(client: AdminClient, wanted: list[NewTopic]) -> tuple[list[NewTopic], str]:
    """Create topics; returns those without an answer, for example while a controller is elected."""
    answers = client.create_topics(wanted, operation_timeout=ASK_S, request_timeout=ASK_S)
    left, told = list[NewTopic](), ""
    for topic in wanted:
        try:
            answers[topic.topic].result(2 * ASK_S)
        except KafkaException as failure:
            error = failure.args[0]
            if error.code() in UNANSWERED:
                left.append(topic)
                told = error.str()
            elif error.code() != KafkaError.TOPIC_ALREADY_EXISTS:
                refused = Refused(f"Kafka did not create topic {topic.topic}: {error.str()}")
                raise because(error, refused) from None
    return left, told


def claim(settings: Settings, wanted: Pipeline) -> tuple[Pipeline, bool]:
    """The valid pipeline record, and whether this call wrote it; concurrent calls agree on one.

    Raises ConfigurationError if there is a record with other settings.
    """
    written, why = False, ""
    for attempt in range(ATTEMPTS):
        there = read_pipeline(settings)
        if there is None:
            # A slow broker may show the record only on the next attempt.
            why = _write_first(settings, wanted)
            written = written or not why
        there = there or read_pipeline(settings)
        if there:
            # The record's schema id is valid, whatever the registry says now.
            there.check(settings)
            return there, written
        time.sleep(0.2 * attempt)
    raise NotReachable(f"no pipeline record yet: {why or 'Kafka does not show it'}; run `wallet init` again")


def _write_first(settings: Settings, wanted: Pipeline) -> str:
    """Write the record unless there is one; returns what prevented it, or "".

    The order makes concurrent calls agree: 1. fence every other init, which aborts its open transaction and waits for
    one that is committing, 2. look again, 3. write and commit, which fails if we were fenced.
    """
    named = f"{settings.prefix}-init"
    producer = clients.producer(
        settings, logger=_unheard, transactional_id=named, transaction_timeout_ms=60_000
    )
    failed: list[KafkaError] = []
    try:
        producer.init_transactions(max(ASK_S, settings.startup_wait_s))
        if read_pipeline(settings) is not None:
            return OVERTAKEN
        producer.begin_transaction()
        producer.produce(
            Topics.of(settings).pipeline,
            wanted.to_json(),
            KEY,
            partition=0,
            on_delivery=lambda error, _: failed.append(error) if error else None,
        )
        producer.commit_transaction(max(ASK_S, settings.startup_wait_s))
    except KafkaException as failure:
        error = failure.args[0]
        if error.code() in {KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH}:
            return OVERTAKEN
        # Being fenced between two requests shows in several ways; all of them end the transaction.
        if error.fatal() or error.txn_requires_abort() or passes(error):
            return str(error.str())
        raise because(
            error, NotReachable(f"cannot write the pipeline record: {error.str()}; run `wallet init` again")
        ) from None
    return str(failed[0].str()) if failed else ""


def _warnings(settings: Settings, found: dict[str, FoundTopic]) -> list[str]:
    """Warnings for the operator: what a finite retention costs, and an input that is still open for history."""
    told = retention.warnings(settings, found)
    name = Topics.of(settings).transactions
    if open_input.is_open(found[name]):
        told.append(f"topic {name} is open for history: run `wallet init --open` before sending live records")
    return told


def show(report: Report, *, as_json: bool) -> None:
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
        typer.echo("nothing to do: everything exists already")
    for warning in report.warnings:
        typer.echo(f"warning: {warning}", err=True)


def open_for_history(client: AdminClient, settings: Settings, found: Mapping[str, FoundTopic]) -> list[str]:
    """Put the input on CreateTime; returns what changed, nothing if it was open already.

    Only the topic's setting changes: existing records keep their times.
    Raises Refused if it holds live records: history after them could not keep its dates.
    """
    name = Topics.of(settings).transactions
    if is_open(found[name]):
        return []
    if live := [at for at, tail in tails(client, settings).items() if tail.by_broker]:
        raise Refused(
            f"topic {name} holds records with the broker's time (partition {live[0]}): history after them could "
            "not keep its dates; load it into a new pipeline with another WALLET_PREFIX"
        )
    alter(client, name, {TIMESTAMP_TYPE: CREATE_TIME})
    return [f"topic {name} is open for history: {TIMESTAMP_TYPE}={CREATE_TIME}"]


def open_to_upstream(
    client: AdminClient, settings: Settings, found: Mapping[str, FoundTopic], *, agreed: bool
) -> list[str]:
    """Put the input on LogAppendTime; returns what changed, nothing if it was there already.

    Raises Refused while an import is unfinished, unless `agreed`.
    """
    name = Topics.of(settings).transactions
    if not is_open(found[name]):
        return []
    progress = read_progress(settings)
    if progress and not progress.finished and not agreed:
        raise Refused(
            f"an import is unfinished at line {progress.done} of {progress.lines}: run it again to finish it, or add "
            "--yes to leave out the rest forever"
        )
    alter(client, name, LOG_APPEND_TIME)
    return [f"topic {name} is open to upstream: {TIMESTAMP_TYPE}=LogAppendTime"]


def tails(client: AdminClient, settings: Settings) -> dict[int, First]:
    """The newest committed record of each input partition that has one; waits for open transactions."""
    name = Topics.of(settings).transactions
    logs = offsets(client, {name: settings.partitions})
    found: dict[int, First] = {}
    with closing(Incoming(settings, name)) as incoming:
        for (_, partition), end in all_there(client, logs).items():
            if newest := incoming.newest(partition, logs[name, partition].begin, end):
                found[partition] = newest
    return found
