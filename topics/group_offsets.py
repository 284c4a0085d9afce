"""The offsets of a consumer group, stable: one that a transaction is still changing is waited for.

Without that, a batch could be seen half: its records, but not the offset up to which they go. Asked by a consumer that
never joins: an admin client that asks may end its program by SIGSEGV while a coordinator moves (librdkafka issue 5040).
"""

import time
from collections.abc import Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ConsumerGroupDescription, MemberDescription

from config.errors import NotReachable
from config.settings import Settings
from topics import rights
from topics.causes import because
from topics.clients import looking
from topics.cluster import ASK_S, answered, passes, quiet_admin

ASK_PAUSE_S = 0.1


def committed(
    settings: Settings,
    topic: str,
    partitions: Sequence[int],
    group: str | None = None,
    *,
    wait: bool = True,
    patience_s: float | None = None,
) -> dict[int, TopicPartition]:
    """What a group, the worker's unless named, committed for partitions of a topic; below 0 where it did not.

    `wait=False`: as it is, for a look that need not agree with anything else. A dead worker's transaction is open
    until Kafka ends it, and so long it is waited for, unless `patience_s` says less. Raises NotReachable.
    """
    group = group or settings.group
    asked = [TopicPartition(topic, at) for at in partitions]
    if not wait:
        return _told(settings, group, asked, "read_uncommitted", ASK_S)
    try:
        patience_s = ASK_S + settings.transaction_timeout_s if patience_s is None else patience_s
        return _told(settings, group, asked, "read_committed", patience_s)
    except NotReachable:
        # Kafka's answer is the same whether the coordinator is away or an offset is open: a time-out.
        _told(settings, group, asked, "read_uncommitted", ASK_S)
    raise NotReachable(
        f"a transaction holds the offsets of group {group} open: run it again in a minute; if it says so still, end "
        "the transaction (`kafka-transactions.sh find-hanging`, for the topic __consumer_offsets)"
    )


def members(client: AdminClient, group: str) -> list[MemberDescription]:
    """Who has joined a group now; raises NotReachable where Kafka does not tell."""
    try:
        answer: ConsumerGroupDescription = answered(client.describe_consumer_groups([group])[group])
    except KafkaException as error:
        raise NotReachable(f"Kafka did not describe group {group}: {error.args[0].str()}") from None
    return [*answer.members]


def _told(
    settings: Settings, group: str, asked: list[TopicPartition], level: str, patience_s: float
) -> dict[int, TopicPartition]:
    reader = Consumer(looking(settings, group, isolation_level=level) | {"log_level": 0})
    try:
        deadline = time.monotonic() + patience_s
        while True:
            try:
                return _asked(reader, asked)
            except KafkaException as failure:
                error: KafkaError = failure.args[0]
            if not passes(error) or time.monotonic() > deadline:
                # Who lacks the right to ask is not told so either: librdkafka looks for the coordinator on and on.
                rights.require(quiet_admin(settings), {}, {group: rights.DESCRIBE})
                raise because(
                    error, NotReachable(f"Kafka did not tell the offsets of group {group}: {error.str()}")
                )
            time.sleep(ASK_PAUSE_S)
    finally:
        reader.close()


def _asked(reader: Consumer, asked: list[TopicPartition]) -> dict[int, TopicPartition]:
    found = reader.committed(asked, ASK_S)
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
    """The same for the worker's group, as offsets; None where it did not commit any."""
    found = committed(settings, topic, partitions, wait=wait, patience_s=patience_s)
    return {at: one.offset if one.offset >= 0 else None for at, one in found.items()}
