"""`--processes N`: the same command several times, which start, stop and end together."""

import os
import subprocess
import threading
import time
from collections.abc import Iterable

from config.errors import ConfigurationError, Stopped
from config.logs import EventLog
from config.settings import Settings
from operations.cli.children import attended
from vitals.ending import END_S, ended_by, on_order

log = EventLog("operations.processes")

LOOK_EVERY_S = 0.1
#: The processes end within END_S by themselves; those that do not are killed after this much more.
KILL_AFTER_S = 5.0

Process = subprocess.Popen[bytes]


def run(processes: int, settings: Settings, *arguments: str) -> int:
    """Run `wallet ARGUMENTS` so many times until SIGTERM or Ctrl-C; returns the exit code.

    When one ends by itself, the others are stopped and its exit code is returned: whatever restarts this command
    restarts all of them. With WALLET_HTTP_PORT each listens on a port of its own, counted from it.
    """
    port = settings.http_port or 0
    if port and port + processes - 1 > 65_535:
        raise ConfigurationError(
            f"WALLET_HTTP_PORT={port} leaves no ports for {processes} processes: "
            f"set it to {65_536 - processes} or lower"
        )
    stop = threading.Event()
    signals = on_order(lambda _: stop.set())
    running: list[Process] = []
    try:
        for number in range(processes):
            more = {"WALLET_HTTP_PORT": str(port + number)} if port else {}
            running.append(_start(arguments, more))
        log.info("started", command=" ".join(arguments), pids=",".join(str(one.pid) for one in running))
        while not stop.wait(LOOK_EVERY_S):
            ended = next((one for one in running if one.poll() is not None), None)
            if ended is not None:
                # A negative code is a signal's number; a shell tells it as 128 and more, and so do we.
                code = ended.returncode if ended.returncode >= 0 else 128 - ended.returncode
                log.error("process_ended", pid=ended.pid, code=code, consequence="the others are stopped")
                return code or Stopped.exit_code
    finally:
        _stop(running)
    return ended_by(signals)


def _start(arguments: Iterable[str], environment: dict[str, str]) -> Process:
    return subprocess.Popen(  # noqa: S603 - our own interpreter and our own words
        attended(*arguments),
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        process_group=0,  # Ctrl-C reaches us alone; we stop them
    )


def _stop(running: Iterable[Process]) -> None:
    deadline = time.monotonic() + END_S + KILL_AFTER_S
    for one in running:
        one.terminate()
    for one in running:
        try:
            one.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            one.kill()
