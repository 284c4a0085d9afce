"""Batches as events: the part of Faust that fetches, replaced through `App._new_transport`.

Plain Faust turns every record into an event (90 µs each). Here the records fetched of one partition are
one event (1 µs a record). It also closes the gap through which plain Faust loses records: positions are
changed only between two fetches, by the thread that fetches, so every batch that comes back belongs to the
newest seek that was made before it, and a batch that is stale is dropped only when a newer seek is waiting.
"""

import asyncio
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, cast

import aiokafka
from aiokafka.errors import ConsumerStoppedError, IllegalStateError, KafkaError, NoOffsetForPartitionError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, AppT, ConsumerMessage
from faust.types.transports import ConsumerT
from mode import ServiceT
from yarl import URL

from config.logs import EventLog
from config.settings import Settings
from streams.faust.aside import MOST_BYTES, Aside
from streams.faust.group import IDLE_MAY_BE_MS, GroupCoordinator, Membership
from topics.fetching import consumer_options
from topics.inflation import Bounds
from topics.source import Source

log = EventLog("streams.transport")

#: A fetch that finds nothing ends after this long at the latest.
FETCH_WAIT_S = 0.1
#: How long a broker may hold a fetch. A partition that is not part of it waits until the fetch is answered.
BROKER_WAIT_MS = 20
#: Pause between an answer that had a few records and the next fetch from its broker.
PAUSE_S = 0.008


