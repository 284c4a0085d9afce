"""Batches as events: the part of Faust that fetches, replaced through `App._new_transport`.

Plain Faust turns every record into an event (90 µs each). Here a fetched run of records of one partition is
one event (1 µs a record). It also closes the gap through which plain Faust loses records: positions are
changed only between two fetches, by the thread that fetches, so every run that comes back belongs to the
newest seek that was made before it, and a run that is stale is dropped only when a newer seek is waiting.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, ClassVar, NamedTuple, cast

import aiokafka
from aiokafka.errors import ConsumerStoppedError, IllegalStateError, KafkaError, NoOffsetForPartitionError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, AppT, ConsumerMessage
from faust.types.transports import ConsumerT
from yarl import URL

from config.settings import Settings
from streams.faust.group import IDLE_MAY_BE_MS, GroupCoordinator, Membership
from topics.fetching import consumer_options
from topics.inflation import Bounds
from topics.source import Source

#: A fetch that finds nothing ends after this long, so that a partition that is resumed is soon part of one.
FETCH_WAIT_S = 0.1


class Run(NamedTuple):
    """Records of one partition in the order of the log, fetched after the seek that `epoch` counts."""

    epoch: int
    records: list[Source]


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """The thread that owns the aiokafka consumer: joins the group, seeks, fetches."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._seeks: dict[TP, tuple[int, int]] = {}
        self._epochs: dict[TP, int] = {}
        self._lock = threading.Lock()

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        """Replaces the consumer that Faust makes: read-committed, and never starting from a guess."""
        settings = cast("Transport", transport).settings
        conf = self.app.conf
        self._bounds = Bounds(settings.batch_bytes, settings.max_record_bytes)
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
            fetch_max_wait_ms=500,
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            session_timeout_ms=int(settings.session_timeout_s * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            **consumer_options(self._bounds),
            **driver.credentials_to_aiokafka_auth(conf.broker_credentials, conf.ssl_context),
        )

    async def on_start(self) -> None:
        """Faust's, after which the group's coordinator is listened to."""
        await super().on_start()
        coordinator = self._ensure_consumer()._coordinator
        cast("GroupCoordinator", coordinator).membership = cast("Transport", self.transport).membership

    async def on_thread_stop(self) -> None:
        """Faust's, without what aiokafka lets through while a broker is away.

        Its fetcher cancels a fetch that waits for its next attempt, and is then cancelled itself: the thread would
        end with a traceback, and never say that it has ended.
        """
        with suppress(asyncio.CancelledError):
            await super().on_thread_stop()

    def seek_before_next_fetch(self, tp: TP, offset: int) -> None:
        """Have the next fetch start at `offset`; whatever was fetched before it is stale from now on."""
        with self._lock:
            epoch = self._epochs.get(tp, 0) + 1
            self._epochs[tp] = epoch
            self._seeks[tp] = (offset, epoch)

    def epoch(self, tp: TP) -> int:
        """How many seeks were asked for on this partition."""
        return self._epochs.get(tp, 0)

    async def fetch(self, partitions: frozenset[TP], max_records: int) -> dict[TP, Run]:
        """Fetch what there is of these partitions, after the seeks that are waiting."""
        return cast("dict[TP, Run]", await self.call_thread(self._fetch, partitions, max_records))

    async def _fetch(self, partitions: frozenset[TP], max_records: int) -> dict[TP, Run]:
        consumer = self._ensure_consumer()
        fetching = consumer._fetcher
        if consumer._closed or fetching._closed:
            raise ConsumerStoppedError
        self._seek(consumer)
        epochs = dict(self._epochs)
        self._bounds.left = self._bounds.batch_bytes
        try:
            with fetching._subscriptions.fetch_context():
                # Never the live set, and never an empty one, which aiokafka takes for "all partitions".
                fetched = await fetching.fetched_records(
                    partitions, timeout=FETCH_WAIT_S, max_records=max_records
                )
        except NoOffsetForPartitionError:
            # aiokafka looked for a committed offset before recovery had sought the partition; it has by now.
            fetched = {}
        except KafkaError as refused:  # a right that was taken away, say
            cast("Transport", self.transport).membership.refused(refused)
            fetched = {}
        return {tp: Run(epochs.get(tp, 0), run) for tp, run in fetched.items()}

    def _seek(self, consumer: aiokafka.AIOKafkaConsumer) -> None:
        with self._lock:
            waiting, self._seeks = self._seeks, {}
        for tp, (offset, _) in waiting.items():
            try:
                consumer.seek(tp, offset)
            except IllegalStateError:
                self.log.info("seek_dropped partition=%d reason=not_assigned", tp.partition)


class Consumer(driver.Consumer):
    """Delivers runs of records; lets no partition that is busy or paused take part in a fetch."""

    _thread: ConsumerThread

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    @property
    def _wants(self) -> "Callable[[TP], bool]":
        return cast("Transport", self.transport).wants

    def start_from(self, tp: TP, offset: int) -> None:
        """Fetch this partition from `offset` on: seek, forget what came before, resume; in this order."""
        self._thread.seek_before_next_fetch(tp, offset)
        self._read_offset[tp] = None
        self.resume_partitions({tp})

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Ends the rebalance when its callbacks have run; Faust's recovery service did that."""
        await super().on_partitions_assigned(assigned, generation_id)
        self.app.on_rebalance_end()

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:  # noqa: ASYNC109 - Faust's signature
        """Fetch once and yield each partition's run as one message.

        Replaces Faust's, which drops records of a partition that was paused while the fetch waited, with
        the position already moved past them. Here a run is dropped only if a newer seek is waiting (a
        resume always seeks), or if the partition is paused and so will be sought when it resumes.
        """
        if not self.flow_active:
            await self.wait_for_stopped(self.can_resume_flow.wait())
        wants = self._wants
        partitions = frozenset(tp for tp in self._active_partitions if wants(tp))
        if not partitions:
            await asyncio.sleep(FETCH_WAIT_S / 10)
            return
        runs = await self._thread.fetch(partitions, self.app.conf.broker_max_poll_records)
        for tp, run in runs.items():
            if self.is_current(tp, run):
                yield tp, self._to_batch(tp, run)

    def is_current(self, tp: TP, run: Run) -> bool:
        """Whether a run may be posted: fetched after the newest seek, of a partition that is not paused."""
        return run.epoch == self._thread.epoch(tp) and tp in self._active_partitions and self.flow_active

    def _to_batch(self, tp: TP, run: Run) -> ConsumerMessage:
        first = run.records[0]
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            first.offset,
            first.timestamp_ms / 1000,
            0,
            [],
            None,
            run,  # type: ignore[arg-type]  # the value is the run; `Raw` passes it through
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
