"""A server of the local stack: start it in the background, find it again, and signal it only if it is ours."""

import contextlib
import os
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from config.asking import in_time
from config.errors import NotReachable

#: Takes one line, such as "starting Kafka".
Progress = Callable[[str], None]
POLL_S = 0.05


def silent(_line: str) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class Running:
    """A started server: its pid, and its start time, since pids are reused."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Self:
        """The process that has this pid now."""
        return cls(pid, start_time(pid) or "ended at once")


class Server(ABC):
    """A server whose files are in `folder`, reached on 127.0.0.1:`port`."""

    folder: Path
    port: int
    #: Its name for people and for its files, and the signal for an orderly shutdown.
    name: str
    program: str
    stop_signal: signal.Signals

    @property
    def log(self) -> Path:
        """Its output since its last start."""
        return self.folder / f"{self.program}.log"

    @property
    def _disk(self) -> Path:
        return self.folder / self.program

    @property
    @abstractmethod
    def address(self) -> str:
        """Its address for clients."""

    @abstractmethod
    def prepare(self, progress: Progress) -> None:
        """Create its files if there are none; called before every start."""

    @abstractmethod
    def command(self) -> list[str]:
        """The command line, its first word an absolute path."""

    @abstractmethod
    def is_ready(self, running: Running) -> bool:
        """Whether it answers."""

    def stopped(self) -> None:  # noqa: B027 - most have nothing to do
        """Called after an orderly shutdown."""

    def made(self, what: str, command: list[str], standard_input: str = "") -> None:
        """Run a program that makes its files; raises NotReachable with the last line of its output, kept in the log."""
        done = subprocess.run(command, input=standard_input, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            self.log.write_text(done.stdout + done.stderr)
            raise NotReachable(f"{what}: {last_line(self.log)} (see {self.log})")


def start_time(pid: int) -> str | None:
    """When the process with this pid started, as text to compare; None if there is no such process.

    On Linux it is the boot id and clock ticks since boot, which clock changes do not affect. Not psutil, which adds the
    boot time by the clock and knows no boot: kept in a file, its time would not be this process's after a step of NTP.
    """
    proc = Path("/proc")
    if (proc / "self" / "stat").exists():
        try:
            # the name (second field, in parentheses) may contain spaces: count fields from its end
            fields = (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        boot = (proc / "sys/kernel/random/boot_id").read_text().strip()
        return None if fields[0] in "ZX" else f"{boot}:{fields[19]}"
    ps = ["/bin/ps", "-o", "lstart=", "-p", str(pid)]
    found = subprocess.run(ps, capture_output=True, text=True, check=False)
    return found.stdout.strip() or None


def is_alive(running: Running | None) -> bool:
    """Whether this server still runs, and not another program with its pid."""
    if running is None:
        return False
    with contextlib.suppress(ChildProcessError):  # reap it if it is our dead child
        os.waitpid(running.pid, os.WNOHANG)
    return start_time(running.pid) == running.started


def spawn(server: Server) -> Running:
    """Start it detached from this terminal, with its output in its log; keeps the previous log."""
    if server.log.exists():
        server.log.replace(server.log.with_suffix(".log.1"))
    command = server.command()
    # Not Popen, which wants to wait for its children: these outlive us on purpose.
    pid = os.posix_spawn(
        command[0],
        command,
        dict(os.environ),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(server.log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    return Running.of(pid)


def wait_until_ready(server: Server, running: Running, patience_s: float = 60.0) -> None:
    """Return when it answers; raises NotReachable if it ends or stays silent, and names its log."""

    def is_ready() -> bool:
        if server.is_ready(running):
            return True
        if not is_alive(running):
            raise NotReachable(
                f"{server.name} ended while starting: {last_line(server.log)} (see {server.log})"
            )
        return False

    if not in_time(is_ready, POLL_S, patience_s):
        raise NotReachable(f"{server.name} did not answer within {patience_s:.0f} s (see {server.log})")


def stop(server: Server, running: Running, patience_s: float = 30.0) -> None:
    """Stop it orderly, or with SIGKILL if it does not end in time."""
    send(running, server.stop_signal)
    if wait_until_dead(running, patience_s):
        server.stopped()
    else:
        kill(running)


def kill(running: Running) -> None:
    """SIGKILL it and its children, like a power cut, and return when all are gone."""
    if not is_alive(running):
        return
    family = [running, *_children(running)]
    for member in family:
        send(member, signal.SIGKILL)
    for member in family:
        wait_until_dead(member, patience_s=30.0)


@contextlib.contextmanager
def suspended(running: Running) -> Iterator[None]:
    """Pause it and its children with SIGSTOP; they continue afterwards."""
    send(running, signal.SIGSTOP)
    # After the parent, which cannot start more of them now.
    family = [running, *_children(running)]
    for member in family[1:]:
        send(member, signal.SIGSTOP)
    try:
        yield
    finally:
        for member in family:
            send(member, signal.SIGCONT)


def send(running: Running, what: signal.Signals) -> None:
    """Signal it if the pid is still its own."""
    if is_alive(running):
        with contextlib.suppress(ProcessLookupError):
            os.kill(running.pid, what)


def _children(running: Running) -> list[Running]:
    """Its children: Postgres has a process per session, and while one lives the files are in use."""
    try:
        pids = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    except OSError:  # not Linux, or gone: they end on their own once their parent is gone
        return []
    return [Running.of(int(pid)) for pid in pids]


def wait_until_dead(running: Running, patience_s: float) -> bool:
    """Wait; returns whether it ended within this time."""
    return in_time(lambda: not is_alive(running), POLL_S, patience_s)


def last_line(log: Path) -> str:
    """The last line of a log that is not blank."""
    lines = (
        [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        if log.exists()
        else []
    )
    return lines[-1].strip() if lines else "it said nothing"
