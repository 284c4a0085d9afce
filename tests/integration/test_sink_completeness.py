"""How far in the input a sink's rows are while its own topic is silent: never further than is true."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime
from threading import Event

import pytest
from confluent_kafka import Producer

from config.settings import Settings
from operations.setup.init import Times, initialise
from schemas.records import from_ms
from sinks import postgres
from sinks.completeness import Completeness
from tests.ledgers import NOVEMBER_MS, ends
from topics.clients import librdkafka
from topics.incoming import Incoming
from topics.lag import Lag, TopicPart
from topics.names import Topics

pytestmark = pytest.mark.integration

EARLY, LATE, LATER, LATEST = (from_ms(NOVEMBER_MS + minutes * 60_000) for minutes in range(4))


class Stand:
    """Both sinks of a pipeline, as their positions say; there are no processes."""

    def __init__(self, settings: Settings, times: Times = "as they are") -> None:
        initialise(settings, times)
        self.settings, self.names = settings, Topics.of(settings)
        self.keeper = Completeness(settings, Event(), Incoming)
        self.own(ledger=(0, 1), rejections=(0, 1))

    def own(self, **sinks: tuple[int, ...]) -> None:
        """The partitions of this process."""
        for sink, partitions in sinks.items():
            self.keeper.reached(sink, dict.fromkeys(partitions, 0))

    def set(
        self, sink: str, partition: int, input_offset: int, at: datetime | None, next_offset: int = 0
    ) -> None:
        """A sink's position."""
        with postgres.connect(self.settings, postgres.WRITER) as writer:
            writer.execute(
                """
                INSERT INTO sink_positions (
                    sink, topic, partition, next_offset, high_offset, owner, input_offset, recorded_at
                ) VALUES (%s, %s, %s, %s, %s, 'me', %s, %s)
                ON CONFLICT (sink, topic, partition) DO UPDATE SET next_offset = excluded.next_offset,
                    high_offset = excluded.high_offset, input_offset = excluded.input_offset,
                    recorded_at = excluded.recorded_at
                """,
                [
                    sink,
                    f"{self.settings.prefix}.{sink}",
                    partition,
                    next_offset,
                    next_offset,
                    input_offset,
                    at,
                ],
            )

    def set_both(self, first: tuple[int, datetime], second: tuple[int, datetime]) -> None:
        """The position of both sinks in partition 0, and in 1."""
        for sink in ("ledger", "rejections"):
            for partition, (input_offset, at) in enumerate((first, second)):
                self.set(sink, partition, input_offset, at)

    def look(self) -> dict[tuple[str, int], tuple[int, datetime | None]]:
        """What the tables say after one look."""
        self.keeper.look()
        with postgres.connect(self.settings, postgres.READER) as reader:
            rows = reader.execute(
                "SELECT sink, partition, input_offset, recorded_at FROM sink_positions"
            ).fetchall()
        return {(sink, partition): (input_offset, at) for sink, partition, input_offset, at in rows}

    @contextmanager
    def transaction(self, topic: str) -> Iterator[Producer]:
        """A transaction with one record in partition 0 of a topic; open until the end of this."""
        producer = Producer(librdkafka(self.settings, transactional_id=f"{self.settings.prefix}-test"))
        producer.init_transactions(30)
        producer.begin_transaction()
        producer.produce(topic, b"value", b"key", 0)
        producer.flush(30)
        yield producer
        producer.commit_transaction(30)

    def send(self, partition: int, count: int) -> int:
        """Records in the input; returns its end."""
        producer = Producer(librdkafka(self.settings))
        for _ in range(count):
            producer.produce(self.names.transactions, b"value", b"key", partition)
        assert producer.flush(30) == 0
        return ends(self.settings, self.names.transactions)[partition]


Stands = Callable[..., Stand]


@pytest.fixture
def stands(settings: Settings) -> Iterator[Stands]:
    with ExitStack() as made:

        def stand(times: Times = "as they are") -> Stand:
            one = Stand(settings, times)
            made.callback(lambda: one.keeper.close())  # noqa: PLW0108 - the one it has then
            return one

        yield stand


