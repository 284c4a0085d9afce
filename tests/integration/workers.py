"""Workers as child processes, and waits that are bounded."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Self

from config.errors import WalletError
from config.settings import Settings
from operations.cli.context import environment
from tests.forked import Forked, may_be_forked

#: Waits end after so long.
PATIENCE_S = 90.0
LAST_LINES = 25
#: What runs a command as a user does.
WALLET = ("-m", "operations")


def wait_until(
    condition: Callable[[], bool],
    what: str,
    worry: Callable[[], None] = lambda: None,
    *,
    patience_s: float = PATIENCE_S,
) -> None:
    """Look until it is so, for a bounded time; `worry` raises when waiting has become pointless."""
    deadline, pause_s = time.monotonic() + patience_s, 0.02
    while not condition():
        worry()
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(pause_s)
        pause_s = min(1.2 * pause_s, 0.25)  # a look takes time of what it looks at


def started(program: Sequence[str], env: Mapping[str, str], output: IO[bytes]) -> subprocess.Popen[bytes]:
    """Our interpreter with this program, in a session of its own."""
    if tuple(program[:2]) == WALLET and may_be_forked(env):
        return Forked(program[2:], env=env, stdout=output)
    return subprocess.Popen(
        [sys.executable, *program],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


class Worker:
    """`wallet worker`, or another command, as a process of its own, with its output in a file.

    `by`: what the interpreter is given to run the command's words, where that is not `wallet` as it is.
    """

    def __init__(self, settings: Settings, log: Path, *words: str, by: Sequence[str] = WALLET) -> None:
        self.log = log
        variables = {name: value for name, value in os.environ.items() if not name.startswith("WALLET_")}
        with log.open("ab") as output:
            self._process = started([*by, *(words or ["worker"])], variables | environment(settings), output)
        self._ended_by_us = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """It is not left behind, however the test ends."""
        self.kill()

    @property
    def runs(self) -> bool:
        """Whether the process lives."""
        return self._process.poll() is None

    def peak_bytes(self) -> int:
        """The most memory that it has had so far (resident, as Linux tells it)."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def ask_to_stop(self) -> None:
        """Send SIGTERM and do not wait."""
        self._ended_by_us = True
        self._process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        """Send SIGTERM, and see it end in order."""
        self.ask_to_stop()
        assert self.wait() == 0, self.told()

    def kill(self) -> None:
        """End it by SIGKILL, if it runs."""
        self._ended_by_us = True
        self._process.kill()
        self._process.wait()

    def wait(self) -> int:
        """The exit code, once it has ended."""
        self._ended_by_us = True
        try:
            return self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the worker did not end:\n{self.told()}") from None

    def done(self) -> str:
        """All that it has said, once it has ended well."""
        assert self.wait() == 0, self.told()
        return self.text()

    def failed(self, error: type[WalletError]) -> str:
        """The last line, which says why, once it has ended by such an error."""
        assert self.wait() == error.exit_code, self.told()
        return self.text().splitlines()[-1]

    def text(self) -> str:
        """All that it has said."""
        return self.log.read_text(errors="replace")

    def told(self) -> str:
        """The last lines that it said."""
        return "\n".join(self.text().splitlines()[-LAST_LINES:])

    def events(self, event: str) -> list[str]:
        """The lines of its log that tell this event."""
        return [line for line in self.text().splitlines() if f" {event}" in line.split("=")[0]]

    def check_runs(self) -> None:
        """Fail if it has ended though nobody told it to."""
        assert self._ended_by_us or self.runs, f"a worker ended by itself:\n{self.told()}"

    def wait_until_told(self, event: str, times: int = 1) -> None:
        """Return when its log has this event so often."""
        wait_until(
            lambda: len(self.events(event)) >= times, f"it told {event}\n{self.told()}", self.check_runs
        )


def done(settings: Settings, folder: Path, *words: str) -> str:
    """What a command said, which must end well."""
    return Worker(settings, folder / f"{words[0]}.log", *words).done()
