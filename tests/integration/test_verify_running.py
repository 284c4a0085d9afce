"""`wallet verify` beside a pipeline that runs, and beside one whose worker died: no false alarm."""

import threading
from contextlib import closing
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from config.settings import Settings
from operations.verify.cut import cuts
from tests.integration.pipelines import Rig, small
from tests.integration.verify_copies import told, verified
from topics.clients import librdkafka
from topics.cluster import quiet_admin
from topics.names import Topics

pytestmark = pytest.mark.integration


def test_what_is_in_flight_is_no_difference(kafka_only_settings: Settings, tmp_path: Path) -> None:
    settings = small(kafka_only_settings, transaction_timeout_s=5.0)
    with Rig(settings, tmp_path) as rig:
        worker = rig.start()
        with rig.flowing(rate=400):
            rig.wait_until_further(200)
            compared = [0]
            for _ in range(3):
                report = verified(settings, postgres=False)
                assert told(report) == []
                compared.append(sum(one.records for one in report.covered))
            assert compared == sorted(set(compared)), "each audit goes further than the one before"
            rig.kill_in_mid_batch(worker)
            # What the dead worker left open is waited for until Kafka ends it.
            assert told(verified(settings, postgres=False)) == []
            rig.start()
            rig.wait_until_further(200)
        rig.wait_until_posted()
        report = verified(settings, postgres=False)
    assert told(report) == []
    assert all(one.in_flight == 0 for one in report.covered)
    assert sum(one.records for one in report.covered) == sum(rig.upstream.next_offsets.values())


def test_a_batch_whose_offset_is_still_being_committed_is_waited_for(rig: Rig) -> None:
    """Between the first and the last marker of a transaction, entries are there and the offset is not."""
    settings = rig.settings
    source = Topics.of(settings).transactions
    rig.send(100)
    rig.set_committed({0: 1})
    producer = Producer(librdkafka(settings, transactional_id="half-way"))
    producer.init_transactions()
    producer.begin_transaction()
    with closing(Consumer(librdkafka(settings, group_id=settings.group))) as consumer:
        group = consumer.consumer_group_metadata()
        producer.send_offsets_to_transaction([TopicPartition(source, 0, 1)], group)
    # Where the question is slow to come, it is answered at once; where it does not wait, the answer is wrong.
    commit = threading.Timer(1.0, producer.commit_transaction)
    commit.start()
    (cut,) = cuts(settings, quiet_admin(settings), [0])
    commit.join()
    assert cut.committed == 1


@pytest.mark.full
def test_a_point_saved_while_the_pipeline_runs_is_gone_on_from(
    kafka_only_settings: Settings, tmp_path: Path
) -> None:
    settings, point = small(kafka_only_settings), tmp_path / "point"
    with Rig(settings, tmp_path) as rig:
        rig.start()
        with rig.flowing(rate=400):
            rig.wait_until_further(200)
            first = verified(settings, postgres=False, save=point)
            rig.wait_until_further(200)
            second = verified(settings, postgres=False, since=point, save=point)
        rig.wait_until_posted()
        third = verified(settings, postgres=False, since=point)
    for report in (first, second, third):
        assert told(report) == []
    records = [sum(one.records for one in report.covered) for report in (first, second, third)]
    assert min(records) > 0
    assert sum(records) == sum(rig.upstream.next_offsets.values())
