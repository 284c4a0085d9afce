"""A demo's pipeline that goes on running after it, with a console, until `wallet demo --stop`."""

import json
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from config.errors import Stopped
from config.settings import Settings
from operations.cli import context
from operations.cli.children import STOP_S, Child, Children

#: Seconds within which the console must listen.
LISTENS_S = 30.0
LISTENING = "console http://"


def start(settings: Settings, folder: Path, notes: Path) -> str:
    """Start a worker, the sinks and a console, note their process ids, and return the console's address."""
    # A port that is free: another console may be at the usual one.
    settings = settings.model_copy(update={"console_port": 0})
    children = Children(context.environment(settings), folder)
    started = [
        children.start("kept worker", "worker"),
        children.start("kept sink", "sink", "all"),
        children.start("kept console", "console"),
    ]
    notes.write_text(json.dumps([child.pid for child in started]))
    return _address_of(started[-1])


def _address_of(console: Child) -> str:
    deadline = time.monotonic() + LISTENS_S
    while time.monotonic() < deadline:
        for line in console.log.read_text("utf-8", "replace").splitlines():
            if line.startswith(LISTENING):
                return line.split()[1]
        console.raise_if_ended()
        time.sleep(0.1)
    raise Stopped(f"the console did not listen within {LISTENS_S:g} s: see {console.log}")


def stop(notes: Path) -> int:
    """Stop what `start` left running; returns how many processes that were."""
    if not notes.exists():
        return 0
    pids = [pid for pid in json.loads(notes.read_text()) if _is_ours(pid)]
    for pid in pids:
        _tell(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_S
    while time.monotonic() < deadline and any(_is_ours(pid) for pid in pids):
        time.sleep(0.1)
    for pid in pids:
        if _is_ours(pid):
            _tell(pid, signal.SIGKILL)
    notes.unlink()
    return len(pids)


def _is_ours(pid: int) -> bool:
    """Whether this process runs and is one of ours: ids come again."""
    try:
        os.kill(pid, 0)
        command = Path(f"/proc/{pid}/cmdline")
        # Without /proc (macOS) the id must do.
        return not command.parent.parent.exists() or b"\0operations\0" in command.read_bytes()
    except OSError:
        return False


def _tell(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
