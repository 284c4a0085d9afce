"""What `wallet verify` checks about the topics themselves: existence and settings."""

from confluent_kafka.admin import AdminClient

from audit.report import Difference, Differences
from config.errors import Refused
from config.settings import Settings
from topics.cluster import FoundTopic, describe, differences, input_bytes, specs
from topics.names import Topics


def check_topics(client: AdminClient, settings: Settings, told: Differences) -> dict[str, FoundTopic]:
    """Refuse missing topics; report settings that were changed by hand as differences."""
    topics = Topics.of(settings)
    found = describe(client, (*topics.partitioned, topics.pipeline))
    for spec in specs(settings, input_bytes(settings, found)):
        there = found.get(spec.name)
        if there is None or there.partitions != spec.partitions:
            raise Refused("; ".join(differences(spec, there)))
        for text in differences(spec, there):
            # The input may be on either time type: a history is loaded with its own times.
            if not text.startswith(f"{topics.transactions}: message.timestamp.type "):
                told.add(Difference(spec.name, "altered", detail=text))
    return found


def finite(found: dict[str, FoundTopic]) -> frozenset[str]:
    """Topics with finite retention, which `init` allows with a warning."""
    return frozenset(
        name
        for name, topic in found.items()
        if topic.config.get("retention.ms", "-1") != "-1" or topic.config.get("retention.bytes", "-1") != "-1"
    )
