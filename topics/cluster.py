"""Check that the cluster is as a pipeline needs it: reachable, with the right topics and a pipeline record.

Workers and sinks call `check` before they touch a record. So a topic that was changed by hand, or settings that are
not the pipeline's, stop them at the start instead of changing outcomes (DESIGN section 3).
"""

import time
from collections.abc import Collection, Iterable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from confluent_kafka import (
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, ConfigResource, ConsumerGroupDescription, OffsetSpec

from config.asking import NotYet, ask_again, growing
from config.errors import NotReachable, Refused, WalletError
from config.logs import EventLog
from config.pipeline import KEY, Pipeline
from config.settings import Settings
from topics.causes import DENIED, Causes, lasts, speaks_otherwise, unanswered
from topics.clients import librdkafka, standalone
from topics.consuming import READ_RECORDS, read_to_ends, watermarks
from topics.names import (
    ANY_TIME,
    COMPACTED,
    GROWTH_BYTES,
    KAFKA_MESSAGE_BYTES,
    LOG_APPEND_TIME,
    TIMESTAMP_TYPE,
    Topics,
    TopicSpec,
    derived_message_bytes,
    kept,
)

T = TypeVar("T")

#: Most seconds that one request to the broker waits, and the pause before it is asked again.
ASK_S, ASK_PAUSE_S = 10.0, 0.1
#: The first attempt to reach Kafka, and the pause after it.
FIRST_TRY_S, FIRST_PAUSE_S = 2.0, 0.25
#: Settings that may differ: finite retention is allowed, and `wallet init` warns about what it costs.
_ALLOWED = frozenset({"retention.ms", "retention.bytes"})
log = EventLog("topics.cluster")


@dataclass(frozen=True)
class FoundTopic:
    """A topic as it is in the cluster."""

    partitions: int
    config: dict[str, str]

    @property
    def on_brokers_time(self) -> bool:
        """Whether records get the broker's time; if not, they keep their own."""
        return self.config.get(TIMESTAMP_TYPE) == LOG_APPEND_TIME[TIMESTAMP_TYPE]


@dataclass(frozen=True)
class Offsets:
    """Begin and read-committed end of a partition; `end` is the offset of the next record."""

    begin: int
    end: int


def quiet_admin(settings: Settings) -> AdminClient:
    """An admin client that does not log; its caller reports that nobody answers."""
    return AdminClient(librdkafka(settings, log_level=0))


def wait_for_kafka(settings: Settings) -> None:
    """Return once a broker answers, logging the wait; raises NotReachable after `WALLET_STARTUP_WAIT_S`.

    What waiting cannot fix, such as a refused login, is raised at once, mostly as ConfigurationError.
    """
    deadline = time.monotonic() + settings.startup_wait_s
    causes, try_s = Causes(), FIRST_TRY_S
    conf: dict[str, Any] = {**librdkafka(settings, log_level=0), "error_cb": causes}
    client = AdminClient(conf)

    def ask() -> None:
        nonlocal try_s
        try:
            client.list_topics(timeout=max(1.0, min(try_s, deadline - time.monotonic())))
        except KafkaException as error:
            client.poll(0)  # delivers errors to `causes`
            if lasting := causes.lasting(settings):
                raise lasting from None
            try_s = min(2 * try_s, ASK_S, 8 * settings.retry_wait_s)
            raise NotYet(str(causes) or _text(error)) from None

    def say(reason: NotYet) -> None:
        left_s = deadline - time.monotonic()
        log.warning("waiting_for_kafka", at=settings.kafka, left_s=round(left_s), reason=str(reason))

    pauses = growing(settings.retry_wait_s, FIRST_PAUSE_S)
    try:
        ask_again(ask, NotYet, pauses, settings.startup_wait_s, waiting=say)
    except NotYet as reason:
        raise NotReachable(_silent(settings, str(reason))) from None


def _silent(settings: Settings, reason: str) -> str:
    """What to do about a Kafka that does not answer."""
    told = f"Kafka at {settings.kafka} did not answer within {settings.startup_wait_s:g} s ({reason}): "
    if speaks_otherwise(settings):
        return f"{told}something listens there: check that it speaks {settings.kafka_security_protocol}, and the port"
    return f"{told}start it, or set WALLET_KAFKA"


def specs(
    settings: Settings, input_message_bytes: int | None = None, *, any_input_time: bool = False
) -> list[TopicSpec]:
    """The required settings of the pipeline's six topics, the input first.

    `input_message_bytes` is the input topic's own `max.message.bytes`; None: as `wallet init` creates it.
    `any_input_time`: the input may also be on CreateTime, as it is after loading history.
    """
    names = Topics.of(settings)
    accepted = input_message_bytes or max(KAFKA_MESSAGE_BYTES, settings.max_record_bytes + GROWTH_BYTES)
    derived = ANY_TIME | {"max.message.bytes": str(derived_message_bytes(settings, accepted))}
    incoming = kept(settings.retention_transactions_days) | ({} if any_input_time else LOG_APPEND_TIME)
    incoming |= {"max.message.bytes": str(accepted)}
    ledger, snapshots, rejections = (
        kept(days) | derived
        for days in (
            settings.retention_ledger_days,
            settings.retention_snapshots_days,
            settings.retention_rejections_days,
        )
    )
    return [
        TopicSpec(names.transactions, settings.partitions, incoming),
        TopicSpec(names.ledger, settings.partitions, ledger),
        TopicSpec(names.balances, settings.partitions, COMPACTED | derived),
        TopicSpec(names.snapshots, settings.partitions, snapshots),
        TopicSpec(names.rejections, settings.partitions, rejections),
        TopicSpec(names.pipeline, 1, dict(COMPACTED)),
    ]


def check(settings: Settings) -> Pipeline:
    """Read the pipeline record and check that settings and topics agree with it.

    Raises NotReachable (no Kafka), ConfigurationError (settings differ), Refused (topics differ or are missing).
    """
    pipeline, found = _initialised(settings, Topics.of(settings).partitioned)
    refuse_differences(pipeline.check(settings), found)
    return pipeline


def initialised(settings: Settings) -> Pipeline:
    """The pipeline record of a pipeline that there is; raises NotReachable (no Kafka) or Refused (no pipeline)."""
    return _initialised(settings)[0]


def _initialised(settings: Settings, others: Collection[str] = ()) -> tuple[Pipeline, dict[str, FoundTopic]]:
    """The same, with what `describe` finds of the pipeline topic and of others."""
    wait_for_kafka(settings)
    topic = Topics.of(settings).pipeline
    found = describe(quiet_admin(settings), (*others, topic))
    if topic not in found:
        raise Refused(f"topic {topic} does not exist: run `wallet init` for the pipeline {settings.prefix!r}")
    pipeline = read_pipeline(settings)
    if pipeline is None:
        raise Refused(f"topic {topic} holds no pipeline record: run `wallet init`")
    return pipeline, found


def agreed(settings: Settings) -> Settings:
    """The settings with what `init` has fixed, after `check`."""
    return check(settings).rule(settings)


def refuse_differences(
    settings: Settings, found: dict[str, FoundTopic], *, any_input_time: bool = True
) -> None:
    """Raise Refused, naming every topic that is missing or wrong and what differs; `any_input_time` as for specs."""
    wanted = specs(settings, input_bytes(settings, found), any_input_time=any_input_time)
    wrong = [text for spec in wanted for text in differences(spec, found.get(spec.name))]
    if wrong:
        raise Refused(f"topics are not as this pipeline needs them: {'; '.join(wrong)}")


def input_bytes(settings: Settings, found: dict[str, FoundTopic]) -> int | None:
    """`max.message.bytes` of the existing input topic; None if there is none yet."""
    there = found.get(Topics.of(settings).transactions)
    return int(there.config["max.message.bytes"]) if there else None


def differences(spec: TopicSpec, found: FoundTopic | None) -> list[str]:
    """What is wrong with a topic, one phrase each; a larger limit is fine."""
    if found is None:
        return [f"{spec.name}: does not exist"]
    wrong = []
    if found.partitions != spec.partitions:
        wrong.append(f"{spec.name}: has {found.partitions} partitions, must have {spec.partitions}")
    for name, wanted in spec.config.items():
        actual = found.config.get(name, "")
        if name in _ALLOWED or actual == wanted:
            continue
        if name != "max.message.bytes":
            wrong.append(f"{spec.name}: {name} is {actual or 'unknown'}, must be {wanted}")
        elif int(actual) < int(wanted):
            wrong.append(f"{spec.name}: {name} is {actual}, must be at least {wanted}")
    return wrong


def describe(client: AdminClient, names: Collection[str]) -> dict[str, FoundTopic]:
    """Partitions and settings of those of the named topics that exist.

    Raises NotReachable, or Refused for a topic that this login may not see: a list of topics would silently omit it.
    """
    try:
        there = client.list_topics(timeout=ASK_S).topics
        if hidden := [name for name in names if name not in there]:
            for answer in client.describe_topics(TopicCollection(hidden), request_timeout=ASK_S).values():
                _refuse_hidden(answer)
        counts = {name: len(there[name].partitions) for name in names if name in there}
        asked = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in counts]
        answers = client.describe_configs(asked, request_timeout=ASK_S) if asked else {}
        return {
            resource.name: FoundTopic(
                counts[resource.name],
                {entry.name: entry.value or "" for entry in answered(answer).values()},
            )
            for resource, answer in answers.items()
        }
    except KafkaException as error:
        raise unanswered(f"describe {', '.join(names)}", error.args[0], ASK_S) from None


