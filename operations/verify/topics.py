"""What `wallet verify` asks Kafka about the topics themselves: which they are, and how they are set."""

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from config.cluster import ASK_S, FoundTopic, answered, describe, differences, input_bytes, specs
from config.errors import NotReachable, Refused
from config.settings import Settings
from config.topics import Topics
from operations.verify.report import Difference, Differences


def check_topics(client: AdminClient, settings: Settings, told: Differences) -> dict[str, FoundTopic]:
    """Topics that lack are refused; settings that were changed by hand are differences."""
    topics = Topics.of(settings)
    found = describe(client, (*topics.partitioned, topics.pipeline))
    for spec in specs(settings, input_bytes(settings, found)):
        there = found.get(spec.name)
        if there is None or there.partitions != spec.partitions:
            raise Refused("; ".join(differences(spec, there)))
        for text in differences(spec, there):
            # A history is loaded with its own times, so the input may be on either.
            if not text.startswith(f"{topics.transactions}: message.timestamp.type "):
                told.add(Difference(spec.name, "altered", detail=text))
    return found


def finite(found: dict[str, FoundTopic]) -> frozenset[str]:
    """Topics that may lose their oldest records, as `init` allows and warns about."""
    return frozenset(
        name
        for name, topic in found.items()
        if topic.config.get("retention.ms", "-1") != "-1" or topic.config.get("retention.bytes", "-1") != "-1"
    )


def identity(client: AdminClient, topic: str) -> tuple[str, str]:
    """The ids of the cluster and of the input topic: what a verified point belongs to."""
    try:
        cluster = answered(client.describe_cluster(request_timeout=ASK_S)).cluster_id
        named = client.describe_topics(TopicCollection([topic]), request_timeout=ASK_S)
        return str(cluster), str(answered(named[topic]).topic_id)
    except KafkaException as failure:
        raise NotReachable(f"Kafka did not describe {topic}: {failure.args[0].str()}") from None
