"""Work in threads of its own, one piece of a kind at a time: what a request waits for, and what takes longer."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from threading import Event, Thread
from typing import Any, Generic, TypeVar

from fastapi import Request

from config.errors import WalletError
from config.logs import EventLog
from config.times import rfc3339
from console.problems import away

log = EventLog("console.jobs")


T = TypeVar("T")

#: Seconds that a request waits for the one before it, which may have been given up a moment ago.
TURN_S = 2.0


class Question(Generic[T]):
    """One kind of work that requests wait for: it is told to stop when its request is over, or its client gone.

    `what` and `instead` are for messages: the work, and what to do where it takes longer than `most_s`.
    """

    def __init__(self, what: str, most_s: float, instead: str) -> None:
        self._what, self._most_s, self._instead = what, most_s, instead
        self._turn = asyncio.Lock()

    async def ask(self, request: Request, work: Callable[[Event], T]) -> T:
        """What `work` returns or raises; Problem 503 while another piece is in hand, or if it takes too long."""
        try:
            async with asyncio.timeout(TURN_S):
                await self._turn.acquire()
        except TimeoutError:
            raise away(f"{self._what} is in hand for another request: try again in a moment") from None
        loop, stop = asyncio.get_running_loop(), Event()
        answer: asyncio.Future[T] = loop.create_future()
        answer.add_done_callback(asyncio.Future.exception)  # nobody may be there to look at it

        def ended(settle: Callable[[Any], None], value: object) -> None:
            self._turn.release()
            settle(value)

        def run() -> None:
            with suppress(RuntimeError):  # the console has ended meanwhile
                try:
                    found = work(stop)
                except Exception as failure:  # noqa: BLE001 - it is raised where it is awaited
                    loop.call_soon_threadsafe(ended, answer.set_exception, failure)
                else:
                    loop.call_soon_threadsafe(ended, answer.set_result, found)

        Thread(target=run, name=f"console: {self._what}", daemon=True).start()
        gone = asyncio.create_task(_gone(request))
        first: set[asyncio.Future[Any]] = {answer, gone}
        try:
            await asyncio.wait(first, timeout=self._most_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.set()
            gone.cancel()
        if not answer.done():
            raise away(f"{self._what} takes longer than {self._most_s:g} s: {self._instead}")
        return answer.result()


async def _gone(request: Request) -> None:
    """Return when the client of a request without a body has disconnected."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


class Job:
    """One kind of work that takes longer than a request, and how the last piece of it ended.

    From one event loop, except for the work itself.
    """

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


def job_of(request: Request, name: str) -> Job:
    """The console's one job of this name."""
    jobs: dict[str, Job] = request.app.state.jobs
    return jobs.setdefault(name, Job(name))
