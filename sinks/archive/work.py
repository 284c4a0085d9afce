"""Archive a month: seal it, once it is complete and its rows equal its topic; then move its whole partition.

Each of the two is one transaction, so a killed process leaves a month open, sealed, or archived, and the next run
continues from there. An advisory lock of the session lets only one process archive: the server rolls back what it did
not finish before another gets the lock.
"""

import os
import socket
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import UTC, date, datetime
from threading import Event
from types import TracebackType
from typing import NamedTuple, Self

import psycopg

from config.asking import ask_again, growing
from config.errors import Stopped
from config.logs import EventLog
from config.settings import Settings
from sinks.archive import complete as archive_complete
from sinks.archive import seals
from sinks.archive.compare import Advance, Mismatch, both_sides, refuse_difference
from sinks.archive.complete import Completeness
from sinks.archive.seals import Month, Seal
from sinks.names import ARCHIVE
from sinks.postgres import ARCHIVER, BUSY, Role, as_login, connect
from sinks.postgres.locks import holder as lock_holder
from sinks.postgres.migrations import check
from topics.lag import OpenInput
from topics.names import Topics
from topics.topic_log import TopicLog

log = EventLog("sinks.archive")

LOCK = int.from_bytes(b"archive", "big")
FIRST_PAUSE_S = 0.5


class LocksTaken(Stopped):
    """A month could not be moved because other sessions use its tables: nothing is wrong, and it may work later."""


class Moved(NamedTuple):
    """A finished move: no other session waited longer than the two times together."""

    month: Month
    waited_ms: float
    took_ms: float
    attempts: int


class Sealed(NamedTuple):
    """A month that was sealed; `seal_rows` snapshots were added for wallets that went quiet."""

    month: Month
    seal: Seal
    seal_rows: int
    took_s: float


class Waiting(NamedTuple):
    """A month that is not sealed, and why not; without reasons it may be sealed."""

    month: Month
    reasons: Collection[str]


