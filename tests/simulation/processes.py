"""Simulated processes: threads of which one runs at a time, that stop, die or lie dormant where they are told.

The real code runs in them, unaware. Whatever it does to the world outside of its memory comes by
`Stage.effect`, and there a schedule may end the process (nothing of it after that line is done), or make it
a zombie: it lies dormant in the middle of its batch until the schedule lets it go on.
"""

import threading
from collections.abc import Callable

from tests.simulation.choices import Choices

#: What may happen at an effect. A crashed machine loses what its store had not flushed.
GO_ON, CRASH, PAUSE, MACHINE_CRASH = range(4)


class Crash(BaseException):
    """The process is gone; raised through the real code, which must do nothing more."""


class Clock:
    """Stands for the module `time` in the code under test: it moves when somebody waits."""

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s

    def time(self) -> float:
        """Seconds since the epoch."""
        return self.now_s

    def monotonic(self) -> float:
        """The same clock: nobody sets it back."""
        return self.now_s

    def sleep(self, seconds: float) -> None:
        """Waiting takes no time."""
        self.now_s += seconds


class _Actor:
    """A thread that plays one process after the other: to begin a thread costs as much as a short schedule."""

    def __init__(self) -> None:
        self.turn = threading.Lock()
        self.turn.acquire()
        self.play: Callable[[], None] | None = None
        threading.Thread(target=self._live, name="actor", daemon=True).start()

    def _live(self) -> None:
        while True:
            self.turn.acquire()
            if self.play is not None:
                self.play()


_idle: list[_Actor] = []


class Process:
    """One process: `resume` lets it run until it pauses or ends."""

    def __init__(self, stage: "Stage", name: str, body: Callable[[], None]) -> None:
        self.name = name
        self.dead = False
        self.ended = False
        self.machine_crashed = False
        self.failure: BaseException | None = None
        self._stage = stage
        self._body = body
        self._actor = _idle.pop() if _idle else _Actor()
        self._actor.play = self._play

    def resume(self) -> None:
        """Run on until the next pause or the end; called by the scheduler."""
        before, self._stage.running = self._stage.running, self
        self._actor.turn.release()
        self._stage.baton.acquire()
        self._stage.running = before

    def pause(self) -> None:
        """Give the turn back; called by the process itself."""
        self._stage.baton.release()
        self._actor.turn.acquire()
        if self.dead:
            raise Crash

    def kill(self) -> None:
        """End the process where it lies dormant; called by the scheduler."""
        self.dead = True
        if not self.ended:
            self.resume()

    def _play(self) -> None:
        try:
            if not self.dead:
                self._body()
        except Crash:
            pass
        except BaseException as failure:  # noqa: BLE001 - whatever it is, the schedule has found it
            self.failure = failure
        finally:
            self.ended = True
            _idle.append(self._actor)
            self._stage.baton.release()


class Stage:
    """Where processes run: whose turn it is, the schedule, the clock, and what happened so far."""

    def __init__(self, choices: Choices, now_s: float, crash: float = 0.0, pause: float = 0.0) -> None:
        self.choices = choices
        self.clock = Clock(now_s)
        self.baton = threading.Lock()
        self.baton.acquire()
        self.running: Process | None = None
        self.processes: list[Process] = []
        self.told: list[str] = []
        #: From here on nothing is broken any more: what is there must come to its end.
        self.calm = False
        #: In the order of CRASH, PAUSE, MACHINE_CRASH.
        self._dangers = (0.8 * crash, pause, 0.2 * crash)

    def start(self, name: str, body: Callable[[], None]) -> Process:
        """A new process, not yet running."""
        process = Process(self, name, body)
        self.processes.append(process)
        return process

    def tell(self, what: str) -> None:
        """Note what happened, for who reads a failed schedule."""
        self.told.append(f"{self.running.name if self.running else '-'}: {what}")

    def effect(self, what: str) -> None:
        """The running process is about to do this to the world; it may never come to it, or much later."""
        process = self.running
        if process is None:
            return
        if process.dead:
            raise Crash
        if self.calm:
            self.tell(what)
            return
        chosen = self.choices.rarely("effect", *self._dangers)
        if chosen == PAUSE:
            self.tell(f"pauses before {what}")
            process.pause()
        elif chosen:
            process.machine_crashed = chosen == MACHINE_CRASH
            process.dead = True
            self.tell(f"{'machine crashes' if process.machine_crashed else 'crashes'} before {what}")
            raise Crash
        self.tell(what)

    def fault(self, about: str, *probabilities: float) -> int:
        """Whether the world misbehaves here: 0, or in which way."""
        return 0 if self.calm else self.choices.rarely(about, *probabilities)

    def wait(self, seconds: float, what: str) -> None:
        """The running process waits for somebody else: it gives its turn away."""
        self.clock.sleep(seconds)
        process = self.running
        if process is not None:
            if process.dead:
                raise Crash
            self.tell(what)
            process.pause()
