"""The `TableManager` that replaces Faust's recovery: opens and closes partitions in the only safe order.

Faust resumes the source before it seeks, compares offsets with `>=` and ignores errors while it recovers;
on ordinary restarts that loses events or applies them twice. Here the order is:

  revoked    finish or abort the batch in hand; nothing new is taken
  going      close the writer: its store and its producer
  kept       the writer stays open; its source is sought again, because Faust clears its queues
  assigned   open a writer (fence, catch up, find the position), each partition independently
  then       seek, flow_control.resume, consumer.resume_flow, and resume the partition last
"""

from typing import Any, cast

from faust.tables.manager import TableManager as FaustTableManager
from faust.types import TP, AppT

from streams.faust.group import Membership
from streams.faust.transport import Consumer
from streams.partitions import Partitions

#: Stop waiting for a batch in hand this long before the group expels this worker.
GIVEN_UP_AFTER_S = 5.0


class TableManager(FaustTableManager):
    """Passes on to this worker's partitions what the group says."""

    def __init__(self, app: AppT, **kwargs: Any) -> None:
        super().__init__(app, **kwargs)
        parts = cast("Any", app).parts
        self.partitions = Partitions(parts)
        self.membership = Membership(parts.settings, self.partitions.fail)
        self._generation = -1

    async def on_start(self) -> None:
        """Replaces Faust's, which waits a second and starts its recovery service."""
        self.partitions.start(self._consumer)
        await self._update_channels()

    async def _update_channels(self) -> None:
        """Replaces Faust's, which subscribes to the changelogs: here the writers read them."""
        self._tables_finalized.set()
        self._tables_registered.set()

    async def wait_until_recovery_completed(self) -> bool:
        """Each partition recovers independently; the app does not wait for all of them."""
        return False

    async def close(self) -> None:
        """Take no more batches, finish the batches in hand, close every writer."""
        self._consumer.stop_flow()
        await self.partitions.close(self._bound_s)

    async def on_stop(self) -> None:
        """Stop fetching; the writers were closed before the app stops."""
        await self.app._fetcher.stop()  # type: ignore[attr-defined]  # as Faust's own does
        self.partitions.shut_down()

    def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Called first when a rebalance begins; `quiesce` follows once Faust has stopped the flow."""

    async def quiesce(self) -> None:
        """Wait until no batch is in hand."""
        await self.partitions.quiesce(self._bound_s)

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Close partitions that go, keep those that stay, open those that come, and resume the flow."""
        unbroken = generation_id == self._generation + 1
        self._generation = generation_id
        topic = self.partitions.parts.topics.transactions
        source = {tp for tp in assigned if tp.topic == topic}
        copies = {tp.partition for tp in self.app.assignor.assigned_standbys() if tp.topic == topic}
        copies -= {tp.partition for tp in source}
        # Wait for nothing here: until this returns, the group hears nothing from this worker.
        kept = self.partitions.become(generation_id, source, copies, unbroken=unbroken)
        # The order that works (resuming clears the queues of Faust's streams, so it comes before any fetch):
        self.app.flow_control.resume()
        self._consumer.resume_flow()
        for tp in kept:
            self.partitions.resume(tp)
        await self.app._fetcher.maybe_start()  # type: ignore[attr-defined]  # as Faust's own does
        self.on_actives_ready()
        self.on_standbys_ready()

    @property
    def _bound_s(self) -> float:
        bound_s: float = self.app.conf.broker_rebalance_timeout - GIVEN_UP_AFTER_S
        return bound_s

    @property
    def _consumer(self) -> Consumer:
        return cast("Consumer", self.app.consumer)
