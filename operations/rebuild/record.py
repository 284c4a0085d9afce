"""The record that makes a prefix a shadow: `<shadow>.rebuild`, one JSON record in a compacted topic.

It is written before anything else of a shadow and removed after everything else, so whatever exists under a prefix
without it is not ours to continue or remove.
"""

import json
from contextlib import closing
from dataclasses import asdict, dataclass

from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient

from config.errors import NotReachable, Refused
from config.settings import Settings
from operations.setup.init import create, settled
from topics.clients import librdkafka
from topics.cluster import describe, offsets_of
from topics.names import COMPACTED, TopicSpec
from topics.topic_log import TopicLog

FORMAT = 1
KEY = b"rebuild"
WRITE_S = 30.0


@dataclass(frozen=True)
class Record:
    """What a shadow belongs to: the live pipeline, its input topic with its id, and the shadow's own database.

    `policies` are the shadow's, by setting, so that you need not repeat them. `switched_at` is when it became the live
    one, ISO 8601; None until then.
    """

    live: str
    input: str
    input_id: str
    database: str
    policies: dict[str, object]
    started_at: str
    switched_at: str | None = None
    format: int = FORMAT


def topic_of(prefix: str) -> str:
    """The topic that holds the record."""
    return f"{prefix}.rebuild"


def read(settings: Settings, client: AdminClient) -> Record | None:
    """The record under these settings' prefix; None if there is no shadow."""
    topic = topic_of(settings.prefix)
    if topic not in describe(client, [topic]):
        return None
    found = offsets_of(client, [(topic, 0)])[topic, 0]
    with closing(TopicLog(settings, topic)) as log:
        newest = log.last_before(0, found.begin, found.end)
    if newest is None or (value := newest.value()) is None:
        return None
    fields = json.loads(value)
    if fields.get("format") != FORMAT:
        raise Refused(
            f"the record in {topic} has format {fields.get('format')!r}, this version reads {FORMAT}: upgrade"
        )
    return Record(**fields)


def write(settings: Settings, client: AdminClient, record: Record) -> None:
    """Write the record; creates its topic if needed."""
    topic = topic_of(settings.prefix)
    if topic not in describe(client, [topic]):
        create(client, [TopicSpec(topic, 1, dict(COMPACTED))], settings.replication)
        settled(client, (topic,))
    failed: list[str] = []
    producer = Producer(librdkafka(settings, acks="all", enable_idempotence=True))
    try:
        producer.produce(
            topic,
            json.dumps(asdict(record)).encode(),
            KEY,
            0,
            on_delivery=lambda error, _: failed.append(error.str()) if error else None,
        )
        left = producer.flush(WRITE_S)
    except KafkaException as error:
        raise NotReachable(
            f"cannot write the record in {topic}: {error.args[0].str()}; run it again"
        ) from None
    if left or failed:
        raise NotReachable(
            f"cannot write the record in {topic}: {failed[0] if failed else 'no answer'}; run it again"
        )
