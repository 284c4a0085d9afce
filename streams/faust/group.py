"""This worker's membership of its group: what the coordinator said last, and what to do when it refuses.

aiokafka reports such an error from `getmany`, and does not join again until then. Here nothing calls `getmany`, so a
refused worker would silently do nothing for ever.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from aiokafka.consumer import consumer, group_coordinator

from config.logs import EventLog
from config.settings import Settings
from streams.endings import Replaced, in_one_line
from topics.silence import Silence

#: aiokafka leaves a group for good when nothing was fetched for this long, but a spare worker, or one whose partitions
#: recover, rightly fetches nothing. The watchdog judges whether a worker makes progress.
IDLE_MAY_BE_MS = float("inf")
#: Kafka's answer to a member after another one took its name; aiokafka does not know this code.
FENCED_INSTANCE_ID = 82
#: How long to wait at the start until the brokers tell of themselves.
FIRST_BROKER_S = 30.0
#: How long Kafka may be silent before the log says so: longer than a group takes to move to another broker.
SILENT_S = 5.0

log = EventLog("streams.group")


class Membership:
    """A worker's state in its group; written by the thread that talks to the coordinator, read by others.

    It sees the group's coordinator only. Of a silent broker that leads partitions, their writers tell.
    """

    def __init__(self, settings: Settings, fail: Callable[[BaseException], None]) -> None:
        self._settings = settings
        self._fail = fail
        #: Whether the worker has its partitions (maybe none), and no rebalance is under way.
        self.joined = False
        self._ever_joined = False
        self._answered_at = time.monotonic()
        self._silence = Silence(log, at=settings.kafka)

    def silent(self) -> None:
        """The coordinator does not answer, or no broker says which one that is."""
        reason = "no answer from the group's coordinator: the worker keeps asking, and goes on by itself"
        self._silence.noticed(reason, self._answered_at)

    def answered(self) -> None:
        """The coordinator knows this member and said so."""
        self._silence.over()
        self._answered_at = time.monotonic()

    def has_its_share(self) -> None:
        """A generation of the group has begun with this member in it."""
        self.answered()
        self.joined = self._ever_joined = True

    def seeks_its_share(self) -> None:
        """The assignment of before no longer counts."""
        self.joined = False

    def refused(self, reason: BaseException) -> None:
        """The coordinator refuses this member: the worker ends, and says why."""
        # Asks the broker for the group's members: not in the thread that talks to the coordinator.
        threading.Thread(target=self._end, args=(reason,), name="refused", daemon=True).start()

    def _end(self, reason: BaseException) -> None:
        self._fail(in_one_line(reason, self._settings))

    def not_ready(self) -> list[str]:
        """Why the worker is not ready, as far as its group goes."""
        if not self.joined:
            if self._ever_joined:
                return ["the group is rebalancing"]
            return ["the group has not assigned this worker its partitions yet"]
        silent_s = time.monotonic() - self._answered_at
        if silent_s > self._settings.session_timeout_s:
            return [f"the group's coordinator has not answered for {silent_s:.0f} s"]
        return []


class GroupCoordinator(group_coordinator.GroupCoordinator):  # type: ignore[misc]
    """aiokafka's client of the coordinator, which reports to a Membership."""

    #: Set before the first subscription, so before the group is joined.
    membership: Membership
    member_id: str
    _group_instance_id: str | None
    _joining = False

    async def _on_join_prepare(self, previous_assignment: Any) -> None:
        self.membership.seeks_its_share()
        await super()._on_join_prepare(previous_assignment)

    async def ensure_coordinator_known(self) -> None:
        """Find the coordinator. A broker that has just started may tell of no brokers, at which aiokafka gives up."""
        with self._silence_noticed():
            with suppress(TimeoutError):
                async with asyncio.timeout(FIRST_BROKER_S):
                    while not self._client.cluster.brokers() and not self._closing.done():
                        await self._client.force_metadata_update()
                        await asyncio.sleep(self._retry_backoff_ms / 1000)
            await super().ensure_coordinator_known()

    @contextmanager
    def _silence_noticed(self) -> Iterator[None]:
        """Report it if what is awaited inside takes longer than a coordinator should."""
        alarm = asyncio.get_running_loop().call_later(SILENT_S, self.membership.silent)
        try:
            yield
        finally:
            alarm.cancel()

    async def _do_rejoin_group(self, subscription: Any) -> bool:
        self._joining = True
        try:
            joined: bool = await super()._do_rejoin_group(subscription)
        finally:
            self._joining = False
        if joined:
            self.membership.has_its_share()
        return joined

    async def _send_req(self, request: Any) -> Any:
        answer = await super()._send_req(request)
        if getattr(answer, "error_code", 0) == FENCED_INSTANCE_ID:
            self.membership.refused(Replaced())
        return answer

    def reset_generation(self) -> None:
        """Forget the generation; forget the member's id only if the coordinator does not know it on joining.

        With its id, a worker that another of the same name replaced is fenced; without, it would fence that one.
        """
        member_id = self.member_id
        super().reset_generation()
        if not self._joining:
            self.member_id = member_id

    async def _maybe_leave_group(self) -> None:
        """Leave. aiokafka's member with a name stays, and its partitions would wait for the session time-out."""
        name, self._group_instance_id = self._group_instance_id, None
        try:
            await super()._maybe_leave_group()
        finally:
            self._group_instance_id = name

    async def _do_heartbeat(self) -> bool:
        with self._silence_noticed():
            answered: bool = await super()._do_heartbeat()
        if answered:
            self.membership.answered()
        return answered

    async def _coordination_routine(self) -> None:
        """Be a member. aiokafka's routine ends for good on an unexpected error, such as a moment without any broker."""
        try:
            await super()._coordination_routine()
        except Exception as failure:
            self.membership.refused(failure)
            raise

    def _push_error_to_user(self, exc: BaseException) -> Awaitable[Any]:
        self.membership.refused(exc)
        waiting: Awaitable[Any] = super()._push_error_to_user(exc)
        return waiting


# aiokafka uses this class by name and offers no other hook; nothing else in this process uses it.
consumer.GroupCoordinator = GroupCoordinator
