"""The two pipelines of a rebuild: the live one that the settings name, and its shadow."""

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from config.decisions import Overdraft
from config.errors import ConfigurationError, NotReachable, Refused
from config.pipeline import Pipeline
from config.settings import Settings
from operations.setup.init import create
from sinks import shadow
from sinks.names import SINKS
from sinks.postgres import connect
from topics import clients
from topics.cluster import describe, identity, offsets_in, quiet_admin, read_pipeline, wait_for_kafka
from topics.names import COMPACTED, Topics, TopicSpec
from topics.topic_log import TopicLog

FORMAT = 1
KEY = b"rebuild"
WRITE_S = 30.0


@dataclass(frozen=True)
class ShadowRecord:
    """What a shadow belongs to: the live pipeline, its input topic with its id, and the shadow's own database.

    It makes a prefix a shadow: one JSON record in the compacted topic `<shadow>.rebuild`, written before anything else
    of a shadow and removed after everything else. So whatever exists under a prefix without it is not ours.
    `policies` are the shadow's, by setting, so that you need not repeat them. `switched_at` is when it became the live
    one, ISO 8601; None until then.
    """

    live: str
    input: str
    input_id: str
    database: str
    policies: dict[str, object]
    started_at: str
    switched_at: str | None = None
    format: int = FORMAT


def topic_of(prefix: str) -> str:
    """The topic that holds the record."""
    return f"{prefix}.rebuild"


def read_record(settings: Settings, client: AdminClient) -> ShadowRecord | None:
    """The record under these settings' prefix; None if there is no shadow."""
    topic = topic_of(settings.prefix)
    if topic not in describe(client, [topic]):
        return None
    found = offsets_in(client, [(topic, 0)])[topic, 0]
    with closing(TopicLog(settings, topic)) as log:
        newest = log.last_before(0, found.begin, found.end)
    if newest is None or (value := newest.value()) is None:
        return None
    fields = json.loads(value)
    if fields.get("format") != FORMAT:
        raise Refused(
            f"the record in {topic} has format {fields.get('format')!r}, this version reads {FORMAT}: upgrade"
        )
    return ShadowRecord(**fields)


def write_record(settings: Settings, client: AdminClient, record: ShadowRecord) -> None:
    """Write the record; creates its topic if needed."""
    topic = topic_of(settings.prefix)
    if topic not in describe(client, [topic]):
        create(client, [TopicSpec(topic, 1, dict(COMPACTED))], settings.replication)
    failed: list[str] = []
    producer = clients.producer(settings, acks="all", enable_idempotence=True)
    try:
        producer.produce(
            topic,
            json.dumps(asdict(record)).encode(),
            KEY,
            0,
            on_delivery=lambda error, _: failed.append(error.str()) if error else None,
        )
        left = producer.flush(WRITE_S)
    except KafkaException as error:
        raise NotReachable(
            f"cannot write the record in {topic}: {error.args[0].str()}; run it again"
        ) from None
    if left or failed:
        raise NotReachable(
            f"cannot write the record in {topic}: {failed[0] if failed else 'no answer'}; run it again"
        )


@dataclass(frozen=True)
class Policies:
    """Policies that differ in the shadow; None: as in the live pipeline. `id_window_days` 0: no window."""

    partitions: int | None = None
    snapshot_every: int | None = None
    overdraft: Overdraft | None = None
    max_record_bytes: int | None = None
    id_window_days: int | None = None

    def given(self) -> dict[str, object]:
        """The given ones, as values of settings."""
        named = {name: getattr(self, name) for name in POLICIES}
        chosen = {name: value for name, value in named.items() if value is not None}
        return {
            name: None if (name, value) == ("id_window_days", 0) else value for name, value in chosen.items()
        }


POLICIES = tuple(field.name for field in fields(Policies))


@dataclass(frozen=True)
class Rebuild:
    """Settings of the live pipeline and of its shadow, each with its fixed policies.

    `record` is None if there is no shadow yet. The shadow's settings always name its input.
    """

    live: Settings
    shadow: Settings
    record: ShadowRecord | None
    database: str
    input_id: str
    client: AdminClient

    @property
    def input(self) -> str:
        """The live pipeline's input topic."""
        return Topics.of(self.live).transactions

    @property
    def copied(self) -> bool:
        """Whether the shadow reads a copy of the input because it has another number of partitions."""
        return self.shadow.partitions != self.live.partitions

    @property
    def folder(self) -> Path:
        """Where the shadow keeps its workers' stores, its verified point and its children's logs."""
        return self.shadow.state_dir.parent

    @property
    def copying(self) -> Settings:
        """Settings with which the copy reads the live input: the prefix is the copy's group."""
        return self.live.model_copy(update={"prefix": f"{self.shadow.prefix}.copy", "input": self.input})

    @property
    def own_topics(self) -> list[str]:
        """Every topic that belongs to the shadow, whether or not it exists; the one with its record last.

        None is the live pipeline's: `find` has compared the names.
        """
        own = Topics.of(self.shadow.model_copy(update={"input": None}))
        return [*own.partitioned, own.pipeline, topic_of(self.shadow.prefix)]

    def begun(self) -> ShadowRecord:
        """The shadow's record; raises Refused if there is none."""
        if self.record is None:
            raise Refused(
                f"{self.live.prefix!r} has no shadow {self.shadow.prefix!r}: make it with `wallet rebuild start`"
            )
        return self.record


