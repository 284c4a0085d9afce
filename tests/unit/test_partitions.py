"""When a partition's newest transaction is looked for, in case that Kafka has left it open."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from types import SimpleNamespace
from typing import Any

from faust.types import TP

from config.settings import Settings
from streams.partitions import Assigned, Partitions

QUIET_S = 0.05


def test_a_batch_that_is_posted_during_the_check_is_looked_back_at_too(plain_settings: Settings) -> None:
    asked, answer = Event(), Event()
    looks: list[int] = []

    def left_open() -> dict[str, int]:
        looks.append(writer.next_offset)
        asked.set()
        answer.wait(30)
        return {}

    writer: Any = SimpleNamespace(next_offset=1, left_open=left_open)
    settings = plain_settings.model_copy(update={"transaction_timeout_s": QUIET_S})
    parts: Any = SimpleNamespace(settings=settings)

    async def play() -> None:
        partitions = Partitions(parts)
        with ThreadPoolExecutor(1) as partitions._closing:
            one = Assigned(TP("input", 0), writer)
            one.posted_at_s = asyncio.get_running_loop().time()
            look = asyncio.create_task(partitions._look_back(one))
            await asyncio.to_thread(asked.wait, 30)
            writer.next_offset, one.posted_at_s = 2, asyncio.get_running_loop().time()
            answer.set()
            await asyncio.wait_for(look, 30)

    asyncio.run(play())
    assert looks == [1, 2]
