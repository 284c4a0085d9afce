"""A console's view of Kafka: the followers, the newest outcomes, how fresh the tables are, and the producer.

Kafka may be away when a console starts, and later: requests that need it then get an error.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from threading import Event, Thread
from typing import TypeVar

from config.errors import WalletError
from config.settings import Settings
from console import tables
from console.database import Database, told
from console.encoding import entry_of_record, position, strings
from console.finding import Finder
from console.following import Follower, followers, pipeline_settings
from console.freshness import Freshness
from console.outcomes import Outcome, Outcomes, Posted, Refused, Source
from console.problems import Problem, away, not_found, wrong
from console.sending import Sender
from console.tables import Answer
from operations.looking import status
from schemas.codec import HEADER_BYTES, decode_entry
from schemas.records import LedgerEntry, Reason
from topics.cluster import quiet_admin
from topics.names import Topics

T = TypeVar("T")

#: Most concurrent searches in the topics.
LOOKING = 4
#: Seconds between reads of the sinks' positions while requests wait for rows, once for all of them.
POSITIONS_EVERY_S = 0.05
#: Seconds for finding the entry that a DUPLICATE repeats.
FIRST_S = 5.0
STATUS_EVERY_S = 1.0
STATUS_KEPT_S = 30.0
REASONS_EVERY_S = 5.0


class Live:
    """All of it, for one event loop."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.settings = settings
        self.database = database
        self.outcomes = Outcomes(
            settings.console_memory_mb * 1024 * 1024, settings.console_waiting, settings.console_feeds
        )
        self._stop = Event()
        self._freshness: Freshness | None = None
        self._followers: tuple[Follower, ...] = ()
        self._sender: Sender | None = None
        self._finder: Finder | None = None
        self._looking = asyncio.Semaphore(LOOKING)
        self._positions_task: asyncio.Task[None] | None = None
        self._moved = asyncio.Condition()
        #: Where the sinks are, by topic and partition; and the input offsets below which the tables are complete.
        self._positions: dict[tuple[str, int], int] = {}
        self._complete: dict[str, str] = {}
        self._row_waiters = 0
        self._status: tuple[float, Answer] | None = None
        self._status_lock = asyncio.Lock()
        self._status_task: asyncio.Task[Answer] | None = None
        self._reasons: tuple[float, dict[str, int]] | None = None
        self._starter = Thread(target=self._start, name="console-starter", daemon=True)
        #: Set when the console ends, to wake waiting requests.
        self.ending = asyncio.Event()

    # -- life

    async def open(self) -> None:
        """Start in the background, without waiting for Kafka."""
        self.outcomes.loop = asyncio.get_running_loop()
        self._starter.start()

    def _start(self) -> None:
        ruled = pipeline_settings(self.settings, self._stop)
        if ruled is None:
            return
        self._followers = followers(ruled, self.outcomes, self._stop)
        freshness = Freshness(ruled, *self._followers, self._stop)
        for follower in self._followers:
            follower.start()
        freshness.start()
        self.settings, self._freshness = ruled, freshness

    async def close(self) -> None:
        """Close everything."""
        self.ending.set()
        self._stop.set()
        if self._positions_task is not None:
            self._positions_task.cancel()
        if self._sender is not None:
            await self._sender.close()
        for follower in self._followers:
            await asyncio.to_thread(follower.join, 3.0)
        if self._freshness is not None:
            await asyncio.to_thread(self._freshness.join, 3.0)

    # -- how fresh

    @property
    def freshness(self) -> Freshness:
        """How fresh the tables are; Problem 503 until Kafka was reached."""
        if self._freshness is None:
            raise away("Kafka does not answer, or has no pipeline yet")
        return self._freshness

    @property
    def problem(self) -> str | None:
        """Why Kafka cannot be followed at the moment, or None."""
        return "it was not reached yet" if self._freshness is None else self._freshness.problem

    async def wait_for_row(self, source: Source, wait_s: float) -> bool:
        """Wait; returns whether the outcome of a record is in the tables."""
        self._must_have(source)
        deadline = time.monotonic() + wait_s
        self._row_waiters += 1
        try:
            if self._positions_task is None or self._positions_task.done():
                self._positions_task = asyncio.create_task(self._watch_positions())
            async with self._moved:
                while not self._has_row(source):
                    left_s = deadline - time.monotonic()
                    if left_s <= 0 or self.ending.is_set():
                        return False
                    try:
                        async with asyncio.timeout(left_s):
                            await self._moved.wait()
                    except TimeoutError:
                        return self._has_row(source)
            return True
        finally:
            self._row_waiters -= 1

    def _has_row(self, source: Source) -> bool:
        outcome = self.outcomes.get(source)
        if outcome is None:
            return int(self._complete.get(str(source[0]), 0)) > source[1]
        names = Topics.of(self.settings)
        topic = names.ledger if type(outcome) is Posted else names.rejections
        return self._positions.get((topic, source[0]), 0) > outcome.offset

    async def _watch_positions(self) -> None:
        while self._row_waiters:
            try:
                async with self.database.asking() as connection:
                    self._positions = await tables.sink_positions(connection)
                    self._complete = (await tables.complete_until(connection))["positions"]
            except Exception:  # noqa: BLE001 - PostgreSQL is away: waiting requests get their answer when their time is over
                await asyncio.sleep(0.5)
            async with self._moved:
                self._moved.notify_all()
            await asyncio.sleep(POSITIONS_EVERY_S)

    # -- outcomes

    def _must_have(self, source: Source) -> None:
        if source[0] >= self.settings.partitions:
            raise not_found(f"the pipeline has partitions 0 to {self.settings.partitions - 1}")

    async def outcome(self, source: Source, wait_s: float) -> Outcome | None:
        """The outcome of a record; None while it is pending. Problem 404 if there is no record."""
        freshness, asked_at = self.freshness, time.monotonic()
        self._must_have(source)
        if (known := self.outcomes.get(source)) is not None:
            return known
        if source[1] >= freshness.decided(source[0]):
            if (known := await self.outcomes.wait(source, wait_s)) is not None:
                return known
            if source[1] >= freshness.decided(source[0]):
                absent = freshness.has_not(source, asked_at)
                if absent or await self._search(Finder.is_record, source) is False:
                    where = position(*source)
                    raise not_found(f"the input has no record at {where}", source=where)
                return None
        if (found := await self._search(Finder.outcome_of, source)) is None:
            where = position(*source)
            raise not_found(
                f"neither ledger nor rejections name {where}: there was no record, or retention has deleted its "
                "outcome",
                source=where,
            )
        return found

    async def must_have_come(self, source: Source) -> None:
        """Raise Problem 400 for a position that the input has not reached."""
        if self.outcomes.get(source) is None and source[1] >= self.freshness.lag()[source[0]][1]:
            end = await self._search(Finder.end_of_input, source)
            if source[1] >= end:
                raise wrong(f"{position(*source)} is not a position yet: the partition ends at {end}")

    async def _search(self, search: Callable[[Finder, Source], T], source: Source) -> T:
        if self._finder is None:
            self._finder = Finder(self.settings)
        async with self._looking:
            try:
                return await asyncio.to_thread(search, self._finder, source)
            except WalletError as error:
                raise told(error) from None

    async def posted_first(self, source: Source, wallet_id: str, transaction_id: str) -> Answer | None:
        """The entry that a DUPLICATE repeats; None if neither the memory nor the tables have it within FIRST_S.

        Both may be behind: a rejection may be read here before the ledger is.
        """
        deadline, pause_s = time.monotonic() + FIRST_S, POSITIONS_EVERY_S
        while True:
            known = self.outcomes.posted_before(source, wallet_id.encode(), transaction_id)
            if known is not None and entry_in(known).transaction.transaction_id == transaction_id:
                return entry_of_record(entry_in(known))
            with suppress(Problem):
                async with self.database.asking() as connection:
                    found = await tables.entry_of_transaction(connection, wallet_id, transaction_id, source)
                if found is not None:
                    return found
            if time.monotonic() > deadline or self.ending.is_set():
                return None
            await asyncio.sleep(pause_s)
            pause_s = min(1.0, 2 * pause_s)

    # -- the way in

    def sender(self) -> Sender:
        """The producer, created on first use."""
        _ = self.freshness
        if self._sender is None:
            self._sender = Sender(self.settings)
        return self._sender

    # -- status

    async def status(self) -> Answer:
        """The same as `wallet status --json`, at most a second old."""
        async with self._status_lock:
            if self._status is None or time.monotonic() - self._status[0] > STATUS_EVERY_S:
                ruled = self.settings.model_copy(update={"startup_wait_s": 1.0})
                try:
                    found = await asyncio.to_thread(lambda: status.look(ruled, quiet_admin(ruled)))
                except WalletError as error:
                    raise told(error) from None
                self._status = time.monotonic(), strings(asdict(found))
            return self._status[1]

    def status_if_known(self) -> Answer | None:
        """The last known status; refreshes it in the background, which may take seconds."""
        if self._status_task is None or self._status_task.done():
            if self._status_task is not None and not self._status_task.cancelled():
                self._status_task.exception()  # it was logged
            self._status_task = asyncio.create_task(self.status())
        known = self._status
        return known[1] if known and time.monotonic() - known[0] < STATUS_KEPT_S else None

    async def reasons(self) -> dict[str, int]:
        """Rejections by reason, cached for a few seconds, since it counts all of them."""
        if self._reasons is None or time.monotonic() - self._reasons[0] > REASONS_EVERY_S:
            async with self.database.asking() as connection:
                self._reasons = time.monotonic(), await tables.rejections_by_reason(connection)
        return self._reasons[1]


def entry_in(outcome: Posted) -> LedgerEntry:
    """The entry of a record of the ledger."""
    return decode_entry(outcome.value[HEADER_BYTES:])


def outcome_fields(source: Source, outcome: Outcome) -> Answer:
    """An outcome as the API writes it."""
    where = position(*source)
    if isinstance(outcome, Refused):
        return {"source": where, "outcome": "rejected", "reason": outcome.reason, "detail": outcome.detail}
    return {"source": where, "outcome": "posted", "entry": entry_of_record(entry_in(outcome))}


def pending_fields(source: Source) -> Answer:
    """The same of a record that is not decided yet."""
    return {"source": position(*source), "outcome": "pending"}


def is_duplicate(outcome: Outcome) -> bool:
    """Whether a record was refused because its wallet had posted the same before."""
    return isinstance(outcome, Refused) and outcome.reason == Reason.DUPLICATE
