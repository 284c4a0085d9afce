"""`wallet` as a process of its own without the second that its imports take: forked by one that has made them.

The code that runs is the same, from `main()` to the interpreter's end, with its own environment, folder and files.
What is started that way is a child of the test's process, like any other. How the command starts by itself, the
fault suite sees.
"""

import ctypes
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from tests import clock

PR_SET_CHILD_SUBREAPER = 36
#: What commands import when they run.
IMPORTED = (
    "operations.main",
    "operations.sending.importing.run",
    "operations.looking.inspect",
    "operations.cli.output",
    "operations.looking.balances",
    "operations.rebuild.diff",
    "operations.rebuild.discard",
    "operations.rebuild.switch",
    "operations.replay.run",
    "operations.looking.status",
    "operations.verify.run",
    "sinks.consumer",
    "streams.worker",
)
REQUEST_BYTES = 1 << 20
#: Before any test changes it.
ENVIRONMENT = dict(os.environ)


def may_be_forked(env: Mapping[str, str]) -> bool:
    """Whether a process with this environment has nothing that must be there before it starts: a clock of its own."""
    return all(env.get(name) == ENVIRONMENT.get(name) for name in ("LD_PRELOAD", clock.VARIABLE))


class Forked(subprocess.Popen[bytes]):
    """`python -m operations ARGUMENTS`, with what else `Popen` is given for it."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path | None = None,
        stdin: IO[bytes] | int = subprocess.DEVNULL,
        stdout: IO[bytes] | int = subprocess.DEVNULL,
        stderr: IO[bytes] | int = subprocess.STDOUT,
    ) -> None:
        # What Popen's methods look at; its own __init__ would start something.
        self._waitpid_lock = threading.Lock()
        self._input = None
        self._communication_started = False
        self.args = ["wallet", *arguments]
        self.stdin = self.stdout = self.stderr = None
        self.returncode: int | None = None
        self.pid = _asked([*arguments], env, cwd or Path.cwd(), stdin, stdout, stderr)
        # Of somebody else's child Popen would say that it has ended well. Raises ChildProcessError.
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        self._child_created = True


def completed(
    *arguments: str, env: Mapping[str, str], cwd: Path, text: str | None = None, timeout_s: float
) -> subprocess.CompletedProcess[str]:
    """One command to its end, and what it said; as `subprocess.run` with text."""
    with TemporaryFile() as given, TemporaryFile() as told, TemporaryFile() as complained:
        given.write((text or "").encode())
        given.seek(0)
        process = Forked(arguments, env=env, cwd=cwd, stdin=given, stdout=told, stderr=complained)
        try:
            code = process.wait(timeout_s)
        finally:
            process.kill()
        for file in (told, complained):
            file.seek(0)
        return subprocess.CompletedProcess(
            process.args, code, told.read().decode(), complained.read().decode()
        )


def _asked(
    arguments: list[str],
    env: Mapping[str, str],
    cwd: Path,
    stdin: IO[bytes] | int,
    stdout: IO[bytes] | int,
    stderr: IO[bytes] | int,
) -> int:
    with Path(os.devnull).open("r+b", buffering=0) as nothing:
        out = _descriptor(stdout, nothing)
        files = [
            _descriptor(stdin, nothing),
            out,
            out if stderr == subprocess.STDOUT else _descriptor(stderr, nothing),
        ]
        request = json.dumps([arguments, dict(env), str(cwd)]).encode(errors="surrogateescape")
        connection, lock = _nursery()
        with lock:
            socket.send_fds(connection, [request], files)
            answer = connection.recv(REQUEST_BYTES)
    assert answer, "the process that forks has ended"
    return int(answer)


def _descriptor(file: IO[bytes] | int, nothing: IO[bytes]) -> int:
    if file == subprocess.DEVNULL:
        return nothing.fileno()
    return file if isinstance(file, int) else file.fileno()


@cache
def _nursery() -> tuple[socket.socket, threading.Lock]:
    """The one of this process, and who may ask it: it ends when this process does."""
    # Whoever is left by its parent becomes our child: so does what the nursery forks, which leaves it at once.
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, its):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, REQUEST_BYTES)
    its.set_inheritable(True)
    # Not Popen: it wants its children waited for, and this one is there as long as we are.
    os.posix_spawn(sys.executable, [sys.executable, "-m", "tests.forked", str(its.fileno())], ENVIRONMENT)
    its.close()
    return ours, threading.Lock()


def _serve(connection: socket.socket) -> list[str]:
    """Fork for each request; returns in the forked process, with its arguments. Ends with whoever asks."""
    while True:
        request, files, *_ = socket.recv_fds(connection, REQUEST_BYTES, 3)
        if not request:
            os._exit(0)
        told, tells = os.pipe()
        first = os.fork()
        if first:
            os.waitpid(first, 0)
            connection.send(os.read(told, 20))  # not before: now it is the asker's child
            for file in (*files, told, tells):
                os.close(file)
            continue
        second = os.fork()
        if second:
            os.write(tells, str(second).encode())
            os._exit(0)
        for file in (told, tells, connection.detach()):
            os.close(file)
        arguments, environment, folder = json.loads(request)
        os.setsid()
        for place, file in enumerate(files):
            os.dup2(file, place)
            os.close(file)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return list(arguments)


if __name__ == "__main__":
    # Ctrl-C is for who asks.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for module in IMPORTED:
        __import__(module)
    gc.freeze()  # what nobody looks at is not copied
    sys.argv = ["wallet", *_serve(socket.socket(fileno=int(sys.argv[1])))]
    from operations.main import main

    main()