def test_a_sink_of_a_silent_topic_follows_the_other(stands: Stands) -> None:
    stand = stands()
    stand.set("ledger", 0, 7, EARLY)
    assert stand.look() == {("ledger", 0): (7, EARLY)}
    stand.set("rejections", 0, 0, None)
    assert stand.look()["rejections", 0] == (7, EARLY)
    stand.set("rejections", 0, 9, LATE)
    assert stand.look()["ledger", 0] == (9, LATE)


def test_it_waits_for_an_open_transaction_and_for_the_record_before_it_is_written(stands: Stands) -> None:
    stand = stands()
    stand.set("rejections", 0, 5, EARLY)
    with stand.transaction(stand.names.rejections):
        # The ledger shows the entry of this very transaction already: Kafka marks its topics one after the other.
        stand.set("ledger", 0, 8, LATE)
        assert stand.look()["rejections", 0] == (5, EARLY)
    assert stand.look()["rejections", 0] == (5, EARLY)
    stand.set(
        "rejections", 0, 7, EARLY, next_offset=1
    )  # it is written; behind it is only the transaction's mark
    assert stand.look()["rejections", 0] == (8, LATE)


def test_it_looks_after_the_partitions_of_its_process_only(stands: Stands) -> None:
    stand = stands()
    stand.own(rejections=(1,))
    for partition in (0, 1):
        stand.set("ledger", partition, 7, LATE)
        stand.set("rejections", partition, 0, None)
    found = stand.look()
    assert [found["rejections", partition] for partition in (0, 1)] == [(0, None), (7, LATE)]


def test_a_position_that_went_back_meanwhile_is_left_as_it_is(stands: Stands) -> None:
    """The database was restored between the look at the tables and the answer of Kafka."""
    stand = stands()
    stand.set("ledger", 0, 7, LATE)
    stand.set("rejections", 0, 3, EARLY, next_offset=2)
    look = stand.keeper._lag.look

    def restored(positions: Mapping[TopicPart, int | None]) -> dict[TopicPart, Lag]:
        stand.set("rejections", 0, 2, EARLY, next_offset=1)
        return look(positions)

    stand.keeper._lag.look = restored  # type: ignore[method-assign]
    assert stand.look()["rejections", 0] == (2, EARLY)


@pytest.mark.parametrize(("records", "complete_to"), [(3, LATE), (4, EARLY)], ids=["all", "one to come"])
def test_a_partition_whose_input_is_decided_to_its_end_misses_nothing_recorded_before(
    stands: Stands, records: int, complete_to: datetime
) -> None:
    stand = stands()
    stand.set_both((4, LATE), (3, EARLY))
    assert stand.send(1, records) == records
    for sink in ("ledger", "rejections"):
        assert stand.look()[sink, 1] == (3, complete_to)


def test_marks_of_transactions_at_the_end_of_the_input_are_no_records_to_come(stands: Stands) -> None:
    stand = stands()
    stand.set_both((1, EARLY), (4, LATE))
    with stand.transaction(stand.names.transactions):
        assert stand.look()["ledger", 0] == (1, EARLY)
    assert ends(stand.settings, stand.names.transactions)[0] == 2
    assert stand.look()["ledger", 0] == (1, LATE)
    stand.set("ledger", 1, 5, LATER)
    assert stand.look()["ledger", 0] == (1, LATER)
    stand.set("ledger", 1, 6, LATEST)
    stand.send(0, 1)
    assert stand.look()["ledger", 0] == (1, LATER)


def test_while_a_history_is_loaded_the_records_to_come_may_be_older(stands: Stands) -> None:
    stand = stands("history")
    stand.set_both((4, LATE), (3, EARLY))
    stand.send(1, 3)
    assert stand.look()["ledger", 1] == (3, EARLY)
    initialise(stand.settings, "upstream")
    stand.keeper.close()
    stand.keeper = Completeness(stand.settings, Event(), Incoming)
    stand.own(ledger=(0, 1), rejections=(0, 1))
    assert stand.look()["ledger", 1] == (3, LATE)


def test_while_a_history_is_loaded_a_rejections_time_says_nothing_of_entries(stands: Stands) -> None:
    stand = stands("history")
    stand.set("ledger", 1, 3, EARLY)
    stand.set("rejections", 1, 5, LATE)
    assert stand.look()["ledger", 1] == (5, EARLY)
