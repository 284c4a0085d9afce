"""The offsets of a consumer group, stable: one that a transaction is still changing is waited for.

Without that, a batch could be seen half: its records, but not the offset up to which they go.
"""

import time
from collections.abc import Sequence

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from config.cluster import ASK_S, answered
from config.errors import NotReachable
from config.settings import Settings

ASK_PAUSE_S = 0.1


def committed(
    settings: Settings, client: AdminClient, topic: str, partitions: Sequence[int], group: str | None = None
) -> dict[int, TopicPartition]:
    """What a group, the worker's unless named, committed for partitions of a topic; below 0 where it did not.

    Raises NotReachable.
    """
    group = group or settings.group
    found: dict[int, TopicPartition] = {}
    # A dead worker's transaction is open until Kafka ends it.
    deadline = time.monotonic() + settings.transaction_timeout_s + ASK_S
    while missing := [TopicPartition(topic, at) for at in partitions if at not in found]:
        error = None
        try:
            asked = ConsumerGroupTopicPartitions(group, missing)
            answers = client.list_consumer_group_offsets([asked], require_stable=True, request_timeout=ASK_S)
            for one in answered(answers[group]).topic_partitions:
                error = error or one.error
                if one.error is None:
                    found[one.partition] = one
        except KafkaException as failure:
            error = failure.args[0]
        if error is None:
            continue
        passing = error.retriable() or error.code() == KafkaError.UNSTABLE_OFFSET_COMMIT
        if not passing or time.monotonic() > deadline:
            raise NotReachable(f"Kafka did not tell the offsets of group {group}: {error.str()}")
        time.sleep(ASK_PAUSE_S)
    return {at: found[at] for at in partitions}  # in their order, not in that of the answers


def offsets(
    settings: Settings, client: AdminClient, topic: str, partitions: Sequence[int]
) -> dict[int, int | None]:
    """The same for the worker's group, as offsets; None where it did not commit any."""
    found = committed(settings, client, topic, partitions)
    return {at: one.offset if one.offset >= 0 else None for at, one in found.items()}
