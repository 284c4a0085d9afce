"""The offsets of a consumer group, stable: one that a transaction is still changing is waited for.

Without that, a batch could be seen half: its records, but not the offset up to which they go.
"""

import time
from collections.abc import Sequence

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from config.cluster import ASK_S, answered, passes
from config.errors import NotReachable
from config.settings import Settings

ASK_PAUSE_S = 0.1


def committed(
    settings: Settings,
    client: AdminClient,
    topic: str,
    partitions: Sequence[int],
    group: str | None = None,
    *,
    wait: bool = True,
) -> dict[int, TopicPartition]:
    """What a group, the worker's unless named, committed for partitions of a topic; below 0 where it did not.

    `wait=False`: as it is, for a look that need not agree with anything else. Raises NotReachable.
    """
    group = group or settings.group
    found: dict[int, TopicPartition] = {}
    # A dead worker's transaction is open until Kafka ends it.
    deadline = time.monotonic() + ASK_S + (settings.transaction_timeout_s if wait else 0.0)
    while missing := [TopicPartition(topic, at) for at in partitions if at not in found]:
        error = None
        try:
            asked = ConsumerGroupTopicPartitions(group, missing)
            answers = client.list_consumer_group_offsets([asked], require_stable=wait, request_timeout=ASK_S)
            for one in answered(answers[group]).topic_partitions:
                error = error or one.error
                if one.error is None:
                    found[one.partition] = one
        except KafkaException as failure:
            error = failure.args[0]
        if error is None and len(found) == len(partitions):
            break
        if (error and not passes(error)) or time.monotonic() > deadline:
            reason = error.str() if error else "not of every partition"
            raise NotReachable(f"Kafka did not tell the offsets of group {group}: {reason}")
        time.sleep(ASK_PAUSE_S)
    return {at: found[at] for at in partitions}  # in their order, not in that of the answers


def offsets(
    settings: Settings, client: AdminClient, topic: str, partitions: Sequence[int], *, wait: bool = True
) -> dict[int, int | None]:
    """The same for the worker's group, as offsets; None where it did not commit any."""
    found = committed(settings, client, topic, partitions, wait=wait)
    return {at: one.offset if one.offset >= 0 else None for at, one in found.items()}
