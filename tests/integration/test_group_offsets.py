"""The offsets of a group while a transaction holds one open."""

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from config.errors import NotReachable
from config.settings import Settings
from tests.integration.pipelines import make_topics
from topics import group_offsets
from topics.clients import librdkafka
from topics.names import Topics

pytestmark = pytest.mark.integration

ASK_S = 1.0


def test_an_offset_that_stays_open_is_told_as_what_it_is(
    kafka_only_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = kafka_only_settings.model_copy(update={"transaction_timeout_s": 1.0})
    topic = Topics.of(settings).transactions
    make_topics(settings)
    producer = Producer(librdkafka(settings, transactional_id=f"{settings.prefix}-holder"))
    producer.init_transactions(30)
    member = Consumer(librdkafka(settings, group_id=settings.group))
    try:
        for offset in (3, 5):
            producer.begin_transaction()
            producer.send_offsets_to_transaction(
                [TopicPartition(topic, 1, offset)], member.consumer_group_metadata(), 30
            )
            if offset == 3:
                producer.commit_transaction(30)
        with monkeypatch.context() as hurried:
            hurried.setattr(group_offsets, "ASK_S", ASK_S)
            with pytest.raises(
                NotReachable, match=f"transaction holds the offsets of group {settings.group} open"
            ):
                group_offsets.offsets(settings, topic, [1])
        assert group_offsets.offsets(settings, topic, [1], wait=False) == {1: 3}
        producer.commit_transaction(30)
        assert group_offsets.offsets(settings, topic, [0, 1]) == {0: None, 1: 5}
    finally:
        member.close()
