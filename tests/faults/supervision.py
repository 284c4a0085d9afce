"""The programs of a run, each started again when it ends, as systemd would; how each of them ended is kept."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.faults.schedule import ON_SMALL_DISK

#: Between the end of a program and its next start.
RESTART_S = 1.0
#: What docs/operations tells a supervisor to grant a program that was told to stop.
STOP_S = 60.0
LOOK_S = 0.1

#: Exit codes of docs/commands.md with which a program may end by itself while its servers come and go:
#: 3, something did not answer; 5, it ended itself to keep the ledger exact.
BY_ITSELF = frozenset({3, 5})
#: And on a disk that is full: 4, a store that cannot be opened.
ON_FULL_DISK = BY_ITSELF | {4}
#: A `wallet` command for which aiokafka counts every second without a fetch as an hour.
IDLE_FOR_HOURS = """
from aiokafka.consumer.subscription_state import SubscriptionState
idle_s = SubscriptionState.fetcher_idle_time.fget
SubscriptionState.fetcher_idle_time = property(lambda self: 3600 * idle_s(self))
from operations.main import main
main()
"""


@dataclass(frozen=True)
class End:
    """How one life of a program ended, and the signal that we sent, if any; -9 and the like mean a signal."""

    program: str
    at_s: float
    code: int
    sent: signal.Signals | None

    @property
    def expected(self) -> bool:
        """Whether a program may end like that."""
        by_itself = ON_FULL_DISK if self.program == ON_SMALL_DISK else BY_ITSELF
        if self.sent is signal.SIGKILL:
            return self.code in {-signal.SIGKILL, 0} | by_itself
        if self.sent is signal.SIGTERM:  # -15: before it had begun to listen to signals
            return self.code in {-signal.SIGTERM, 0} | by_itself
        return self.code in by_itself


class Program:
    """One `wallet` command under supervision: its log, its environment, and how its lives ended.

    Only one fault at a time works on it (`Scene.alone_with`).
    """

    def __init__(
        self, name: str, words: Sequence[str], environment: Mapping[str, str], folder: Path, state: Path
    ) -> None:
        self.name = name
        self.state = state
        self.log = folder / f"{name}.log"
        self.ends: list[End] = []
        #: Told to stop, but killed since it did not within STOP_S.
        self.overdue = 0
        #: The most memory of any of its lives, in bytes.
        self.peak_bytes = 0
        self._words = [sys.executable, "-c", IDLE_FOR_HOURS, *words]
        self._environment = {**environment, "WALLET_STATE_DIR": str(state)}
        self._life: subprocess.Popen[bytes] | None = None
        self._sent: signal.Signals | None = None
        self._held = True
        self._again_at = 0.0
        self._lock = threading.RLock()

    def release(self, **more: str) -> None:
        """Have it running from now on, at once, with these variables added to its environment."""
        with self._lock:
            self.look()
            self._held = False
            self._start(more)

    def kill(self) -> None:
        """SIGKILL; it is started again after the usual pause."""
        with self._lock:
            if self._life and self._life.poll() is None:
                self._send(signal.SIGKILL)
                self._life.wait()
            self.look()

    def stop(self) -> None:
        """SIGTERM, and wait until it has ended; it is started again after the usual pause."""
        life = self._life
        if life is None or life.poll() is not None:
            return
        self._send(signal.SIGTERM)
        try:
            life.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.overdue += 1
            self._send(signal.SIGABRT)  # it tells where each of its threads is
            life.wait()
        self.look()

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """It does nothing meanwhile, and does not know (SIGSTOP, SIGCONT)."""
        life = self._life
        if life and life.poll() is None:
            life.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            if life and life.poll() is None:
                life.send_signal(signal.SIGCONT)

    def hold(self) -> None:
        """Do not start it again when it ends, until it is released."""
        with self._lock:
            self._held = True

    def lose_state(self) -> None:
        """Delete its stores, as a disk that breaks does; what is mounted there stays, empty."""
        for path in self.state.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def times_told(self, event: str) -> int:
        """How often its log has this event, in all its lives."""
        return self.log.read_text(errors="replace").count(f" {event} ") if self.log.exists() else 0

    def look(self) -> None:
        """Write down that it has ended, and start it again when the pause is over."""
        with self._lock:
            if self._life is not None and (code := self._life.poll()) is not None:
                self.ends.append(End(self.name, time.monotonic(), code, self._sent))
                self._life = None
                self._again_at = time.monotonic() + RESTART_S
            if self._life is not None:
                self.peak_bytes = max(self.peak_bytes, peak_bytes(self._life.pid))
            if self._life is None and not self._held and time.monotonic() >= self._again_at:
                self._start({})

    def _start(self, more: Mapping[str, str]) -> None:
        if self._life is not None:
            return
        self.state.mkdir(parents=True, exist_ok=True)
        ours = {name: value for name, value in os.environ.items() if not name.startswith("WALLET_")}
        self._sent = None
        with self.log.open("ab") as output:
            self._life = subprocess.Popen(
                self._words,
                env={**ours, **self._environment, **more, "PYTHONFAULTHANDLER": "1"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _send(self, number: signal.Signals) -> None:
        with self._lock:
            if self._life:
                self._sent = number
                self._life.send_signal(number)


def peak_bytes(pid: int) -> int:
    """The most memory that a process has had so far, as Linux tells it; 0 for one that has just ended."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        for line in lines:
            if line.startswith("VmHWM:"):
                return 1_024 * int(line.split()[1])
    return 0


class Supervisor:
    """Looks after all programs in a thread of its own."""

    def __init__(self, programs: Sequence[Program]) -> None:
        self._programs = programs
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="supervisor")
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(LOOK_S):
            for program in self._programs:
                program.look()

    def stop_all(self) -> None:
        """Tell every program to stop, in order, and start none again."""
        self._end()
        with ThreadPoolExecutor(len(self._programs)) as hands:
            list(hands.map(Program.stop, self._programs))
        for program in self._programs:
            program.look()

    def kill_all(self) -> None:
        """End whatever still runs."""
        self._end()
        for program in self._programs:
            program.kill()

    def _end(self) -> None:
        for program in self._programs:
            program.hold()
        self._ended.set()
        self._thread.join()
