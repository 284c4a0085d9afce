"""Child processes of a command, which never outlive it.

The starter normally stops them; `attended` ones end even when it was killed.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Self

from config.errors import Stopped

#: `wallet` as this very code, by the path of its file: its package is on no other process's path.
COMMAND = (sys.executable, str(Path(__file__).parents[1] / "__main__.py"))
#: Seconds after which a child that was asked to stop is killed.
STOP_S = 15.0
LAST_LINES = 12


class Child:
    """One command in its own process, with its output in a file."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        folder: Path | None = None,
    ) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            # In its own session, Ctrl-C does not reach it: we stop our children in order.
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and our own words
                command,
                env={**os.environ, **environment},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id, for measurements."""
        return self._process.pid

    def raise_if_ended(self) -> None:
        """Raise Stopped with the child's last lines if it has ended."""
        code = self._process.poll()
        if code is None:
            return
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
        told = "".join(f"\n    {line}" for line in lines)
        raise Stopped(f"{self.name} ended unexpectedly with code {code}; its log {self.log} ends with:{told}")

    def kill(self) -> None:
        """End it with SIGKILL, like a power failure."""
        self._process.kill()
        self._process.wait()

    def ask_to_stop(self) -> None:
        """Send SIGTERM if it still runs."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def wait(self) -> None:
        """Wait until it has ended; kill it if it does not."""
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()


class Children:
    """All children of one command; leaving the `with` block stops them all.

    Their logs are in `folder`. Their working folder is `works_in`: a `.env` file there adds to their settings.
    """

    def __init__(self, environment: Mapping[str, str], folder: Path, *, works_in: Path | None = None) -> None:
        self._environment = environment
        self._folder = folder
        self._works_in = works_in
        self._running: list[Child] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._running:
            child.ask_to_stop()
        for child in self._running:
            child.wait()

    def start(self, name: str, *arguments: str) -> Child:
        """Start `wallet ARGUMENTS`; `name` is for logs and messages."""
        return self.start_command(name, *COMMAND, *arguments)

    def start_command(self, name: str, *command: str) -> Child:
        """Start any program; `name` is for logs and messages."""
        log = self._folder / f"{name.replace(' ', '-')}.log"
        child = Child(name, command, self._environment, log, self._works_in)
        self._running.append(child)
        return child

    def kill(self, child: Child) -> None:
        """End one of them with SIGKILL and forget it."""
        child.kill()
        self._running.remove(child)

    def raise_if_ended(self) -> None:
        """Raise Stopped if one of them has ended on its own."""
        for child in self._running:
            child.raise_if_ended()


@contextlib.contextmanager
def on_signals(action: Callable[[int, FrameType | None], None], *signals: signal.Signals) -> Iterator[None]:
    """Do this when one of these comes."""
    before = {number: signal.signal(number, action) for number in signals}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def attended(*arguments: str) -> tuple[str, ...]:
    """The command line of `wallet ARGUMENTS` that ends when this process was killed.

    A worker would otherwise run forever with nobody watching it.
    """
    return sys.executable, str(Path(__file__).with_name("attended.py")), str(os.getpid()), *arguments


def stopping_on_signals() -> contextlib.AbstractContextManager[None]:
    """SIGTERM and SIGHUP end the children as Ctrl-C does."""

    def stop(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    return on_signals(stop, signal.SIGTERM, signal.SIGHUP)