def _refuse_hidden(answer: "Future[object]") -> None:
    try:
        answered(answer)
    except KafkaException as failure:
        if failure.args[0].code() in DENIED:
            raise


def describe_group(settings: Settings, group: str, *, rights: bool = False) -> ConsumerGroupDescription:
    """A group's members, and with `rights` what this login may do with it; raises KafkaException.

    It asks with a client of its own, which is gone long before the request's own time-out of 60 s: librdkafka (2.16)
    ends the program by an assertion once the coordinator of a group that was asked about in vain is there (issue 4605).
    """
    client = quiet_admin(settings)
    try:
        asked = client.describe_consumer_groups([group], include_authorized_operations=rights)
        found: ConsumerGroupDescription = answered(asked[group])
    finally:
        del client  # also from the traceback of a failure
    return found


def identity(client: AdminClient, topic: str) -> tuple[str, str]:
    """What `ids` returns; raises NotReachable or Refused."""
    try:
        return ids(client, topic)
    except KafkaException as failure:
        raise unanswered(f"return its id and that of {topic}", failure.args[0], ASK_S) from None


def ids(client: AdminClient, topic: str) -> tuple[str, str]:
    """The ids of the cluster and a topic: offsets and stores belong to these, not to names. Raises KafkaException."""
    # Not with `describe_cluster`: librdkafka aborts with an assertion if a broker that has just come back does
    # not know any broker yet, not even itself.
    return str(client.list_topics(timeout=ASK_S).cluster_id), topic_id(client, topic)


