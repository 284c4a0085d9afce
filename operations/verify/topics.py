"""What `wallet verify` asks Kafka about the topics themselves: which they are, and how they are set."""

from confluent_kafka.admin import AdminClient

from audit.report import Difference, Differences
from config.errors import Refused
from config.settings import Settings
from topics.cluster import FoundTopic, describe, differences, input_bytes, specs
from topics.names import Topics


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
