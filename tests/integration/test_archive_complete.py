"""When a month counts as complete although a partition has nothing later: only when nothing of it can come."""

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition

from config.errors import Stopped
from config.settings import Settings
from tests.integration.archives import (
    FIRST,
    FIRST_MS,
    PARTITIONS,
    SECOND,
    SECOND_MS,
    pipeline_with,
    reasons,
    two_months,
    work,
)
from tests.integration.tables import change
from tests.ledgers import DAY_MS, LEDGER_FRAME, PATIENCE_S, Ledger, wait_until
from topics.clients import librdkafka
from topics.cluster import quiet_admin
from topics.names import Topics
from topics.topic_settings import alter

pytestmark = pytest.mark.integration


@pytest.fixture
def pipeline(settings: Settings) -> Settings:
    """Partition 1 has nothing after FIRST."""
    quiet = Ledger(1, FIRST_MS).post_many(20, step_ms=DAY_MS)
    return pipeline_with(settings, two_months(0), quiet)


def set_input_time(settings: Settings, kind: str) -> None:
    alter(quiet_admin(settings), Topics.of(settings).transactions, {"message.timestamp.type": kind})


def send(settings: Settings, at_ms: int = 0) -> None:
    producer = Producer(librdkafka(settings))
    producer.produce(Topics.of(settings).transactions, b"undecided", b"key", 1, timestamp=at_ms)
    assert producer.flush(PATIENCE_S) == 0


def commit(settings: Settings, offset: int) -> None:
    """As the workers do when they have decided all before it."""
    at = TopicPartition(Topics.of(settings).transactions, 1, offset)
    moved = ConsumerGroupTopicPartitions(settings.group, [at])
    client = quiet_admin(settings)
    for done in client.alter_consumer_group_offsets([moved]).values():
        done.result(PATIENCE_S)


def test_a_quiet_partition_is_complete_when_nothing_of_the_month_can_come(pipeline: Settings) -> None:
    names = Topics.of(pipeline)
    quiet = f"{names.ledger} partition 1 has no later record: "
    assert reasons(pipeline, FIRST) == []
    # Grace.
    (told,) = reasons(pipeline.model_copy(update={"archive_grace_s": 3e7}), FIRST)
    assert told.startswith(f"{quiet}the month ended less than WALLET_ARCHIVE_GRACE_S ago")
    # A history that is being imported: old dates may still come.
    set_input_time(pipeline, "CreateTime")
    wait_until(lambda: bool(reasons(pipeline, FIRST)), "the broker has the topic's new setting")
    assert reasons(pipeline, FIRST) == [
        (
            f"{quiet}the input {names.transactions} is open for history (CreateTime): "
            "run `wallet init --open` when all is sent"
        )
    ]
    # The import is over, yet workers have not decided its last record, which is of FIRST.
    for _ in range(21):
        send(pipeline, SECOND_MS - 1)
    send(pipeline, SECOND_MS)
    set_input_time(pipeline, "LogAppendTime")
    undecided = f"{quiet}offset {{0}} of {names.transactions} is undecided, the workers are at offset {{0}}"
    wait_until(lambda: "history" not in str(reasons(pipeline, FIRST)), "the setting is back")
    # Without a committed offset, the newest entry's source tells how far they are; a rejection's does, too.
    assert reasons(pipeline, FIRST) == [undecided.format(20)]
    change(pipeline, "INSERT INTO rejections VALUES (1, 20, 'INVALID', '', now(), null, null, '[]')")
    assert reasons(pipeline, FIRST) == [undecided.format(21)]
    commit(pipeline, 19)
    assert reasons(pipeline, FIRST) == [undecided.format(19)]
    # One of SECOND is left, but what follows it may be older: history has the dates that it came with.
    commit(pipeline, 21)
    assert reasons(pipeline, FIRST) == [undecided.format(21)]
    commit(pipeline, 22)
    assert reasons(pipeline, FIRST) == []
    # A record of today becomes no entry of FIRST.
    send(pipeline)
    assert reasons(pipeline, FIRST) == []
    # What a worker has written and not committed yet may be of FIRST.
    producer = Producer(librdkafka(pipeline) | {"transactional.id": f"{pipeline.prefix}-1"})
    producer.init_transactions(PATIENCE_S)
    producer.begin_transaction()
    late = Ledger(1, SECOND_MS - 1).post("late")
    producer.produce(names.ledger, LEDGER_FRAME + late.body, b"late", 1, timestamp=SECOND_MS - 1)
    assert producer.flush(PATIENCE_S) == 0
    assert reasons(pipeline, FIRST) == [f"{quiet}a transaction is open at offset 20"]
    producer.abort_transaction(PATIENCE_S)
    wait_until(lambda: reasons(pipeline, FIRST) == [], "what was aborted is no entry")
    # The sink must have read all of it; marks and what was aborted do not count.
    change(pipeline, "UPDATE sink_positions SET next_offset = 19 WHERE partition = 1")
    (told,) = reasons(pipeline, FIRST)
    assert told.startswith(f"{names.ledger} partition 1: the ledger sink is at offset 19, the month ends at")
    change(pipeline, "UPDATE sink_positions SET next_offset = 20 WHERE partition = 1")
    assert [one.month.first for one in work(pipeline)[0]] == [FIRST, SECOND]


def test_a_ledger_that_no_sink_has_read_is_told(pipeline: Settings) -> None:
    change(pipeline, "DELETE FROM sink_positions")
    assert len(reasons(pipeline, FIRST)) == PARTITIONS
    assert all("the ledger sink has never read it" in told for told in reasons(pipeline, FIRST))


def test_an_entry_that_is_not_one_stops_the_sealing_with_its_place(pipeline: Settings) -> None:
    producer = Producer(librdkafka(pipeline))
    producer.produce(Topics.of(pipeline).ledger, b"no entry", b"key", 1, timestamp=SECOND_MS - 1)
    assert producer.flush(PATIENCE_S) == 0
    change(pipeline, "UPDATE sink_positions SET next_offset = 21, high_offset = 21 WHERE partition = 1")
    with pytest.raises(Stopped, match=r"partition 1 offset 20 does not decode"):
        work(pipeline, FIRST)
