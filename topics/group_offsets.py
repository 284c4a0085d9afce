"""The stable offsets of a consumer group: waits for transactions that are still changing them.

Otherwise one could see half of a batch: its records, but not their offset. A consumer that never joins asks for them:
an admin client may crash with SIGSEGV while a coordinator moves (librdkafka issue 5040).
"""

from collections.abc import Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import MemberDescription

from config.asking import ask_again
from config.errors import NotReachable
from config.settings import Settings
from topics import rights
from topics.causes import lasts, unanswered
from topics.clients import standalone
from topics.cluster import ASK_PAUSE_S, ASK_S, describe_group
from topics.names import Topics


def committed(
    settings: Settings,
    topic: str,
    partitions: Sequence[int],
    group: str | None = None,
    *,
    wait: bool = True,
    patience_s: float | None = None,
) -> dict[int, TopicPartition]:
    """What a group (default: the worker's) has committed for partitions of a topic; below 0 if nothing.

    `wait=False` returns offsets as they are, for a look that need not be consistent. A dead worker's transaction is
    open until Kafka ends it; we wait that long, or `patience_s` if that is shorter. Raises NotReachable.
    """
    group = group or settings.group
    asked = [TopicPartition(topic, at) for at in partitions]
    if not wait:
        return _ask(settings, group, asked, "read_uncommitted", ASK_S)
    try:
        patience_s = ASK_S + settings.transaction_timeout_s if patience_s is None else patience_s
        return _ask(settings, group, asked, "read_committed", patience_s)
    except NotReachable:
        # Kafka's answer is a time-out in both cases: the coordinator is away, or an offset is open.
        _ask(settings, group, asked, "read_uncommitted", ASK_S)
    raise NotReachable(
        f"a transaction holds the offsets of group {group} open: run it again in a minute; if that does not help, end "
        "the transaction (`kafka-transactions.sh find-hanging`, for the topic __consumer_offsets)"
    )


def members(settings: Settings, group: str) -> list[MemberDescription]:
    """The current members of a group; raises NotReachable if Kafka does not answer."""
    try:
        return [*describe_group(settings, group).members]
    except KafkaException as error:
        raise unanswered(f"describe group {group}", error.args[0], ASK_S) from None


def _ask(
    settings: Settings, group: str, asked: list[TopicPartition], level: str, patience_s: float
) -> dict[int, TopicPartition]:
    reader = standalone(settings, group, log_level=0, isolation_level=level)
    try:
        return ask_again(
            lambda: asked_by(reader, asked), KafkaException, ASK_PAUSE_S, patience_s, unless=lasts
        )
    except KafkaException as failure:
        error: KafkaError = failure.args[0]
        # A missing right is not reported either: librdkafka keeps looking for the coordinator.
        rights.require(settings, {}, {group: rights.DESCRIBE})
        raise unanswered(f"return the offsets of group {group}", error, patience_s) from None
    finally:
        reader.close()


def asked_by(
    reader: Consumer, asked: Sequence[TopicPartition], wait_s: float = ASK_S
) -> dict[int, TopicPartition]:
    """What a consumer's group has committed for these partitions of one topic, asked once; below 0 if nothing.

    A read-committed consumer waits for open transactions. Raises KafkaException, also for a single partition's error.
    """
    found = reader.committed([*asked], wait_s)
    for one in found:
        if one.error is not None:
            raise KafkaException(one.error)
    return {one.partition: one for one in found}


def offsets(
    settings: Settings,
    topic: str,
    partitions: Sequence[int],
    *,
    wait: bool = True,
    patience_s: float | None = None,
) -> dict[int, int | None]:
    """The same for the worker's group, as offsets; None if it has not committed any."""
    found = committed(settings, topic, partitions, wait=wait, patience_s=patience_s)
    return {at: one.offset if one.offset >= 0 else None for at, one in found.items()}


def handled(settings: Settings) -> int:
    """How many offsets of the input the workers have committed, all partitions together, as it is now."""
    found = offsets(settings, Topics.of(settings).transactions, range(settings.partitions), wait=False)
    return sum(at or 0 for at in found.values())
