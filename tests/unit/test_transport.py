"""Batches on their way from the thread that fetches to the agent, which takes one at a time of each partition."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from aiokafka.errors import ConsumerStoppedError
from faust.types import TP, ConsumerMessage

from streams.faust.aside import MOST_BYTES
from streams.faust.transport import PAUSE_S, Batch, Consumer, Paced
from topics.source import Source

HERE, THERE = TP("input", 0), TP("input", 1)
RECORD = Source(7, 0, b"alice", b"", ())


class Fetching:
    """In place of the thread: answers a batch of one partition, then nothing, and notes what was wanted."""

    def __init__(self) -> None:
        self.wanted: list[frozenset[TP]] = []
        self.then: list[Callable[[], None]] = []

    def epoch(self, _: TP) -> int:
        return 0

    def wake(self) -> None: ...

    def seek_before_next_fetch(self, _: TP, __: int) -> None: ...

    async def fetch(self, wanted: Callable[[], frozenset[TP]], _: int) -> dict[TP, Batch]:
        self.wanted.append(wanted())
        if len(self.wanted) == 1:
            return {HERE: Batch(0, [RECORD])}
        if not self.then:
            raise ConsumerStoppedError
        self.then.pop(0)()
        return {}


class Alone(Consumer):
    """Faust's consumer without an app around it; its writers are never busy."""

    should_stop = False
    flow_active = True

    def __init__(self, fetching: Fetching) -> None:
        conf = SimpleNamespace(broker_max_poll_records=500)
        self.app: Any = SimpleNamespace(conf=conf, consumer_generation_id=1, should_stop=True)
        self.transport: Any = SimpleNamespace(wants=lambda _: True)
        self._thread: Any = fetching
        self._active_partitions = {HERE, THERE}
        self.handed_on: list[TP] = []
        self.callback: Any = self._note

    async def _note(self, message: ConsumerMessage) -> None:
        self.handed_on.append(message.tp)

    def resume_partitions(self, _: Any) -> None: ...


def test_a_partition_is_not_fetched_from_until_its_batch_was_taken_or_a_seek_has_followed() -> None:
    fetching = Fetching()
    consumer = Alone(fetching)
    fetching.then = [lambda: consumer.taken(THERE), lambda: consumer.taken(HERE), lambda: None]
    fetcher: Any = SimpleNamespace(should_stop=False)
    asyncio.run(consumer._drain_messages(fetcher))
    assert consumer.handed_on == [HERE]
    both, other = frozenset({HERE, THERE}), frozenset({THERE})
    assert fetching.wanted == [both, other, other, both, both]

    again = Fetching()
    consumer = Alone(again)
    again.then = [lambda: consumer.start_from(HERE, 7)]
    asyncio.run(consumer._drain_messages(fetcher))
    assert again.wanted == [both, other, both]


def test_a_broker_is_asked_again_only_a_while_after_it_had_a_few_records() -> None:
    asked: list[tuple[int, float]] = []
    answers = iter([True, True, False, True, True])

    async def fetch(_: Any, broker: int, __: Any) -> bool:
        asked.append((broker, asyncio.get_running_loop().time()))
        return next(answers)

    async def play() -> bool:
        fetcher: Any = SimpleNamespace(_proc_fetch_request=fetch, _records={})
        paced = Paced(fetcher)
        for broker in (1, 2, 1):
            await paced(None, broker, None)
        fetcher._records[HERE] = SimpleNamespace(came_in_bytes=MOST_BYTES + 1)
        await paced(None, 1, None)
        assert paced._next_s.keys() == {1, 2}
        before = paced._next_s[1]
        await paced(None, 1, None)
        assert paced._next_s[1] == before
        paced._next_s[1] = asyncio.get_running_loop().time() + 60
        waits = asyncio.ensure_future(paced(None, 1, None))
        await asyncio.sleep(0)
        waits.cancel()
        return await waits

    assert asyncio.run(play()) is False
    assert [broker for broker, _ in asked] == [1, 2, 1, 1, 1]
    assert asked[2][1] - asked[0][1] >= PAUSE_S