class Batch(NamedTuple):
    """Records of one partition in the order of the log, fetched after seek number `epoch`."""

    epoch: int
    records: list[Source]


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """The thread that owns the aiokafka consumer: joins the group, seeks, fetches."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._seeks: dict[TP, tuple[int, int]] = {}
        self._epochs: dict[TP, int] = {}
        self._lock = threading.Lock()
        #: A partition has become free since the last fetch.
        self._woken = False

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        """Replaces Faust's consumer: read-committed, and never starts at a guessed offset."""
        settings = cast("Transport", transport).settings
        conf = self.app.conf
        bounds = Bounds(settings.batch_bytes, settings.max_record_bytes)
        self._aside = Aside(bounds)
        self._assignor = self.app.assignor
        return aiokafka.AIOKafkaConsumer(
            client_id=conf.broker_client_id,
            group_id=conf.id,
            group_instance_id=conf.consumer_group_instance_id,
            bootstrap_servers=settings.kafka.split(","),
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            max_poll_records=settings.batch_records,
            max_poll_interval_ms=IDLE_MAY_BE_MS,
            fetch_max_wait_ms=BROKER_WAIT_MS,
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            session_timeout_ms=int(settings.session_timeout_s * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            **consumer_options(bounds),
            **driver.credentials_to_aiokafka_auth(conf.broker_credentials, conf.ssl_context),
        )

    async def on_start(self) -> None:
        """Start as Faust does, then connect the coordinator to the Membership."""
        await super().on_start()
        consumer = self._ensure_consumer()
        consumer._fetcher._proc_fetch_request = Paced(consumer._fetcher)
        coordinator = consumer._coordinator
        cast("GroupCoordinator", coordinator).membership = cast("Transport", self.transport).membership

    async def on_thread_stop(self) -> None:
        """Stop as Faust does, but swallow aiokafka's CancelledError while a broker is away.

        Its fetcher cancels a fetch that waits for its next attempt, and is then cancelled itself: the thread would
        end with a traceback, and never report that it has ended.
        """
        with suppress(asyncio.CancelledError):
            await super().on_thread_stop()

    def seek_before_next_fetch(self, tp: TP, offset: int) -> None:
        """Let the next fetch start at `offset`; everything fetched before is stale from now on."""
        with self._lock:
            epoch = self._epochs.get(tp, 0) + 1
            self._epochs[tp] = epoch
            self._seeks[tp] = (offset, epoch)

    def epoch(self, tp: TP) -> int:
        """How many seeks were asked for on this partition."""
        return self._epochs.get(tp, 0)

    async def fetch(self, wanted: Callable[[], frozenset[TP]], max_records: int) -> dict[TP, Batch]:
        """Fetch available records of the partitions that are wanted, after making the waiting seeks.

        `wanted` is called in this thread, and again when a partition has become free: to begin a new fetch through
        Faust would take a millisecond of the processor's time.
        """
        fetching = asyncio.run_coroutine_threadsafe(self._fetch(wanted, max_records), self.thread_loop)
        return await asyncio.wrap_future(fetching)

    async def _fetch(self, wanted: Callable[[], frozenset[TP]], max_records: int) -> dict[TP, Batch]:
        consumer = self._ensure_consumer()
        fetching = consumer._fetcher
        if consumer._closed or fetching._closed:
            raise ConsumerStoppedError
        ends_at = self.thread_loop.time() + FETCH_WAIT_S
        epochs: dict[TP, int] = {}
        fetched: dict[TP, list[Source]] = {}
        try:
            with fetching._subscriptions.fetch_context():
                while not fetched and (left_s := ends_at - self.thread_loop.time()) > 0:
                    epochs = self._seek(consumer)
                    self._woken = False
                    partitions = wanted()
                    await self._aside.fill(fetching, partitions, max_records)
                    fetched = await self._aside.take(fetching, partitions, max_records)
                    if not fetched and not self._woken:
                        await _until_woken(fetching, left_s)
        except NoOffsetForPartitionError:
            # aiokafka looked for a committed offset before recovery had made its seek, which it has by now.
            fetched = {}
        except KafkaError as refused:  # a right that was taken away, say
            cast("Transport", self.transport).membership.refused(refused)
            fetched = {}
        return {tp: Batch(epochs.get(tp, 0), records) for tp, records in fetched.items()}

    def wake(self) -> None:
        """Let a waiting fetch look again which partitions are wanted: one has become free. From any thread."""
        self.thread_loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._woken = True
        if self._consumer is not None:
            fetching = self._consumer._fetcher
            for waiter in list(fetching._fetch_waiters):
                fetching._notify(waiter)

    def _seek(self, consumer: aiokafka.AIOKafkaConsumer) -> dict[TP, int]:
        """Make the waiting seeks; returns how many seeks each partition has had so far."""
        with self._lock:
            waiting, self._seeks = self._seeks, {}
            epochs = dict(self._epochs)
        for tp, (offset, _) in waiting.items():
            self._aside.forget(tp)
            try:
                consumer.seek(tp, offset)
            except IllegalStateError:
                log.info("seek_dropped", partition=tp.partition, reason="not_assigned")
        return epochs


class Paced:
    """Fetches with a pause after each answer that had a few records, in front of a method of aiokafka's fetcher.

    A broker answers with the first record that comes. Where hundreds come in a second, each alone, asking for them
    takes a third of the worker's time, and the partitions' transactions disturb each other.
    """

    def __init__(self, fetcher: Any) -> None:
        self._fetch = fetcher._proc_fetch_request
        #: What was fetched and is not taken yet, by partition.
        self._came: Mapping[Any, Any] = fetcher._records
        #: Of each broker when it may be asked again, by the loop's clock.
        self._next_s: dict[int, float] = {}

    async def __call__(self, assignment: Any, broker: int, request: Any) -> bool:
        """Fetch, and return whether there is something new; not if it is cancelled, like aiokafka's."""
        clock_s = asyncio.get_running_loop().time
        try:
            await asyncio.sleep(self._next_s.get(broker, 0.0) - clock_s())
        except asyncio.CancelledError:
            return False
        has_records: bool = await self._fetch(assignment, broker, request)
        if has_records and sum(getattr(one, "came_in_bytes", 0) for one in self._came.values()) <= MOST_BYTES:
            self._next_s[broker] = clock_s() + PAUSE_S
        return has_records


async def _until_woken(fetching: Any, wait_s: float) -> None:
    """Return when records came, when a partition has become free, or after this long."""
    waiter = fetching._create_fetch_waiter()
    await asyncio.wait([waiter], timeout=wait_s)
    if not (waiter.cancel() or waiter.cancelled()):
        waiter.result()  # a right that was taken away, say


class Consumer(driver.Consumer):
    """Delivers batches; leaves busy and paused partitions out of a fetch."""

    _thread: ConsumerThread

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    @property
    def _wants(self) -> "Callable[[TP], bool]":
        return cast("Transport", self.transport).wants

    @cached_property
    def _freed(self) -> asyncio.Event:
        return asyncio.Event()

    @cached_property
    def _in_queue(self) -> set[TP]:
        """Partitions whose batch the agent has not taken yet. Where it will not, a seek follows."""
        return set()

    def wake(self) -> None:
        """Check again which partitions want records: one has become free."""
        self._freed.set()
        self._thread.wake()

    def start_from(self, tp: TP, offset: int) -> None:
        """Fetch this partition from `offset` on: seek, resume; in this order."""
        self._thread.seek_before_next_fetch(tp, offset)
        self._in_queue.discard(tp)
        self.resume_partitions({tp})
        self.wake()

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """End the rebalance when its callbacks have run; in Faust the recovery service does that."""
        await super().on_partitions_assigned(assigned, generation_id)
        self.app.on_rebalance_end()

    async def _drain_messages(self, fetcher: ServiceT) -> None:
        """Hand on what each fetch brought, a partition's batch as one message, until the app stops.

        Replaces Faust's, which makes four tasks for a message, and drops records of a partition that was paused while
        the fetch waited, with the position already moved past them. Here a batch is dropped only if a newer seek is
        waiting (a resume always seeks), or if the partition is paused and will seek when it resumes.
        """
        try:
            while not (self.should_stop or fetcher.should_stop):
                for tp, batch in (await self._fetched()).items():
                    if self.is_current(tp, batch):
                        self._in_queue.add(tp)
                        await self.callback(self._to_message(tp, batch))
        except (asyncio.CancelledError, ConsumerStoppedError):
            if not self.app.should_stop:
                raise

    async def _fetched(self) -> dict[TP, Batch]:
        if not self.flow_active:
            await self.wait_for_stopped(self.can_resume_flow.wait())
        if self._active_partitions:
            return await self._thread.fetch(self._wanted, self.app.conf.broker_max_poll_records)
        self._freed.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._freed.wait(), FETCH_WAIT_S)
        return {}

    def _wanted(self) -> frozenset[TP]:
        """Partitions to fetch from now. From any thread: what changes meanwhile makes a batch stale (`is_current`)."""
        wants = self._wants
        # A copy: Faust changes the set while the thread that fetches would go through it.
        return frozenset(tp for tp in list(self._active_partitions) if tp not in self._in_queue and wants(tp))

    def taken(self, tp: TP) -> None:
        """The agent has this partition's batch in hand: from now on `wants` knows about it."""
        self._in_queue.discard(tp)

    def is_current(self, tp: TP, batch: Batch) -> bool:
        """Whether a batch may be posted: fetched after the newest seek, of a partition that is not paused."""
        return batch.epoch == self._thread.epoch(tp) and tp in self._active_partitions and self.flow_active

    def _to_message(self, tp: TP, batch: Batch) -> ConsumerMessage:
        first = batch.records[0]
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            first.offset,
            first.timestamp_ms / 1000,
            0,
            [],
            None,
            batch,  # type: ignore[arg-type]  # the value is the batch; `Raw` passes it through
            None,
            None,
            None,
            tp,
            generation_id=self.app.consumer_generation_id,
        )

    def on_buffer_full(self, tp: TP) -> None:
        """Nothing: a partition whose writer is busy is not fetched in the first place."""

    def on_buffer_drop(self, tp: TP) -> None:
        """Nothing, as above."""

    async def perform_seek(self) -> None:
        """Nothing: positions come from recovery, not from what Faust believes was committed."""

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Nothing: Faust's livelock detector measures its own commits, which are switched off."""


class Transport(driver.Transport):
    """Faust's transport with the consumer above. `wants` says whether a partition's writer has room."""

    Consumer: ClassVar[type[ConsumerT]] = Consumer

    def __init__(
        self,
        url: list[URL],
        app: AppT,
        settings: Settings,
        wants: Callable[[TP], bool],
        membership: Membership,
    ) -> None:
        super().__init__(url, app)
        self.settings = settings
        self.wants = wants
        self.membership = membership
