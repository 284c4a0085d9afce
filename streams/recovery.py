"""Who writes which partition, and when: the `TableManager` that replaces Faust's recovery.

Faust resumes the source before it seeks, compares offsets with `>=` and ignores errors while it recovers;
on ordinary restarts that loses events or applies them twice. Here a partition is read from only after its
writer is open, and every resume goes with a seek. The order, which is the correctness:

  revoked    finish or abort the batch in hand; nothing new is taken
  going      close the writer: its store and its producer
  kept       the writer stays open; its source is sought again, because Faust clears its queues
  assigned   open a writer (fence, catch up, find the position), each partition by itself
  then       seek, flow_control.resume, consumer.resume_flow, and resume the partition last
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from aiokafka.errors import KafkaError
from confluent_kafka import KafkaException
from faust.tables.manager import TableManager as FaustTableManager
from faust.types import TP, AppT

from config.errors import Stopped, WalletError
from config.logs import EventLog
from streams.failures import in_one_line
from streams.group import Membership
from streams.leftovers import LeftOpen
from streams.reader import Interrupted
from streams.standby import Standbys
from streams.store import PartitionStore
from streams.transaction import Fenced
from streams.transport import Consumer, Run
from streams.writer import PartitionWriter, WriterParts
from topics.source import Source

log = EventLog("streams.recovery")

OPENING_AT_ONCE = 4
CLOSING_AT_ONCE = 4
#: A batch in hand is waited for until so long before the group gives this worker up.
GIVEN_UP_AFTER_S = 5.0


class Assigned:
    """One assigned partition: its writer, and what it is doing. Used from the event loop only."""

    def __init__(self, tp: TP, writer: PartitionWriter) -> None:
        self.tp = tp
        self.writer = writer
        self.ready = False
        self.fenced = False
        #: A record ahead of the clock holds the partition until its turn to try again.
        self.held = False
        #: Opens the writer, or posts a run; None while there is nothing to do.
        self.work: asyncio.Task[None] | None = None
        #: Looks at what is open when the partition has been quiet for long.
        self.look: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether the writer has a batch in hand or is still being opened."""
        return self.work is not None and not self.work.done()


class Stuck(Stopped):
    """A batch that does not end, so neither would a stop that waits for it: the process ends without one."""