def groups_of(settings: Settings) -> list[str]:
    """The groups of a pipeline's workers and sinks, and of the copy that may fill its input."""
    return [
        settings.group,
        *(settings.sink_group(sink) for sink in SINKS),
        f"{settings.prefix}.copy",
    ]


def find(settings: Settings, prefix: str | None, policies: Policies | None = None) -> Rebuild:
    """Find the two pipelines in Kafka and PostgreSQL; it only reads.

    Raises ConfigurationError or Refused if they share anything.
    """
    policies = policies or Policies()
    named = prefix or settings.rebuild_prefix
    if named is None:
        raise ConfigurationError("no shadow named: set --prefix or WALLET_REBUILD_PREFIX")
    if settings.rebuild_postgres is None:
        raise ConfigurationError(
            "WALLET_REBUILD_POSTGRES is not set: set it to an empty database for the shadow"
        )
    wait_for_kafka(settings)
    client = quiet_admin(settings)
    pipeline = _pipeline(settings, client)
    if pipeline is None:
        raise Refused(
            f"there is no live pipeline {settings.prefix!r}: set WALLET_PREFIX to the pipeline to rebuild"
        )
    live = pipeline.rule(settings)
    beside = _shadow(live, named)
    _refuse_shared_names(live, beside)
    record = read_record(beside, client)
    beside = _with_policies(live, beside, record, policies)
    _, input_id = identity(client, Topics.of(live).transactions)
    place = Rebuild(live, beside, record, _databases(live, beside), input_id, client)
    _refuse_another(place)
    return place


def _pipeline(settings: Settings, client: AdminClient) -> Pipeline | None:
    if Topics.of(settings).pipeline not in describe(client, [Topics.of(settings).pipeline]):
        return None
    return read_pipeline(settings)


def _shadow(live: Settings, prefix: str) -> Settings:
    if live.rebuild_postgres is None:
        raise AssertionError("asked before whether it is set")
    folder = live.state_dir.expanduser().absolute() / f"rebuild-{prefix}"
    # The live worker already listens on the configured port.
    port = None if live.http_port is None else 0
    changes = {"prefix": prefix, "postgres": live.rebuild_postgres, "http_port": port}
    changes |= {"state_dir": folder / "state", "rebuild_prefix": None, "rebuild_postgres": None}
    # The live input's retention is not ours to change; a copy is kept forever.
    return live.model_copy(update=changes | {"retention_transactions_days": None})


def _refuse_shared_names(live: Settings, beside: Settings) -> None:
    """Raise ConfigurationError for names that both would use, as the prefixes `a` and `a.sink.ledger` would."""
    theirs, ours = Topics.of(live), Topics.of(beside.model_copy(update={"input": None}))
    both = {*theirs.partitioned, theirs.pipeline} & {*ours.partitioned, ours.pipeline}
    both |= set(groups_of(live)) & set(groups_of(beside))
    if both:
        raise ConfigurationError(
            f"--prefix {beside.prefix} would share {', '.join(sorted(both))} with the live pipeline: choose another"
        )


def _with_policies(
    live: Settings, beside: Settings, record: ShadowRecord | None, policies: Policies
) -> Settings:
    """The shadow's settings: those it was started with, or else the live ones with the given policies."""
    wanted = policies.given()
    if record is not None:
        if wrong := [name for name, value in wanted.items() if record.policies[name] != value]:
            raise ConfigurationError(
                f"the shadow {beside.prefix!r} was started with {wrong[0]}={record.policies[wrong[0]]}: leave the "
                "option out to continue, or discard the shadow first"
            )
        wanted = record.policies
    beside = beside.model_copy(update=wanted)
    same = beside.partitions == live.partitions
    topic = Topics.of(live).transactions if same else f"{beside.prefix}.transactions"
    return beside.model_copy(update={"input": topic})


def _databases(live: Settings, beside: Settings) -> str:
    """The identity of the shadow's database; raises if it is the live one or holds another pipeline's rows."""
    with closing(shadow.connect_shadow(beside)) as connection:
        own, topics = shadow.identity(connection), shadow.topics_of_sinks(connection)
    with closing(connect(live)) as connection:
        if shadow.identity(connection) == own:
            raise ConfigurationError(
                "WALLET_REBUILD_POSTGRES is the live pipeline's own database: choose another one"
            )
    if foreign := topics - set(Topics.of(beside).partitioned):
        raise Refused(
            f"the database of WALLET_REBUILD_POSTGRES holds rows of {', '.join(sorted(foreign))}: choose an empty one"
        )
    return own


def _refuse_another(place: Rebuild) -> None:
    """Raise Refused if the record names another live pipeline, input or database."""
    if place.record is None:
        return
    differing: Sequence[tuple[str, str, str]] = [
        ("live pipeline", place.record.live, place.live.prefix),
        ("input", place.record.input, place.input),
        ("input topic's id", place.record.input_id, place.input_id),
        ("database", place.record.database, place.database),
    ]
    for what, recorded, found in differing:
        if recorded != found:
            raise Refused(
                f"{place.shadow.prefix!r} is the shadow of another {what} ({recorded}, not {found}): choose another "
                "--prefix, or use the settings it was started with"
            )
