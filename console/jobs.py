"""Work that takes longer than a request: one piece at a time, in a thread; pages show how far it is."""

from collections.abc import Callable
from datetime import UTC, datetime
from threading import Thread
from typing import Any

from config.errors import WalletError
from config.logs import EventLog
from config.times import rfc3339

log = EventLog("console.jobs")


class Job:
    """One kind of work, and how the last piece of it ended. From one event loop, except for the work itself."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._thread: Thread | None = None
        self.about: dict[str, Any] = {}
        self.started_at: datetime | None = None
        self.ended_at: datetime | None = None
        #: Steps done, of about how many.
        self.done = self.count = 0
        self.result: dict[str, Any] | None = None
        self.problem: str | None = None

    @property
    def runs(self) -> bool:
        """Whether a piece of work is in hand."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, about: dict[str, Any], work: Callable[["Job"], dict[str, Any]]) -> bool:
        """Begin; False if one is in hand."""
        if self.runs:
            return False
        self.about, self.started_at, self.ended_at = about, datetime.now(UTC), None
        self.done = self.count = 0
        self.result = self.problem = None
        self._thread = Thread(target=self._run, args=(work,), name=f"console-{self._name}", daemon=True)
        self._thread.start()
        return True

    def _run(self, work: Callable[["Job"], dict[str, Any]]) -> None:
        try:
            self.result = work(self)
        except WalletError as error:
            self.problem = str(error)
        except Exception as error:  # noqa: BLE001 - whoever looks at the page learns it
            log.failure("job_failed", error, job=self._name)
            self.problem = "an error of ours: see the console's log"
        self.ended_at = datetime.now(UTC)

    def fields(self) -> dict[str, Any]:
        """As pages and their JSON show it."""
        return {
            "about": self.about,
            "runs": self.runs and self.ended_at is None,
            "started_at": self.started_at and rfc3339(self.started_at),
            "ended_at": self.ended_at and rfc3339(self.ended_at),
            "done": self.done,
            "count": self.count,
            "result": self.result,
            "problem": self.problem,
        }
