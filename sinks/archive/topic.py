"""Kafka as the archive asks it: the ledger in bulk, and how far the workers are in the input."""

from collections.abc import Collection

from confluent_kafka import Consumer, KafkaException, TopicPartition

from config.errors import NotReachable
from config.settings import Settings
from topics.clients import librdkafka
from topics.cluster import ASK_S
from topics.topic_log import TopicLog


def topic_log(settings: Settings, topic: str) -> TopicLog:
    """A topic as the archive reads it."""
    return TopicLog(settings, topic, settings.sink_group("archive"))


def committed(settings: Settings, topic: str, partitions: Collection[int]) -> dict[int, int | None]:
    """The workers' offsets in the input; one that a transaction is still changing is waited for.

    None where there is none.
    """
    # It never joins: the group is the workers'.
    asker = Consumer(librdkafka(settings, group_id=settings.group, isolation_level="read_committed"))
    try:
        found = asker.committed([TopicPartition(topic, one) for one in partitions], ASK_S)
    except KafkaException as error:
        raise NotReachable(f"Kafka did not tell the workers' offsets: {error.args[0].str()}") from None
    finally:
        asker.close()
    if wrong := [one for one in found if one.error]:
        raise NotReachable(f"Kafka did not tell the workers' offsets: {wrong[0].error}")
    return {one.partition: one.offset if one.offset >= 0 else None for one in found}
