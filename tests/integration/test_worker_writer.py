"""One partition's writer on a real Kafka, driven by hand: redelivery, roll-back, a fence between batches."""

from pathlib import Path

import pytest
from confluent_kafka import Producer

from config.errors import Stopped
from config.settings import Settings
from streams.endings import Aborted, Fenced
from streams.store import Cursor
from streams.transaction import PartitionProducer
from tests.integration.exactness import assert_exact, found
from tests.integration.pipelines import (
    PATIENCE_S,
    Upstream,
    as_record,
    initialise_topics,
    small,
    transaction,
    wait_until,
    wallets_of,
)
from tests.integration.writers import PARTITION, sent, set_message_bytes, store_of, stored, written_by
from topics.clients import librdkafka
from topics.names import Topics

pytestmark = pytest.mark.integration


@pytest.fixture
def settings_here(kafka_only_settings: Settings) -> Settings:
    settings = small(kafka_only_settings)
    initialise_topics(settings)
    return settings


def test_records_that_are_delivered_again_are_skipped_whatever_the_batches(settings_here: Settings) -> None:
    with written_by(settings_here) as writer:
        batch = sent(settings_here, 600)
        for begin, end in ((0, 200), (0, 200), (0, 0), (150, 320), (319, 321), (0, 600), (599, 600)):
            assert writer.post(batch[begin:end]) is None
            assert writer.next_offset == max(end, writer.next_offset)
        assert writer.next_offset == 600
    assert_exact(settings_here)


def test_a_batch_that_kafka_does_not_take_leaves_no_trace_and_the_next_writer_goes_on(
    settings_here: Settings,
) -> None:
    with written_by(settings_here) as writer:
        batch = sent(settings_here, 600)
        writer.post(batch[:200])
        cursor, store = store_of(writer).cursor, store_of(writer)
        ids = {one.key or b"" for one in batch}
        before = store.balances(ids)
        set_message_bytes(settings_here, 100)
        with pytest.raises(Stopped, match="rolled back twice in a row"):
            writer.post(batch[200:])
        assert store.cursor == cursor, "the store must not know of a batch that was rolled back"
        assert store.balances(ids) == before
        assert writer.next_offset == 200
        entries = found(settings_here, Topics.of(settings_here).ledger)
        set_message_bytes(settings_here, 2_000_000)
    with written_by(settings_here) as writer:
        assert writer.next_offset == 200
        assert found(settings_here, Topics.of(settings_here).ledger) == entries
        writer.post(batch)
    assert_exact(settings_here)


def test_a_writer_that_is_fenced_between_two_batches_writes_nothing_more(settings_here: Settings) -> None:
    with written_by(settings_here) as zombie:
        batch = sent(settings_here, 600)
        zombie.post(batch[:200])
        cursor = store_of(zombie).cursor
        settings_there = settings_here.model_copy(update={"state_dir": settings_here.state_dir / "there"})
        with written_by(settings_there) as successor:
            assert successor.next_offset == 200
            with pytest.raises(Fenced):
                zombie.post(batch[200:400])
            assert store_of(zombie).cursor == cursor
            successor.post(batch[200:])
    assert_exact(settings_here)


def test_a_writer_that_is_fenced_while_its_batch_is_on_its_way_says_so(
    settings_here: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # confluent-kafka calls the delivery reports with its error already in hand, and raises SystemError.
    def fenced_before(producer: PartitionProducer) -> None:
        other = Producer(librdkafka(settings_here, transactional_id=f"{settings_here.group}-{PARTITION}"))
        other.init_transactions(PATIENCE_S)
        begin(producer)

    begin = PartitionProducer._is_to_look_back
    with written_by(settings_here) as writer:
        batch = sent(settings_here, 400)
        monkeypatch.setattr(PartitionProducer, "_is_to_look_back", fenced_before)
        monkeypatch.setattr(PartitionProducer, "_send_offsets", lambda *_: None)
        with pytest.raises(Fenced):
            writer.post(batch)
    assert not any(found(settings_here, Topics.of(settings_here).ledger).values())


def test_what_another_committed_after_a_roll_back_is_not_posted_again(
    settings_here: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = settings_here.model_copy(update={"state_dir": tmp_path / "elsewhere"})
    with written_by(settings_here) as writer:
        batch = sent(settings_here, 300)
        writer.post(batch[:100])

        def rolled_back(*_: object) -> None:
            monkeypatch.undo()
            with written_by(elsewhere) as other:
                other.post(batch[100:200])
            raise Aborted("for this test")

        monkeypatch.setattr(PartitionProducer, "write", rolled_back)
        writer.post(batch[100:])
        assert writer.next_offset == 300
    assert_exact(settings_here)


def test_a_store_that_missed_a_committed_batch_catches_up_from_its_cursor(settings_here: Settings) -> None:
    """What a crash between the commit and the store leaves behind, made by another writer's batch."""
    with written_by(settings_here) as first:
        batch = sent(settings_here, 600)
        first.post(batch[:200])
    there = settings_here.model_copy(update={"state_dir": settings_here.state_dir / "there"})
    with written_by(there) as other:
        other.post(batch[200:400])
        wanted = store_of(other).cursor
    with written_by(settings_here) as again:
        assert store_of(again).cursor._replace(source=0) == wanted._replace(source=0)
        assert again.next_offset == 400
        again.post(batch)
    assert_exact(settings_here)


def test_a_stores_cursor_moves_with_every_batch_so_that_a_restart_reads_nothing_again(
    settings_here: Settings,
) -> None:
    with written_by(settings_here) as writer:
        batch = sent(settings_here, 400)
        topics = Topics.of(settings_here)
        for begin in (0, 200):
            writer.post(batch[begin : begin + 200])
            cursor = store_of(writer).cursor

            def moved(cursor: Cursor = cursor) -> bool:
                entries, balances = (
                    len(found(settings_here, topic)[PARTITION]) for topic in (topics.ledger, topics.balances)
                )
                # markers of transactions stand between the records, one for each batch
                return entries <= cursor.ledger <= entries + 2 and balances <= cursor.balances <= balances + 2

            # What is committed may be visible a moment later.
            wait_until(moved, "the cursor is at the ends of the topics")


def test_an_input_that_was_all_rejected_leaves_ledger_and_time_where_they_were(
    settings_here: Settings,
) -> None:
    with written_by(settings_here) as writer:
        name = next(wallets_of(PARTITION))
        Upstream(settings_here).send(as_record(transaction(at, name, amount=0)) for at in range(50))
        writer.post(stored(settings_here))
        assert store_of(writer).cursor == Cursor()
    with written_by(settings_here) as again:
        assert again.next_offset == 50
    assert_exact(settings_here)


def test_a_record_ahead_of_the_clock_ends_the_run_before_it(settings_here: Settings) -> None:
    with written_by(settings_here) as writer:
        name = next(wallets_of(PARTITION))
        Upstream(settings_here).send(as_record(transaction(at, name)) for at in range(3))
        good = stored(settings_here)
        ahead = good[1]._replace(timestamp_ms=good[1].timestamp_ms + 10**10)
        assert writer.post([good[0], ahead, good[2]]) == ahead
        assert writer.next_offset == 1
        assert writer.post(good) is None
    assert_exact(settings_here)
