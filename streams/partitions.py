"""Which partitions this worker writes, and what each is doing: opened, posting, held, fenced, let go.

A partition is read from only after its writer is open, and every resume includes a seek: `start_from`. Everything here
runs in the event loop; what blocks runs in threads.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from aiokafka.errors import KafkaError
from confluent_kafka import KafkaException
from faust.types import TP

from config.errors import Stopped, WalletError
from config.logs import EventLog
from streams.endings import Fenced, Interrupted, LeftOpen, Stuck, in_one_line
from streams.parts import WriterParts
from streams.standby import Standbys
from streams.store import PartitionStore
from streams.writer import PartitionWriter
from topics.source import Source

log = EventLog("streams.partitions")

OPENING_AT_ONCE = 4
CLOSING_AT_ONCE = 4
#: Batches in hand for each one being decided, since most of a batch's time is waiting for Kafka.
COMMITTING = 4
#: A partition that another process fences twice within so many seconds has another writer.
TAKEN_BACK_EVERY_S = 600.0


class Batch(Protocol):
    """Records of one partition, in the order of the log, as the flow hands them over."""

    @property
    def records(self) -> list[Source]:
        """The records."""


class Flow(Protocol):
    """The part that fetches."""

    @property
    def flow_active(self) -> bool:
        """Whether anything is fetched: not while the group rebalances."""

    def start_from(self, tp: TP, offset: int) -> None:
        """Seek and resume."""

    def is_current(self, tp: TP, batch: Any) -> bool:
        """Whether a batch was fetched after the newest seek."""

    def taken(self, tp: TP) -> None:
        """A partition's batch is in hand: from now on `wants` knows about it."""

    def wake(self) -> None:
        """Check again which partitions want records."""


