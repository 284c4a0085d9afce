"""A demo's pipeline that goes on running after it, with a console, until `wallet demo --stop`."""

import json
import signal
from dataclasses import asdict
from pathlib import Path

from config.asking import NotYet, ask_again
from config.errors import Stopped
from config.settings import Settings
from local.server import Running, is_alive, kill, send, wait_until_dead
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
    notes.write_text(json.dumps([asdict(Running.of(child.pid)) for child in started]))
    return address_of(started[-1])


def address_of(console: Child) -> str:
    """Where a console listens, as soon as it does; raises Stopped if it does not."""

    def look() -> str:
        for line in console.log.read_text("utf-8", "replace").splitlines():
            if line.startswith(LISTENING):
                return line.split()[1]
        console.raise_if_ended()
        raise NotYet

    try:
        return ask_again(look, NotYet, 0.1, LISTENS_S)
    except NotYet:
        raise Stopped(f"the console did not listen within {LISTENS_S:g} s: see {console.log}") from None


def stop(notes: Path) -> int:
    """Stop what `start` left running; returns how many processes that were."""
    if not notes.exists():
        return 0
    running = [
        one for one in (Running(**fields) for fields in json.loads(notes.read_text())) if is_alive(one)
    ]
    for one in running:
        send(one, signal.SIGTERM)
    for one in running:
        if not wait_until_dead(one, STOP_S):
            kill(one)
    notes.unlink()
    return len(running)