def topic_id(client: AdminClient, topic: str) -> str:
    """The id that Kafka gave this topic; one created again under the same name has another. Raises KafkaException."""
    return str(
        answered(client.describe_topics(TopicCollection([topic]), request_timeout=ASK_S)[topic]).topic_id
    )


def offsets(client: AdminClient, topics: dict[str, int]) -> dict[tuple[str, int], Offsets]:
    """Begin and read-committed end of every partition of these topics (name: number of partitions)."""
    return offsets_in(client, [(name, at) for name, count in topics.items() for at in range(count)])


def offsets_in(client: AdminClient, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], Offsets]:
    """Begin and read-committed end of each of these partitions (topic, number)."""
    asked = [*partitions]
    begins, ends = (_list(client, asked, which) for which in (OffsetSpec.earliest(), OffsetSpec.latest()))
    return {at: Offsets(begin, ends[at]) for at, begin in begins.items()}


def all_there(client: AdminClient, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
    """The end of each of these partitions, open transactions included.

    Kafka confirms a commit before its marks are everywhere. Until they are, the records just written are beyond the
    read-committed end.
    """
    return _list(client, [*partitions], OffsetSpec.latest(), IsolationLevel.READ_UNCOMMITTED)


def _list(
    client: AdminClient,
    partitions: list[tuple[str, int]],
    which: OffsetSpec,
    level: IsolationLevel = IsolationLevel.READ_COMMITTED,
) -> dict[tuple[str, int], int]:
    """One offset of each partition; asks again while Kafka is not ready to answer."""
    asked = {TopicPartition(name, partition): which for name, partition in partitions}
    if not asked:
        return {}

    def ask() -> dict[tuple[str, int], int]:
        answers = client.list_offsets(asked, isolation_level=level, request_timeout=ASK_S)
        return {(at.topic, at.partition): answered(answer).offset for at, answer in answers.items()}

    def find_leaders(_: KafkaException) -> None:
        with suppress(KafkaException):
            client.list_topics(timeout=ASK_S)

    try:
        return ask_again(ask, KafkaException, ASK_PAUSE_S, ASK_S, unless=lasts, waiting=find_leaders)
    except KafkaException as error:
        names = ", ".join(sorted({name for name, _ in partitions}))
        raise unanswered(f"return the ends of {names}", error.args[0], ASK_S) from None


def answered(answer: "Future[T]") -> T:
    """An admin client's answer, within ASK_S; raises KafkaException if nobody answered.

    The client's own `request_timeout` does not apply while it looks for a broker to ask.
    """
    try:
        return answer.result(ASK_S)
    except TimeoutError:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT)) from None


def read_pipeline(settings: Settings) -> Pipeline | None:
    """The pipeline record, read-committed; None if there is none yet."""
    topic = Topics.of(settings).pipeline
    group = f"{settings.prefix}.pipeline"
    patience_s = max(ASK_S, settings.startup_wait_s)
    deadline = time.monotonic() + patience_s

    def unread(_: str, error: KafkaError | None) -> WalletError:
        what = f"return the pipeline record in {topic} to group {group}"
        return unanswered(what, error or KafkaError(KafkaError._TIMED_OUT), patience_s)

    # A broker holds back an empty answer, which signals the end, for this long.
    reader = standalone(settings, group, fetch_wait_max_ms=10)
    newest: bytes | None = None
    try:
        begin, end = ask_again(
            lambda: watermarks(reader, topic, 0, ASK_S), KafkaException, ASK_PAUSE_S, patience_s, unless=lasts
        )
        for messages in read_to_ends(
            reader,
            0,
            {topic: begin},
            {topic: end},
            READ_RECORDS,
            max(ASK_S, deadline - time.monotonic()),
            failed=unread,
        ):
            for message in messages:
                if message.key() == KEY:  # the topic also holds the accepted schema ids of partitions
                    newest = message.value()
    except KafkaException as failure:
        raise unread(topic, failure.args[0]) from None
    finally:
        reader.close()
    return None if newest is None else Pipeline.from_json(newest)


def _text(error: KafkaException) -> str:
    first = error.args[0] if error.args else error
    return first.str() if isinstance(first, KafkaError) else str(first)