class Assigned:
    """One assigned partition: its writer, and what it is doing. Used from the event loop only."""

    def __init__(self, tp: TP, writer: PartitionWriter) -> None:
        self.tp = tp
        self.writer = writer
        self.ready = False
        self.fenced = False
        #: A record ahead of the clock holds the partition until its turn to try again.
        self.held = False
        #: Opens the writer, or posts a batch; None while there is nothing to do.
        self.work: asyncio.Task[None] | None = None
        #: When a batch was last posted, by the loop's clock.
        self.posted_at_s = 0.0
        #: Checks for open transactions when the partition has been quiet for long.
        self.look: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether the writer has a batch in hand or is still being opened."""
        return self.work is not None and not self.work.done()


class Partitions:
    """Opens, feeds and closes the writers of the partitions that this worker has been given."""

    def __init__(self, parts: WriterParts) -> None:
        self.parts = parts
        self.flow: Flow
        self.assigned: dict[TP, Assigned] = {}
        #: Writers that are being closed, by partition, and the copies that are being changed.
        self._leaving: dict[TP, asyncio.Task[None]] = {}
        self._following: asyncio.Task[None] | None = None
        #: When a partition was last opened again after a fence, by the loop's clock.
        self._taken_back_at_s: dict[TP, float] = {}
        #: Why the worker must end; Faust's own crash would log a traceback.
        self.failure: WalletError | None = None
        self.standbys = Standbys(parts)
        # Threads: those that post batches, those that open writers, and those that close them. Opening may take hours;
        # closing must not wait behind it.
        self._posting: ThreadPoolExecutor | None = None
        self._opening: ThreadPoolExecutor | None = None
        self._closing: ThreadPoolExecutor | None = None

    def store_of(self, partition: int) -> PartitionStore | None:
        """The open store of a partition that this worker writes, for the table."""
        one = self.assigned.get(TP(self.parts.topics.transactions, partition))
        return one.writer.store if one is not None and one.ready else None

    def fail(self, failure: BaseException) -> None:
        """End the worker because of this; it reports the first failure only. From any thread."""
        if self.failure is None:
            self.failure = in_one_line(failure, self.parts.settings)
            log.error("ending", reason=self.failure)
            if not isinstance(failure, WalletError | KafkaException | KafkaError):
                log.failure("crashed", failure)

    # -- life cycle

    def start(self, flow: Flow) -> None:
        """Make the threads."""
        self.flow = flow
        self._posting = ThreadPoolExecutor(COMMITTING * self.parts.settings.batch_threads, "post")
        self._opening = ThreadPoolExecutor(OPENING_AT_ONCE, "open")
        self._closing = ThreadPoolExecutor(CLOSING_AT_ONCE, "close")

    async def close(self, bound_s: float) -> None:
        """Finish the batches in hand, close every writer."""
        self.parts.stopping.set()
        await self.quiesce(bound_s)
        for one in list(self.assigned.values()):
            self._let_go(one)
        await asyncio.gather(*self._leaving.values(), self._follow(set(), self._following))
        await self._running.run_in_executor(self._closing, self.standbys.stop)

    def shut_down(self) -> None:
        """End the threads; the writers were closed before."""
        for pool in (self._posting, self._opening, self._closing):
            if pool is not None:
                pool.shutdown(wait=False, cancel_futures=True)

    # -- what the group gives and takes

    async def quiesce(self, bound_s: float) -> None:
        """Wait until no batch is in hand. Which partitions go is not known yet, so all writers stay open."""
        self.parts.rebalancing.set()
        posting = [one.work for one in self.assigned.values() if one.ready and one.work is not None]
        if posting:
            bound_s = min(3 * self.parts.settings.transaction_timeout_s, bound_s)
            _, unfinished = await asyncio.wait(posting, timeout=bound_s)
            if unfinished:
                self.fail(Stuck(f"a batch in hand did not end within {bound_s:g} s: start again"))

    def become(self, generation: int, source: set[TP], copies: set[int], *, unbroken: bool) -> set[TP]:
        """Close the partitions that go, open those that come, without waiting; returns those that stay.

        `unbroken`: this worker was also part of the generation before. If not, another worker may have had any of its
        partitions meanwhile.
        """
        going = [one for tp, one in self.assigned.items() if tp not in source or one.fenced or not unbroken]
        for one in going:
            self._let_go(one)
        kept = set(self.assigned)
        self._following = asyncio.create_task(self._follow(copies, self._following), name="follow")
        # A worker that is stopping may be given partitions before it has left: nobody would close them again.
        opening = set[TP]() if self.parts.stopping.is_set() else source - kept
        if not self.parts.stopping.is_set():
            self.parts.rebalancing.clear()
        for tp in opening:
            self._open(tp)
        log.info(
            "assigned",
            generation=generation,
            kept=_numbers(kept),
            opening=_numbers(opening),
            closed=_numbers({one.tp for one in going}),
        )
        return kept

    def resume(self, tp: TP) -> None:
        """Fetch from a partition whose writer is open and at rest, unless a rebalance is under way."""
        one = self.assigned.get(tp)
        if one is not None and one.ready and not one.busy and not one.held and self.flow.flow_active:
            self.flow.start_from(tp, one.writer.next_offset)

    def _open(self, tp: TP) -> None:
        one = self.assigned[tp] = Assigned(tp, PartitionWriter(self.parts, tp.partition))
        # Its store may still be open: in the writer that this worker had before, or as a copy.
        before = [task for task in (self._leaving.get(tp), self._following) if task is not None]
        one.work = asyncio.create_task(self._opened(one, before), name=f"open-{tp.partition}")

    async def _opened(self, one: Assigned, before: list[asyncio.Task[None]]) -> None:
        try:
            await asyncio.gather(*before)
            await self._running.run_in_executor(self._opening, one.writer.open)
        except Interrupted:
            return
        except Fenced:
            self._fenced(one)
            return
        except Exception as failure:  # noqa: BLE001 - whatever it is: recovery ends, or the process does
            self.fail(failure)
            return
        one.ready, one.work = True, None
        self.resume(one.tp)

    def _let_go(self, one: Assigned) -> None:
        """Close a partition's writer in the background, after what it is doing has ended."""
        self.assigned.pop(one.tp, None)
        if one.look is not None:
            one.look.cancel()
        one.writer.stopping.set()
        self._leaving[one.tp] = asyncio.create_task(self._close(one), name=f"close-{one.tp.partition}")

    async def _close(self, one: Assigned) -> None:
        if one.work is not None:
            await asyncio.wait([one.work])
        try:
            await self._running.run_in_executor(self._closing, one.writer.close)
        except Exception as failure:  # noqa: BLE001 - a store that is not closed cannot be opened again
            self.fail(failure)

    async def _follow(self, copies: set[int], before: asyncio.Task[None] | None) -> None:
        """Follow these copies and no others, once the writers that had their stores are closed."""
        leaving = [task for tp, task in self._leaving.items() if tp.partition in copies]
        await asyncio.gather(*leaving, *([before] if before is not None else []))
        try:
            await self._running.run_in_executor(self._closing, self.standbys.follow, copies)
        except Exception as failure:  # noqa: BLE001 - as above
            self.fail(failure)

    @property
    def _running(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    # -- batches

    def wants(self, tp: TP) -> bool:
        """Whether a partition's writer is open and has nothing in hand: only then is it fetched from."""
        one = self.assigned.get(tp)
        # Nothing after a failure: the worker has not ended yet, and it might continue from a wrong state.
        return self.failure is None and one is not None and one.ready and not one.busy and not one.held

    def take(self, tp: TP, batch: Batch) -> None:
        """Post a batch in the background; called by the agent."""
        one = self.assigned.get(tp)
        current = self.flow.is_current(tp, batch)
        if one is not None and current and one.ready and one.busy:
            # Cannot be: a busy partition is not fetched from. No seek would follow, so dropping it would skip records.
            self.fail(
                Stopped(
                    f"partition {tp.partition}: records came while others were being posted: report this bug"
                )
            )
            return
        if one is None or not current or not self.wants(tp):
            # Loses nothing: any change of these is followed by a seek before the next fetch.
            log.info("run_dropped", partition=tp.partition, offset=batch.records[0].offset)
            return
        one.work = asyncio.create_task(self._posted(one, batch), name=f"post-{tp.partition}")
        one.work.add_done_callback(lambda _: self.flow.wake())
        self.flow.taken(tp)

    async def _posted(self, one: Assigned, batch: Batch) -> None:
        try:
            ahead = await self._running.run_in_executor(self._posting, one.writer.post, batch.records)
        except Interrupted:
            return
        except Fenced:
            self._fenced(one)
        except Exception as failure:  # noqa: BLE001 - crash only: the next owner continues
            # Its store may be behind Kafka: another batch before the worker has ended would start from an old state.
            one.ready = False
            self.fail(failure)
        else:
            if ahead is not None:
                self._hold(one, ahead)
            one.posted_at_s = self._running.time()
            if one.look is None or one.look.done():
                one.look = asyncio.create_task(self._look_back(one), name=f"look-{one.tp.partition}")

    async def _look_back(self, one: Assigned) -> None:
        """Check whether the newest transaction was left open, if no later batch does."""
        quiet_s, looked_for_s = self.parts.settings.transaction_timeout_s, -1.0
        while looked_for_s != one.posted_at_s:  # else no batch was posted since, not even during the check
            looked_for_s = one.posted_at_s
            await asyncio.sleep(looked_for_s + quiet_s - self._running.time())
            if looked_for_s == one.posted_at_s:
                await self._refuse_left_open(one)

    async def _refuse_left_open(self, one: Assigned) -> None:
        position = one.writer.next_offset
        left = await self._running.run_in_executor(self._closing, one.writer.left_open)
        undisturbed = one.ready and not one.busy and one.writer.next_offset == position
        if left and undisturbed and self.assigned.get(one.tp) is one:
            self.fail(LeftOpen(one.tp.partition, left))

    def _hold(self, one: Assigned, ahead: Source) -> None:
        """Stop a partition whose next record is ahead of the clock, and try again after a while."""
        again_in_s = self.parts.settings.retry_wait_s
        log.error(
            "partition_stopped",
            partition=one.tp.partition,
            offset=ahead.offset,
            reason="the record's timestamp is more than WALLET_MAX_CLOCK_AHEAD_S ahead of this worker's clock",
            timestamp=ahead.timestamp_ms,
            again_in_s=again_in_s,
        )
        one.held = True
        self._running.call_later(again_in_s, self._release, one)

    def _release(self, one: Assigned) -> None:
        one.held = False
        if self.assigned.get(one.tp) is one:
            self.resume(one.tp)

    def _fenced(self, one: Assigned) -> None:
        """Another process writes this partition now.

        Usually the group has given it away and this worker is about to learn it: the rebalance then drops
        the partition, or opens it again.
        """
        one.fenced, one.ready = True, False
        log.warning("fenced", partition=one.tp.partition)
        self._running.call_later(self.parts.settings.session_timeout_s, self._still_fenced, one)

    def _still_fenced(self, one: Assigned) -> None:
        """Open a fenced partition again that the group has left to this worker all the time.

        The former owner's request to open it may have reached Kafka after ours. Where it happens again, two workers
        think that they own it: this one ends.
        """
        parts = self.parts
        # A rebalance under way, and the end, close it anyway.
        if self.assigned.get(one.tp) is not one or parts.rebalancing.is_set() or parts.stopping.is_set():
            return
        now_s, before_s = self._running.time(), self._taken_back_at_s.get(one.tp)
        if before_s is None or now_s - before_s > TAKEN_BACK_EVERY_S:
            self._taken_back_at_s[one.tp] = now_s
            log.warning("taken_back", partition=one.tp.partition)
            self._let_go(one)
            self._open(one.tp)
            return
        self.fail(
            Stopped(
                f"partition {one.tp.partition}: another process writes it, though the group assigned it to this "
                "worker; or Kafka ended a transaction open longer than WALLET_TRANSACTION_TIMEOUT_S: start again"
            )
        )


def _numbers(partitions: set[TP]) -> str:
    return ",".join(str(tp.partition) for tp in sorted(partitions)) or "none"