class TableManager(FaustTableManager):
    """Opens, feeds and closes the writers of the partitions that the group gives to this worker."""

    parts: WriterParts

    def __init__(self, app: AppT, **kwargs: Any) -> None:
        super().__init__(app, **kwargs)
        self.partitions: dict[TP, Assigned] = {}
        self._generation = -1
        #: Writers that are being closed, by partition, and the copies that are being changed.
        self._leaving: dict[TP, asyncio.Task[None]] = {}
        self._following: asyncio.Task[None] | None = None
        #: Why the worker must end; Faust's own crash would log a traceback.
        self.failure: WalletError | None = None
        self.standbys = Standbys(self.parts)
        self.membership = Membership(self.parts.settings, self.fail)

    def store_of(self, partition: int) -> PartitionStore | None:
        """The open store of a partition that this worker writes, for the table."""
        one = self.partitions.get(TP(self.parts.topics.transactions, partition))
        return one.writer.store if one is not None and one.ready else None

    # -- life cycle, as Faust calls it

    def on_init(self) -> None:
        """Make the threads: those that post batches, those that open writers, and those that let go of them.

        Opening may take hours; what lets go waits for nothing.
        """
        self._posting: ThreadPoolExecutor | None = None
        self._opening: ThreadPoolExecutor | None = None
        self._closing: ThreadPoolExecutor | None = None

    async def on_start(self) -> None:
        """Replaces Faust's, which waits a second and starts its recovery service."""
        self._posting = ThreadPoolExecutor(self.parts.settings.batch_threads, "post")
        self._opening = ThreadPoolExecutor(OPENING_AT_ONCE, "open")
        self._closing = ThreadPoolExecutor(CLOSING_AT_ONCE, "close")
        await self._update_channels()

    async def _update_channels(self) -> None:
        """Replaces Faust's, which subscribes to the changelogs: the writers read them by themselves."""
        self._tables_finalized.set()
        self._tables_registered.set()

    async def wait_until_recovery_completed(self) -> bool:
        """Partitions recover each by itself; the app does not wait for all of them."""
        return False

    async def close(self) -> None:
        """Take no more runs, finish the batches in hand, close every writer."""
        self._consumer.stop_flow()
        self.parts.stopping.set()
        await self.quiesce()
        for one in list(self.partitions.values()):
            self._let_go(one)
        await asyncio.gather(*self._leaving.values(), self._follow(set(), self._following))
        await self._running.run_in_executor(self._closing, self.standbys.stop)

    async def on_stop(self) -> None:
        """Stop fetching; the writers were closed before the app stops."""
        await self.app._fetcher.stop()  # type: ignore[attr-defined]  # as Faust's own does
        for pool in (self._posting, self._opening, self._closing):
            if pool is not None:
                pool.shutdown(wait=False, cancel_futures=True)

    def fail(self, failure: BaseException) -> None:
        """End the worker because of this; the first failure is the one that is told. From any thread."""
        if self.failure is None:
            self.failure = in_one_line(failure, self.parts.settings)
            log.error("ending", reason=self.failure)
            if not isinstance(failure, WalletError | KafkaException | KafkaError):
                log.failure("crashed", failure)

    # -- rebalancing

    def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Called first when a rebalance begins; `quiesce` follows once Faust has stopped the flow."""

    async def quiesce(self) -> None:
        """Wait until no batch is in hand. Which partitions go is not known yet, so all writers stay open."""
        self.parts.rebalancing.set()
        posting = [one.work for one in self.partitions.values() if one.ready and one.work is not None]
        if posting:
            bound_s = min(
                3 * self.parts.settings.transaction_timeout_s,
                self.app.conf.broker_rebalance_timeout - GIVEN_UP_AFTER_S,
            )
            _, unfinished = await asyncio.wait(posting, timeout=bound_s)
            if unfinished:
                self.fail(Stuck(f"a batch in hand did not end within {bound_s:g} s"))

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Close what goes, keep what stays, open what comes, and let the flow run again."""
        # A generation that this worker had no part in may have given any of its partitions to another.
        unbroken = generation_id == self._generation + 1
        self._generation = generation_id
        source = {tp for tp in assigned if tp.topic == self.parts.topics.transactions}
        going = [one for tp, one in self.partitions.items() if tp not in source or one.fenced or not unbroken]
        # None of this is waited for here: until this returns, the group hears nothing of this worker.
        for one in going:
            self._let_go(one)
        kept = set(self.partitions)
        copies = {
            tp.partition
            for tp in self.app.assignor.assigned_standbys()
            if tp.topic == self.parts.topics.transactions
        }
        copies -= {tp.partition for tp in source}
        self._following = asyncio.create_task(self._follow(copies, self._following), name="follow")
        # A worker that is stopping may be given partitions before it has left: nobody would close them again.
        opening = set[TP]() if self.parts.stopping.is_set() else source - kept
        if not self.parts.stopping.is_set():
            self.parts.rebalancing.clear()
        for tp in opening:
            self._open(tp)
        log.info(
            "assigned",
            generation=generation_id,
            kept=_numbers(kept),
            opening=_numbers(opening),
            closed=_numbers({one.tp for one in going}),
        )
        # The order that works (resuming clears the queues of Faust's streams, so it comes before any fetch):
        self.app.flow_control.resume()
        self._consumer.resume_flow()
        for tp in kept:
            self._resume(tp)
        await self.app._fetcher.maybe_start()  # type: ignore[attr-defined]  # as Faust's own does
        self.on_actives_ready()
        self.on_standbys_ready()

    @property
    def _consumer(self) -> Consumer:
        return cast("Consumer", self.app.consumer)

    def _resume(self, tp: TP) -> None:
        """Fetch from a partition whose writer is open and at rest, unless a rebalance is under way."""
        one = self.partitions.get(tp)
        if one is not None and one.ready and not one.busy and not one.held and self._consumer.flow_active:
            self._consumer.start_from(tp, one.writer.next_offset)

    def _open(self, tp: TP) -> None:
        one = self.partitions[tp] = Assigned(tp, PartitionWriter(self.parts, tp.partition))
        # Its store may be open yet: by the writer that this worker had before, or as a copy.
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
        self._resume(one.tp)

    def _let_go(self, one: Assigned) -> None:
        """Close a partition's writer in the background, after what it is doing has ended."""
        self.partitions.pop(one.tp, None)
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
        """Have these copies followed and no others, once the writers that had their stores are closed."""
        leaving = [task for tp, task in self._leaving.items() if tp.partition in copies]
        await asyncio.gather(*leaving, *([before] if before is not None else []))
        try:
            await self._running.run_in_executor(self._closing, self.standbys.follow, copies)
        except Exception as failure:  # noqa: BLE001 - as above
            self.fail(failure)

    @property
    def _running(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    # -- runs of records

    def wants(self, tp: TP) -> bool:
        """Whether a partition's writer is open and has nothing in hand: only then is it fetched from."""
        one = self.partitions.get(tp)
        # Nothing after a failure: the worker has not ended yet, and what it would go on from may be wrong.
        return self.failure is None and one is not None and one.ready and not one.busy and not one.held

    def take(self, tp: TP, run: Run) -> None:
        """Post a run in the background; called by the agent."""
        one = self.partitions.get(tp)
        current = self._consumer.is_current(tp, run)
        if one is not None and current and one.ready and one.busy:
            # Cannot be: a busy partition is not fetched from. Nobody would seek, so what is dropped here were skipped.
            self.fail(Stopped(f"partition {tp.partition}: a run came while another one was posted"))
            return
        if one is None or not current or not self.wants(tp):
            # Cannot be lost: whoever changed any of these seeks before the partition is fetched from again.
            log.info("run_dropped", partition=tp.partition, offset=run.records[0].offset)
            return
        one.work = asyncio.create_task(self._posted(one, run), name=f"post-{tp.partition}")

    async def _posted(self, one: Assigned, run: Run) -> None:
        try:
            ahead = await self._running.run_in_executor(self._posting, one.writer.post, run.records)
        except Interrupted:
            return
        except Fenced:
            self._fenced(one)
        except Exception as failure:  # noqa: BLE001 - crash only: whoever takes over goes on
            # Its store may lack what Kafka has: another batch, before the worker has ended, would begin where that was.
            one.ready = False
            self.fail(failure)
        else:
            if ahead is not None:
                self._hold(one, ahead)
            if one.look is not None:
                one.look.cancel()
            one.look = asyncio.create_task(self._look_back(one), name=f"look-{one.tp.partition}")

    async def _look_back(self, one: Assigned) -> None:
        """Look at what the newest transaction has left open, should no other come that would."""
        await asyncio.sleep(self.parts.settings.transaction_timeout_s)
        position = one.writer.next_offset
        left = await self._running.run_in_executor(self._closing, one.writer.left_open)
        undisturbed = one.ready and not one.busy and one.writer.next_offset == position
        if left and undisturbed and self.partitions.get(one.tp) is one:
            self.fail(LeftOpen(one.tp.partition, left))

    def _hold(self, one: Assigned, ahead: Source) -> None:
        """Stop a partition whose next record is ahead of the clock, and look again after a while."""
        again_in_s = self.parts.settings.retry_wait_s
        log.error(
            "partition_stopped",
            partition=one.tp.partition,
            offset=ahead.offset,
            reason="the record's timestamp is beyond WALLET_MAX_CLOCK_AHEAD_S from this worker's clock",
            timestamp=ahead.timestamp_ms,
            again_in_s=again_in_s,
        )
        one.held = True
        self._running.call_later(again_in_s, self._release, one)

    def _release(self, one: Assigned) -> None:
        one.held = False
        if self.partitions.get(one.tp) is one:
            self._resume(one.tp)

    def _fenced(self, one: Assigned) -> None:
        """Another process writes this partition now.

        Usually the group has given it away and this worker is about to hear of it: the rebalance then drops
        the partition, or opens it anew. If none comes, two workers think that it is theirs: this one ends.
        """
        one.fenced, one.ready = True, False
        log.warning("fenced", partition=one.tp.partition)
        self._running.call_later(self.parts.settings.session_timeout_s, self._still_fenced, one)

    def _still_fenced(self, one: Assigned) -> None:
        if self.partitions.get(one.tp) is one:
            self.fail(
                Stopped(
                    f"partition {one.tp.partition}: another process writes it, though the group says it is ours; or "
                    "Kafka ended a transaction that was open for longer than WALLET_TRANSACTION_TIMEOUT_S: start again"
                )
            )


def _numbers(partitions: set[TP]) -> str:
    return ",".join(str(tp.partition) for tp in sorted(partitions)) or "none"
