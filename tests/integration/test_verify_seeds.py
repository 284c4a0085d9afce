"""`wallet verify` finds nothing where nothing is wrong: nasty input of months, archived, some of it deleted."""

import random
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from confluent_kafka import Producer, TopicPartition

from config.settings import Settings
from operations.sending.generating import fitted
from operations.sending.generator import Mix, records
from operations.setup.init import initialise
from tests.effort import in_full
from tests.integration.archives import work
from tests.integration.tables import rows
from tests.integration.verify_copies import decide, verified, write_rows
from tests.ledgers import DAY_MS
from topics.clients import librdkafka
from topics.cluster import quiet_admin
from topics.names import TIMESTAMP_TYPE, Topics
from topics.topic_settings import alter

pytestmark = pytest.mark.integration

COUNT, PARTITIONS = 3_000, 3
HISTORY_DAYS = 250


@pytest.fixture
def pipeline(settings: Settings, seed: int) -> Settings:
    """One of each kind, by its seed: with a window of ids or none, overdrafts allowed or not."""
    changes = {
        "partitions": PARTITIONS,
        "snapshot_every": 4 + seed,
        "max_record_bytes": 2_048,
        "overdraft": "reject" if seed % 2 else "allow",
        "id_window_days": 20 if seed % 3 == 0 else None,
        "archive_after_days": 30,
    }
    return settings.model_copy(update=changes)


def send_history(settings: Settings, seed: int) -> None:
    """Everything that a stream can hold, over months, with steps back in time."""
    initialised = initialise(settings).pipeline
    topic, client = Topics.of(settings).transactions, quiet_admin(settings)
    alter(client, topic, {TIMESTAMP_TYPE: "CreateTime"})
    producer = Producer(librdkafka(settings, message_max_bytes=20_000_000))
    dice = random.Random(seed)
    now_ms = int(datetime.now(UTC).timestamp() * 1_000)
    mix = fitted(Mix(wallets=60, bad=0.1, duplicates=0.06, seed=seed), initialised)
    for at, one in enumerate(records(COUNT, replace(mix, transfers=0.3))):
        back_ms = (COUNT - at) * HISTORY_DAYS * DAY_MS // COUNT + dice.choice([0, 0, 0, 2 * DAY_MS])
        headers = [*one.headers, *([("trace", b"%d" % at)] if at % 9 == 0 else ())]
        producer.produce(
            topic, one.value, one.key, one.partition, timestamp=now_ms - back_ms, headers=headers
        )
        producer.poll(0)
    assert producer.flush(60) == 0


@pytest.mark.parametrize("seed", [1, *(in_full(seed) for seed in (0, *range(2, 10)))])
def test_nothing_is_found_where_nothing_is_wrong(pipeline: Settings, seed: int, tmp_path: Path) -> None:
    send_history(pipeline, seed)
    decide(pipeline, tmp_path, COUNT)
    write_rows(pipeline)
    names, client = Topics.of(pipeline), quiet_admin(pipeline)
    alter(client, names.transactions, {TIMESTAMP_TYPE: "LogAppendTime"})
    assert verified(pipeline).clean
    work(pipeline)
    assert rows(pipeline, "SELECT count(*) > 3 FROM archive_seals") == [(True,)]
    report = verified(pipeline, jobs=2)
    assert report.clean, report.differences.shown
    assert report.rows["transactions"] == sum(one.entries for one in report.covered)
    # A finite retention takes the first records of what was derived.
    for topic, keeps_from in ((names.ledger, 300), (names.rejections, 40), (names.snapshots, 20)):
        alter(client, topic, {"retention.ms": str(3_650 * DAY_MS)})
        for answer in client.delete_records(
            [TopicPartition(topic, at, keeps_from) for at in (0, 2)]
        ).values():
            answer.result(30)
    report = verified(pipeline)
    assert report.clean, report.differences.shown
    assert sum(one.not_kept for one in report.covered) > 600
