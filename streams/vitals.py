"""A worker's state: its partitions, its stores, its group membership. Only the worker uses this module."""

import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from prometheus_client.metrics_core import Metric

from streams.faust.rebalance import TableManager
from streams.partitions import Assigned
from topics.incoming import Incoming
from vitals.metrics import gauge
from vitals.watchdog import Look, Standing


class Vitals:
    """A worker's state, for its watchdog, readiness and metrics. Only reads, from other threads."""

    role = "worker"

    def __init__(self, manager: TableManager) -> None:
        self._membership, self._partitions_of = manager.membership, manager.partitions
        self._parts = manager.partitions.parts
        self.oldest = Incoming.for_lag(self._parts.settings, self._parts.topics.transactions)

    def standings(self) -> list[Standing]:
        """The state of each partition of this worker; none while it is ending, since its end is bounded."""
        partitions = [] if self._ending else self._partitions()
        topic = self._parts.topics.transactions
        # Only a few partitions are opened at a time, and the others wait for them: judge them as one.
        recovered = (
            sum(each.writer.recovery.records + each.writer.recovery.compared for each in partitions),
            sum(each.ready for each in partitions),
        )
        return [
            Standing(
                "worker",
                topic,
                each.tp.partition,
                each.writer.next_offset if each.ready else None,
                None if each.ready else recovered,
                self._waits_for(each),
            )
            for each in partitions
        ]

    @property
    def _ending(self) -> bool:
        return self._parts.stopping.is_set() or self._partitions_of.failure is not None

    def _waits_for(self, each: Assigned) -> str | None:
        if each.held:
            return "the clock to reach its next record (WALLET_MAX_CLOCK_AHEAD_S)"
        if each.fenced:
            return "the group to give it to its new owner"  # which has its own deadline
        return self._parts.writers.waits_for

    def not_ready(self, look: Look) -> list[str]:  # noqa: ARG002 - of the protocol; Kafka's silence is reported elsewhere
        """What the group's coordinator says, partitions that are being opened, and those that wait for something."""
        if self._ending:
            return [f"it is ending: {self._partitions_of.failure or 'it was stopped'}"]
        reasons = self._membership.not_ready()
        for each in self._partitions():
            waits_for = self._waits_for(each)
            if waits_for is not None:
                reasons.append(f"partition {each.tp.partition} waits for {waits_for}")
            elif not each.ready:
                done, total = each.writer.recovery.records, each.writer.recovery.behind
                compared = each.writer.recovery.compared
                reasons.append(
                    f"partition {each.tp.partition} is being opened: {done} of about {total} records"
                    + (f", {compared} wallets compared" if compared else "")
                )
        return reasons

    def families(self) -> Iterable[Metric]:
        """Partitions, recovery, stores and standbys as they are now."""
        partitions = self._partitions()
        count = gauge("wallet_worker_partitions", "Partitions of this worker.", ("state",))
        for state in ("ready", "opening", "stopped"):
            count.add_metric([state], sum(_state(each) == state for each in partitions))
        total = gauge("wallet_worker_pipeline_partitions", "Partitions of the pipeline, on all workers.")
        total.add_metric([], self._parts.pipeline.partitions)
        remaining = gauge(
            "wallet_worker_recovery_remaining_records",
            "Records that the store of an opening partition still has to read.",
            ("partition",),
        )
        for each in partitions:
            left = 0 if each.ready else max(0, each.writer.recovery.behind - each.writer.recovery.records)
            remaining.add_metric([str(each.tp.partition)], left)
        standby = gauge(
            "wallet_standby_lag_records", "Records by which a warm copy is behind its topics.", ("partition",)
        )
        for partition, lag in list(self._partitions_of.standbys.lag_records.items()):
            standby.add_metric([str(partition)], lag)
        return [count, total, remaining, standby, *self._stores(partitions)]

    def _stores(self, partitions: list[Assigned]) -> Iterator[Metric]:
        size = gauge("wallet_worker_store_size_bytes", "Size of a partition's store on disk.", ("partition",))
        cached = gauge("wallet_worker_cached_wallets", "Balances in memory, of all partitions.")
        newest = gauge(
            "wallet_worker_newest_balance_age_seconds",
            "Age of the newest balance by recorded_at; grows while there is no input.",
        )
        wallets, newest_ms = 0, 0
        for each in partitions:
            if (store := each.writer.store) is None:
                continue
            size.add_metric([str(each.tp.partition)], _size(store.path))
            wallets += store.cached
            newest_ms = max(newest_ms, store.cursor.recorded_ms)
        cached.add_metric([], wallets)
        if newest_ms > 0:
            newest.add_metric([], max(0.0, time.time() - newest_ms / 1000))
        yield from (size, cached, newest)

    def _partitions(self) -> list[Assigned]:
        return sorted(self._partitions_of.assigned.values(), key=lambda each: each.tp.partition)


def _state(each: Assigned) -> str:
    if each.held or each.fenced:
        return "stopped"
    return "ready" if each.ready else "opening"


def _size(folder: Path) -> int:
    """Bytes of the files in a folder; files come and go while RocksDB works."""
    size = 0
    with suppress(FileNotFoundError):
        for file in folder.iterdir():
            with suppress(FileNotFoundError):
                size += file.stat().st_size
    return size