class Archive:
    """One session with PostgreSQL, and Kafka's ledger topic. A context manager, for one thread."""

    def __init__(
        self,
        settings: Settings,
        doing: str,
        open_input: OpenInput,
        role: Role = ARCHIVER,
        *,
        wait_s: float | None = None,
    ) -> None:
        self._settings = settings
        self._open_input = open_input
        self._ledger: TopicLog | None = None
        # At most 63 characters, or PostgreSQL would cut it.
        name = f"wallet {doing} {socket.gethostname()[:30]}:{os.getpid()}"
        self.connection = connect(settings, role, wait_s=wait_s, name=name)
        try:
            check(self.connection)
            with suppress(psycopg.errors.InvalidParameterValue):  # some servers' systems cannot
                # For a killed client the server would finish a long statement first, and keep the lock until then.
                self.connection.execute("SET client_connection_check_interval = '1s'")
        except BaseException:
            self.connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(psycopg.Error):
            self.connection.close()
        if self._ledger:
            self._ledger.close()

    @property
    def ledger(self) -> TopicLog:
        """The ledger topic; connects on first use, since most looks find nothing due."""
        if self._ledger is None:
            self._ledger = TopicLog(
                self._settings, Topics.of(self._settings).ledger, self._settings.sink_group(ARCHIVE)
            )
        return self._ledger

    # -- the lock

    def is_ours(self) -> bool:
        """Take the lock that only one session can have; it is released when the session ends."""
        return self.connection.execute("SELECT pg_try_advisory_lock(%s)", [LOCK]).fetchone() == (True,)

    def holder(self) -> str:
        """The session that has the lock, for people. Asks as the login: the role does not see others' addresses."""
        with as_login(self.connection, ARCHIVER):
            return lock_holder(self.connection, LOCK) or "a session that has just ended"

    # -- what there is

    def months(self) -> list[Month]:
        """Months that have rows, the oldest first."""
        return seals.with_rows(self.connection)

    def seals(self) -> dict[date, Seal]:
        """The seals there are, by month."""
        return {seal.content.month: seal for seal in seals.read(self.connection)}

    def is_due(self, month: Month) -> bool:
        """Whether it is old enough."""
        return month.due_at(self._settings) <= datetime.now(UTC)

    def completeness(self, month: Month) -> Completeness:
        """Whether it is complete, and where it is in the topic."""
        begins: dict[int, int] = {}
        for seal in self.seals().values():
            if seal.content.month < month.first:
                for partition, _, after in seal.content.ranges:
                    begins[partition] = max(begins.get(partition, 0), after)
        return archive_complete.look(
            self._settings, self.connection, self.ledger, self._open_input, month, begins
        )

    # -- sealing

    def seal(self, month: Month, found: Completeness, advance: Advance) -> Sealed:
        """Seal a complete month, after all before it are sealed; raises Mismatch if it differs from its topic."""
        started = time.monotonic()
        rows, topic = both_sides(self.connection, self.ledger, month, found.begins, found.ends, advance)
        refuse_difference(self.connection, self.ledger, month, rows, topic, found.ends)
        with self.connection.transaction():
            seal, added = seals.add(self.connection, topic.content(month))
        sealed = Sealed(month, seal, added, time.monotonic() - started)
        log.info(
            "month_sealed",
            month=month.name,
            entries=seal.content.entries,
            snapshots_added=added,
            seal=seal.seal.hex(),
            took_s=round(sealed.took_s, 1),
        )
        return sealed

    # -- moving

    def move(self, month: Month, stop: Event | None = None) -> Moved | None:
        """Move a sealed month to the archive, trying until it gets the locks; None if it is there already.

        One attempt makes readers and writers wait at most `WALLET_LOCK_TIMEOUT_MS` and the change itself; pauses
        between attempts grow. Raises LocksTaken after `WALLET_STARTUP_WAIT_S`.
        """
        attempts = 0

        def attempt() -> Moved | None:
            nonlocal attempts
            attempts, started = attempts + 1, time.monotonic()
            with self.connection.transaction():
                row = self.connection.execute(
                    "SELECT archive_month(%s, %s)", [month.first, self._settings.lock_timeout_ms]
                ).fetchone()
            if not row or row[0] is None:
                return None
            return Moved(month, row[0], (time.monotonic() - started) * 1_000 - row[0], attempts)

        try:
            moved = ask_again(
                attempt,
                BUSY,
                growing(self._settings.retry_wait_s, FIRST_PAUSE_S),
                self._settings.startup_wait_s,
                stop,
                waiting=lambda _: log.info("move_waits_for_lock", month=month.name, attempts=attempts),
            )
        except BUSY as busy:
            raise LocksTaken(
                f"no locks within {self._settings.startup_wait_s:g} s to move {month.name}, which is sealed: "
                "look for a long transaction in pg_stat_activity; the next run moves it"
            ) from busy
        if moved:
            log.info(
                "month_moved",
                month=month.name,
                waited_ms=round(moved.waited_ms, 1),
                took_ms=round(moved.took_ms, 1),
                attempts=moved.attempts,
            )
        return moved

    # -- sealing and moving

    def work(
        self, advance_of: Callable[[Month, int], Advance], stop: Event, only: date | None = None
    ) -> tuple[list[Sealed], list[Moved], Waiting | None]:
        """Seal and move months, the oldest first, up to the first that has to wait, or up to `only`.

        `advance_of` gets a month and its number of offsets; what it returns is called with how many are read.
        """
        sealed, moved = list[Sealed](), list[Moved]()
        known = self.seals()
        if told := seals.broken(known.values()):
            raise Mismatch(told)
        for month in self.months():
            if stop.is_set() or (only and month.first > only):
                break
            if month.first not in known:
                if not self.is_due(month):
                    return sealed, moved, Waiting(month, [self.not_due(month)])
                found = self.completeness(month)
                if found.reasons:
                    return sealed, moved, Waiting(month, found.reasons)
                size = sum(end - found.begins[at] for at, end in found.ends.items())
                sealed.append(self.seal(month, found, advance_of(month, size)))
            if not month.archived and (done := self.move(month, stop)):
                moved.append(done)
        return sealed, moved, None

    def not_due(self, month: Month) -> str:
        """Why it is too recent."""
        return (
            f"it is due on {month.due_at(self._settings):%Y-%m-%d}, {self._settings.archive_after_days} days after "
            "its end (WALLET_ARCHIVE_AFTER_DAYS)"
        )
