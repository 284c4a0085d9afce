"""What is set aside of busy partitions, in aiokafka's own fetcher, whose answers are put in by hand."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest
from aiokafka.consumer.fetcher import Fetcher, FetchError
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.errors import CorruptRecordException, TopicAuthorizationFailedError
from aiokafka.structs import TopicPartition
from faust.types import TP

from streams.faust.aside import MOST_BYTES, MOST_RECORDS, Aside
from tests.unit.test_inflation import batch
from topics.fetching import FetchResult, SourceRecords
from topics.inflation import Batches, Bounds

FREE, BUSY = TP("input", 0), TP("input", 1)
NOTHING = frozenset[TP]()
T = TypeVar("T")


class Answered(Fetcher):  # type: ignore[misc] # aiokafka has no types
    """aiokafka's fetcher, which asks nobody: `came` is what a broker answers."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._subscriptions = SubscriptionState()
        self._subscriptions.assign_from_user({TopicPartition(*FREE), TopicPartition(*BUSY)})
        self._records: OrderedDict[TP, Any] = OrderedDict()
        self._wait_consume_future = None
        self._closed = False
        self.next = {FREE: 0, BUSY: 0}
        for tp in self.next:
            self._state(tp).reset_to(0)

    def _state(self, tp: TP) -> Any:
        return self._subscriptions.subscription.assignment.state_value(TopicPartition(*tp))

    def came(self, tp: TP, count: int, value: bytes = b"v") -> None:
        """The next records of a partition, for which there is room."""
        assert tp not in self._records, "not asked for"
        sent = batch([(b"k", value, [])] * count, base=self.next[tp])
        records = SourceRecords(
            TopicPartition(*tp), Batches(sent), [], self.next[tp], None, self._bounds, True, 1
        )
        self._records[tp] = FetchResult(
            tp,
            partition_records=records,
            assignment=self._subscriptions.subscription.assignment,
            backoff=0.1,
        )
        self.next[tp] += count

    def came_damaged(self, tp: TP) -> None:
        """Records whose checksum is another's."""
        self.came(tp, 2)
        sent = bytearray(self._records[tp]._partition_records._records._fetched)
        sent[-2] ^= 1
        self._records[tp]._partition_records = SourceRecords(
            TopicPartition(*tp), Batches(bytes(sent)), [], 0, None, self._bounds, True, 1
        )

    def refuses(self, tp: TP) -> None:
        """The broker does not let us read."""
        self._records[tp] = FetchError(error=TopicAuthorizationFailedError(tp.topic), backoff=0.1)


def in_loop(play: Callable[[Answered, Aside], Awaitable[T]]) -> T:
    async def run() -> T:
        bounds = Bounds(1 << 22, 1 << 20)
        return await play(Answered(bounds), Aside(bounds))

    return asyncio.run(run())


async def offsets(aside: Aside, fetcher: Answered, *partitions: TP, most: int = 8_000) -> dict[TP, list[int]]:
    taken = await aside.take(fetcher, frozenset(partitions), most)
    return {tp: [record.offset for record in records] for tp, records in taken.items()}


def test_a_busy_partition_is_asked_for_more_and_gets_all_of_it_in_order() -> None:
    async def play(fetcher: Answered, aside: Aside) -> dict[TP, list[int]]:
        for count in (3, 2):
            fetcher.came(BUSY, count)
            await aside.fill(fetcher, frozenset({FREE}), 8_000)
        fetcher.came(BUSY, 2)
        return await offsets(aside, fetcher, FREE, BUSY)

    assert in_loop(play) == {BUSY: [0, 1, 2, 3, 4, 5, 6]}


def test_what_was_set_aside_counts_for_the_most_that_may_be_taken() -> None:
    async def play(fetcher: Answered, aside: Aside) -> list[dict[TP, list[int]]]:
        fetcher.came(BUSY, 3)
        await aside.fill(fetcher, NOTHING, 4)
        fetcher.came(BUSY, 3)
        await aside.fill(fetcher, NOTHING, 4)
        return [await offsets(aside, fetcher, BUSY, most=4) for _ in range(2)]

    assert in_loop(play) == [{BUSY: [0, 1, 2, 3]}, {BUSY: [4, 5]}]


def test_a_fetch_that_fails_loses_nothing_that_was_set_aside() -> None:
    async def play(fetcher: Answered, aside: Aside) -> dict[TP, list[int]]:
        fetcher.came(BUSY, 3)
        await aside.fill(fetcher, NOTHING, 8_000)
        fetcher.refuses(FREE)
        taken = await offsets(aside, fetcher, FREE, BUSY)
        with pytest.raises(TopicAuthorizationFailedError):
            await aside.take(fetcher, frozenset({FREE, BUSY}), 8_000)
        return taken

    assert in_loop(play) == {BUSY: [0, 1, 2]}


@pytest.mark.parametrize("damage", [Answered.refuses, Answered.came_damaged])
def test_a_partition_that_cannot_be_read_loses_nothing_of_another(
    damage: Callable[[Answered, TP], None],
) -> None:
    """aiokafka has taken the first one's records, and moved its position, when the second one fails."""

    async def play(fetcher: Answered, aside: Aside) -> dict[TP, list[int]]:
        fetcher.came(FREE, 3)
        damage(fetcher, BUSY)
        taken = await offsets(aside, fetcher, FREE, BUSY)
        fetcher.came(FREE, 2)
        with pytest.raises((TopicAuthorizationFailedError, CorruptRecordException)):
            await aside.take(fetcher, frozenset({FREE, BUSY}), 8_000)
        return taken

    assert in_loop(play) == {FREE: [0, 1, 2]}


def test_much_is_left_where_it_is_and_no_more_is_set_aside_than_may_be() -> None:
    async def play(fetcher: Answered, aside: Aside) -> tuple[bool, dict[TP, list[int]]]:
        fetcher.came(FREE, 3, bytes(MOST_BYTES))
        fetcher.came(BUSY, MOST_RECORDS + 100)
        await aside.fill(fetcher, NOTHING, 8_000)
        await aside.fill(fetcher, NOTHING, 8_000)
        untouched = fetcher._state(FREE).position == 0
        return untouched, await offsets(aside, fetcher, FREE, BUSY)

    untouched, taken = in_loop(play)
    assert untouched
    assert taken == {FREE: [0, 1, 2], BUSY: [*range(MOST_RECORDS + 100)]}


def test_what_was_set_aside_is_forgotten_when_the_partition_is_read_from_elsewhere() -> None:
    async def play(fetcher: Answered, aside: Aside) -> dict[TP, list[int]]:
        fetcher.came(BUSY, 3)
        await aside.fill(fetcher, NOTHING, 8_000)
        aside.forget(BUSY)
        return await offsets(aside, fetcher, BUSY)

    assert in_loop(play) == {}


def test_nothing_is_taken_for_nobody() -> None:
    async def play(fetcher: Answered, aside: Aside) -> dict[TP, list[int]]:
        fetcher.came(FREE, 3)
        return await offsets(aside, fetcher)

    assert in_loop(play) == {}
