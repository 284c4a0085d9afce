"""The archive as a sink: it reads the snapshots, which show that time has passed, and archives months that are due.

Reading them writes only its position. New snapshots ring a bell, and so does a schedule; another thread then does the
work, so that the sink continues to read and stays in its group. It always looks at the start, to find work that a
killed process did not finish.
"""

import time
from collections.abc import Sequence
from threading import Event, Thread

import psycopg
from prometheus_client import Counter, Gauge

from config.asking import growing
from config.errors import NotReachable
from config.logs import EventLog
from config.settings import Settings
from sinks.archive.compare import Advance
from sinks.archive.seals import Month
from sinks.archive.work import Archive, LocksTaken, Moved, Sealed
from sinks.names import ARCHIVE
from sinks.observer import Observer
from sinks.postgres import ARCHIVER, reason_to_wait
from sinks.sink import Record, Rows
from topics.lag import OpenInput

log = EventLog("sinks.archive")

MONTHS_SEALED = Counter("wallet_archive_months_sealed", "Months that this process sealed.")
MONTHS_MOVED = Counter("wallet_archive_months_moved", "Months that this process moved to the archive.")
ROWS = Counter("wallet_archive_rows", "Rows of the months that this process sealed.")
LOCK_WAIT = Gauge(
    "wallet_archive_last_lock_wait_seconds",
    "How long the newest move waited for its locks and held them: no other session waited longer.",
)

#: Look for due months no more often than this, however many snapshots come.
LEAST_PAUSE_S = 10.0
PROGRESS_EVERY_S = 10.0


class ArchiveSink:
    """Reads snapshots and makes no rows of them."""

    name = ARCHIVE
    role = ARCHIVER

    def __init__(self, topic: str) -> None:
        self.topic = topic

    def rows(self, records: Sequence[Record]) -> Rows:  # noqa: ARG002 - the signature is the protocol's
        """None: only their arrival counts."""
        return Rows(())

    def source_offset(self, record: Record) -> None:
        """None: a snapshot does not say what came before it."""


class Bell(Observer):
    """Rings when snapshots were read."""

    def __init__(self) -> None:
        self.rung = Event()

    def wrote(self, sink: str, records: int, seconds: float) -> None:  # noqa: ARG002 - Observer's signature
        """A batch is written."""
        if sink == ArchiveSink.name:
            self.rung.set()


class Keeper:
    """Archives what is due, in its own thread, until stopped."""

    def __init__(
        self,
        settings: Settings,
        open_input: OpenInput,
        bell: Bell,
        stop: Event,
        observer: Observer,
        failures: list[BaseException],
    ) -> None:
        self._settings = settings
        self._open_input = open_input
        self._bell = bell
        self._stop = stop
        self._observer = observer
        self._failures = failures
        self._told: tuple[str, ...] = ()
        self._thread = Thread(target=self._run, name="archive-keeper")

    def start(self) -> None:
        """Begin with a look."""
        self._thread.start()

    def join(self) -> None:
        """Wait until the work in hand is done; `stop` must be set."""
        self._bell.rung.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            pauses = growing(self._settings.retry_wait_s)
            while not self._stop.is_set():
                try:
                    soon = self._look()
                except (psycopg.Error, NotReachable, LocksTaken) as error:
                    if self._stop.is_set():
                        return
                    if isinstance(error, LocksTaken):
                        reason = str(error)
                    else:
                        reason = reason_to_wait(error, "the archive cannot continue")
                    log.warning("archive_waits", reason=reason)
                    self._observer.waiting(ArchiveSink.name, reason)
                    self._stop.wait(next(pauses))
                else:
                    pauses = growing(self._settings.retry_wait_s)
                    self._observer.goes_on(ArchiveSink.name)
                    self._wait(soon)
        except BaseException as error:  # noqa: BLE001 - raised again by run, in the thread that called it
            log.warning("archive_stopped", reason=str(error) or type(error).__name__)
            self._failures.append(error)
            self._stop.set()

    def _wait(self, soon: bool) -> None:
        """Wait for the bell or the schedule, but at least for a pause; `soon`: only for a pause."""
        every_s = self._settings.archive_every_s
        self._stop.wait(min(LEAST_PAUSE_S, every_s))
        if not (soon or self._stop.is_set()):
            self._bell.rung.wait(max(0.0, every_s - LEAST_PAUSE_S))
        self._bell.rung.clear()

    def _look(self) -> bool:
        """Archive what may be archived; returns whether to look again soon, since another process is archiving."""
        with Archive(self._settings, "sink archive", self._open_input, wait_s=0) as archive:
            if not self._is_anything_due(archive):
                return False
            if not archive.is_ours():
                self._tell("all", f"another process is archiving: {archive.holder()}")
                return True
            sealed, moved, waiting = archive.work(self._advance_of, self._stop)
            self._count(sealed, moved)
            if waiting and archive.is_due(waiting.month):
                self._tell(waiting.month.name, *waiting.reasons)
            return False

    def _is_anything_due(self, archive: Archive) -> bool:
        """Whether any month is due. Does not ask Kafka, so that a look is cheap."""
        return any(archive.is_due(month) and not month.archived for month in archive.months())

    def _count(self, sealed: Sequence[Sealed], moved: Sequence[Moved]) -> None:
        MONTHS_SEALED.inc(len(sealed))
        MONTHS_MOVED.inc(len(moved))
        ROWS.inc(sum(one.seal.content.entries for one in sealed))
        for one in moved:
            LOCK_WAIT.set((one.waited_ms + one.took_ms) / 1_000)

    def _tell(self, *what: str) -> None:
        """Log once what the archive waits for."""
        if what != self._told:
            log.info("month_waits", month=what[0], reasons="; ".join(what[1:]))
            self._told = what

    def _advance_of(self, month: Month, size: int) -> Advance:
        told_at = time.monotonic()

        def advance(done: int) -> None:
            nonlocal told_at
            if self._stop.is_set():
                raise NotReachable("stopped while sealing a month: nothing of it is sealed")
            if time.monotonic() - told_at > PROGRESS_EVERY_S:
                told_at = time.monotonic()
                log.info("sealing", month=month.name, done=done, of=size)

        return advance
