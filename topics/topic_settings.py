"""Change settings of existing topics."""

from collections.abc import Mapping

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

from config.asking import in_time
from config.errors import NotReachable, Refused
from topics.causes import because
from topics.cluster import ASK_S, answered, describe


def alter(client: AdminClient, topic: str, wanted: Mapping[str, str]) -> None:
    """Change some of a topic's settings; returns when the broker shows the new values.

    Raises Refused if it declines them, NotReachable if it does not show them in time.
    """
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    for name, value in wanted.items():
        entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        resource.add_incremental_config(entry)
    try:
        for answer in client.incremental_alter_configs([resource], request_timeout=ASK_S).values():
            answered(answer)
    except KafkaException as failure:
        error: KafkaError = failure.args[0]
        raise because(
            error, Refused(f"Kafka did not change the settings of {topic}: {error.str()}")
        ) from None

    def shown() -> bool:
        there = describe(client, [topic]).get(topic)
        return there is not None and wanted.items() <= there.config.items()

    if not in_time(shown, 0.05, ASK_S):
        raise NotReachable(
            f"Kafka does not show the new settings of {topic}: check the broker and run this again"
        )
