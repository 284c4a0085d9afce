"""Run a worker: what `wallet worker` does, from the first check of the cluster to the last partition."""

import asyncio
import ctypes
import signal
import sys
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from config.logs import EventLog
from config.settings import Settings
from schemas import native
from schemas.registry import Writers, schema_ids
from streams.endings import Stuck
from streams.faust.app import LedgerApp, create_app
from streams.folder import numbered_folder
from streams.parts import WriterParts
from streams.store import StoreMemory
from streams.vitals import Vitals
from topics import rights
from topics.clients import member, standalone
from topics.cluster import check, identity, quiet_admin
from topics.names import Topics
from vitals.collecting import few_collections
from vitals.ending import END_S, end_now, end_within, ended_by
from vitals.health import observed

log = EventLog("streams.worker")

#: How long a batch in hand may take to end. If it waits longer for Kafka, it is rolled back; the next owner posts it.
CLOSE_S = 20.0
#: Leaving the group takes milliseconds; if it takes longer than this, it hangs.
STOP_S = 5.0
#: Python's thread switch interval: four times the default, since each switch costs the caches.
SWITCH_S = 0.02
#: The number of glibc's option for it, and from which size on a buffer is a mapping of its own.
M_MMAP_THRESHOLD, LARGE_BYTES = -3, 512 * 1024


def run(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT and return the exit code.

    Raises a WalletError that says in one line why the worker ended itself.
    """
    pipeline = check(settings)
    settings = pipeline.rule(settings)
    topics = Topics.of(settings)
    rights.require(settings, _needed(settings, topics), {settings.group: rights.READ})
    cluster, ledger_topic_id = identity(quiet_admin(settings), topics.ledger)
    group_consumer = member(settings, settings.group)
    uncommitted = standalone(settings, settings.group, isolation_level="read_uncommitted")
    sys.setswitchinterval(SWITCH_S)
    give_buffers_back()
    stopping, rebalancing = threading.Event(), threading.Event()
    with numbered_folder(settings.state_dir) as folder:
        parts = WriterParts(
            settings=settings,
            topics=topics,
            pipeline=pipeline,
            writers=Writers(settings, stopping, rebalancing),
            stopping=stopping,
            rebalancing=rebalancing,
            ids=schema_ids(settings),
            memory=StoreMemory(settings.store_memory_mb),
            folder=folder,
            cluster=cluster,
            ledger_topic_id=ledger_topic_id,
            group_consumer=group_consumer,
            uncommitted=uncommitted,
            working=threading.Semaphore(settings.batch_threads),
        )
        try:
            with few_collections():
                return asyncio.run(_run(parts))
        finally:
            group_consumer.close()
            uncommitted.close()


def _needed(settings: Settings, topics: Topics) -> rights.Needed:
    both = rights.READ | rights.WRITE
    # With a registry, the accepted ids are written to the pipeline topic.
    own = {topics.transactions: rights.READ, topics.pipeline: both if settings.registry else rights.READ}
    return own | dict.fromkeys(topics.partitioned[1:], both)


def give_buffers_back() -> None:
    """Have the C library return large freed buffers to the system at once.

    By itself glibc raises its bound to the size of the first one that is freed, 16 MB of a fetch, and then keeps what
    is smaller: a few hundred megabytes after a long backlog. Other libraries have no such bound.
    """
    with suppress(AttributeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)


async def _run(parts: WriterParts) -> int:
    app = create_app(parts)
    app.in_worker = True
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals: list[int] = []

    def told_to_stop(number: int) -> None:
        signals.append(number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told_to_stop, number)
    compiled = native.post is not None
    log.info("starting", prefix=parts.settings.prefix, folder=parts.folder, compiled=compiled)
    # Watched to the end: the reason is logged first, and its port closes last.
    with observed(parts.settings, Vitals(app.manager)):
        await _until_stopped(app, stop)
        await _end(app, ended_by(signals))
    if app.partitions.failure is not None:
        raise app.partitions.failure
    log.info("stopped", prefix=parts.settings.prefix)
    return ended_by(signals)


async def _until_stopped(app: LedgerApp, stop: asyncio.Event) -> None:
    """Return when a signal came, a writer failed, or the app crashed or did not start; `partitions` knows why."""
    starting = asyncio.create_task(app.start())
    ends = [asyncio.create_task(end) for end in (stop.wait(), _failed(app))]
    await asyncio.wait([starting, *ends], return_when=asyncio.FIRST_COMPLETED)
    if starting.done() and not starting.cancelled():
        if (failure := starting.exception()) is not None:
            app.partitions.fail(app.crash_reason or failure)
            return
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)


async def _failed(app: LedgerApp) -> None:
    while app.partitions.failure is None and not app.crashed:  # noqa: ASYNC110 - Faust keeps its event to itself
        await asyncio.sleep(0.1)
    if app.crash_reason is not None:
        app.partitions.fail(app.crash_reason)


async def _end(app: LedgerApp, code: int) -> None:
    """Close everything, in bounded time."""
    partitions = app.partitions
    end_within(END_S, lambda: partitions.failure, code)
    if isinstance(partitions.failure, Stuck):
        end_now(partitions.failure)
    # 1. Finish batches in hand, close writers. 2. Leave the group, so that the partitions move at once.
    if not await _ended_within(app.manager.close(), CLOSE_S):
        partitions.fail(Stuck(f"a batch in hand did not end within {CLOSE_S:g} s: start again"))
        end_now(partitions.failure)
    if not await _ended_within(app.stop(), STOP_S):
        log.warning("stop_hangs", after_s=STOP_S, consequence="the group notices after the session time-out")
        end_now(partitions.failure, code)


async def _ended_within(ending: Coroutine[Any, Any, None], bound_s: float) -> bool:
    """Whether it ended in time; an error in it is logged and does not keep the process alive.

    Faust's stop hangs if it comes while Faust joins a group.
    """
    task = asyncio.create_task(ending)
    done, _ = await asyncio.wait([task], timeout=bound_s)
    if done and (failure := task.exception()) is not None:
        log.failure("ended_badly", failure)
    return bool(done)
