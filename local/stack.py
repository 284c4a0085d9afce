"""A real Kafka and a real PostgreSQL on this machine that outlive the command that starts them.

    stack = Stack(Path(".local/stack"))
    addresses = stack.up(print)
    ...
    stack.down()

Everything is in the stack's folder: data, logs, and the state file with which the next command finds them.
"""

import contextlib
import itertools
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TextIO

from config.asking import in_time
from config.errors import ConfigurationError, NotReachable, Refused
from config.folders import private, try_lock
from config.settings import settings
from local import DEFAULT_FOLDER, server
from local.broker import Broker
from local.database import Database
from local.server import Progress, Running, Server, silent
from local.state import State, had_address, remember_addresses

LOCK_PATIENCE_S = 300.0

Name = Literal["kafka", "postgres"]
NAMES: tuple[Name, ...] = ("kafka", "postgres")


@dataclass(frozen=True)
class Addresses:
    """The addresses of the stack's servers."""

    kafka: str
    postgres: str

    @property
    def environment(self) -> dict[str, str]:
        """The settings that point the `wallet` command at this stack."""
        return {"WALLET_KAFKA": self.kafka, "WALLET_POSTGRES": self.postgres}


@dataclass(frozen=True)
class ServerStatus:
    """The state of one server: `pid` is None if it is down, `address` if it was never up."""

    name: Name
    pid: int | None
    address: str | None
    log: Path


class Stack:
    """The servers of one folder. Several programs may use it at once: a lock makes them take turns.

    `cache` is the folder for the fetched Kafka; None means that of `WALLET_LOCAL_CACHE`.
    """

    def __init__(self, folder: Path = DEFAULT_FOLDER, cache: Path | None = None) -> None:
        self.folder = folder.absolute()
        self.cache = cache

    def up(self, progress: Progress = silent, *, full_speed: bool = False) -> Addresses:
        """Start what is not running and return when both answer.

        `full_speed` gives Kafka 1 GiB and the optimizing compiler, for measurements; a Kafka running otherwise is
        restarted. Raises ConfigurationError if Java, Maven or PostgreSQL is missing.
        """
        with self._locked(progress):
            state = self._state() or State()
            if full_speed != state.full_speed:
                state = self._stop(state, "kafka", progress)
            state = replace(state, full_speed=full_speed)
            down = [name for name in NAMES if not _alive(state, name)]
            state = state.with_free_ports(kafka="kafka" in down, postgres="postgres" in down)
            state.save(self._state_file)  # before anything uses these ports and this password
            addresses = self._addresses(state)
            remember_addresses(self._earlier_file, [*addresses.environment.values()])
            self._start(state, down, progress)
            return addresses

    def down(self, progress: Progress = silent) -> None:
        """Stop both orderly; their data stays. Does nothing if they are down."""
        if self._state() is None:
            return
        with self._locked(progress):
            state = self._state() or State()
            for name in NAMES:
                state = self._stop(state, name, progress)

    def status(self) -> list[ServerStatus]:
        """The state of both."""
        state = self._state()
        return [self._status(state, name) for name in NAMES]

    def addresses_if_up(self) -> Addresses | None:
        """The addresses, or None unless both run."""
        state = self._state()
        if state is None or not all(_alive(state, name) for name in NAMES):
            return None
        return self._addresses(state)

    @property
    def addresses(self) -> Addresses | None:
        """The addresses, whether up or down; None if no stack was ever started or it was deleted."""
        state = self._state()
        return self._addresses(state) if state else None

    def had_before(self, address: str) -> bool:
        """Whether a server of this folder's stack had this address but no longer has it."""
        now = self.addresses
        is_now = now is not None and address in now.environment.values()
        return not is_now and had_address(self._earlier_file, address)

    def delete(self) -> None:
        """Stop both and remove the folder with all data; only digests of old addresses stay."""
        with self._locked(silent):
            try:
                self._delete()
            finally:
                self._lock_file.unlink()

    def _delete(self) -> None:
        state = self._state()
        if state is None and self.folder.exists() and any(self.folder.iterdir()):
            raise Refused(f"{self.folder} is not the folder of a stack: nothing was removed")
        for name in NAMES:
            state = self._stop(state or State(), name, silent)
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, name: Name) -> None:
        """Start one server on its old port and return when it answers; for tests of outages."""
        with self._locked(silent):
            state = self._known_state()
            if not _alive(state, name):
                self._start(state, [name], silent)

    def stop(self, name: Name) -> None:
        """Stop one server orderly."""
        with self._locked(silent):
            self._stop(self._known_state(), name, silent)

    def kill(self, name: Name) -> None:
        """End one server with SIGKILL, like a power cut."""
        with self._locked(silent):
            if running := _alive(self._known_state(), name):
                server.kill(running)

    @contextlib.contextmanager
    def suspended(self, name: Name) -> Iterator[None]:
        """Pause one server; its connections stay open."""
        running = _alive(self._known_state(), name)
        assert running is not None  # noqa: S101 - of a stack that is up
        with server.suspended(running):
            yield

    def restart(self, name: Name) -> None:
        """Stop one server and start it again."""
        self.stop(name)
        self.start(name)

    def _start(self, state: State, names: list[Name], progress: Progress) -> None:
        """Start servers in parallel; each is in the state file before we wait for it."""
        running: dict[Name, Running] = {}
        for name in names:
            self._server(state, name).prepare(progress)
        for name in names:
            started = self._server(state, name)
            progress(f"starting {started.name}")
            running[name] = server.spawn(started)
            state = _with_running(state, name, running[name])
            state.save(self._state_file)
        for name in names:
            server.wait_until_ready(self._server(state, name), running[name])

    def _stop(self, state: State, name: Name, progress: Progress) -> State:
        running = _alive(state, name)
        if running is None:
            return state
        stopping = self._server(state, name)
        progress(f"stopping {stopping.name}")
        server.stop(stopping, running)
        state = _with_running(state, name, None)
        state.save(self._state_file)
        return state

    def _server(self, state: State, name: Name) -> Server:
        if name == "kafka":
            cache = self.cache or settings().local_cache
            return Broker(
                self.folder, cache.expanduser(), state.kafka_port, state.controller_port, state.full_speed
            )
        return Database(self.folder, state.postgres_port, state.password)

    def _addresses(self, state: State) -> Addresses:
        return Addresses(*(self._server(state, name).address for name in NAMES))

    def _status(self, state: State | None, name: Name) -> ServerStatus:
        known = state or State()
        running = _alive(known, name)
        found = self._server(known, name)
        return ServerStatus(
            name=name,
            pid=running.pid if running else None,
            address=found.address if state else None,
            log=found.log,
        )

    def _known_state(self) -> State:
        state = self._state()
        if state is None:
            raise Refused(f"no stack was ever started in {self.folder}: run `wallet local up`")
        return state

    def _state(self) -> State | None:
        return State.load(self._state_file)

    @property
    def _state_file(self) -> Path:
        return self.folder / "stack.json"

    @contextlib.contextmanager
    def _locked(self, progress: Progress) -> Iterator[None]:
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self._lock_file.touch()
        except OSError as failure:
            raise ConfigurationError(
                f"the local stack's folder {self.folder} cannot be used: {failure.strerror}: work in a folder that "
                "belongs to this user, or choose one with --folder"
            ) from None
        looks = itertools.count()
        with contextlib.ExitStack() as open_files:

            def is_locked() -> bool:
                open_files.close()
                if next(looks) == 1:
                    progress("waiting for another command that is starting or stopping this stack")
                # a lock file deleted with its stack while we waited locks nobody out
                return _try_lock(open_files.enter_context(self._lock_file.open("w")), self._lock_file)

            if not in_time(is_locked, server.POLL_S, LOCK_PATIENCE_S):
                raise NotReachable(
                    f"{self.folder} is locked by another command for {LOCK_PATIENCE_S:.0f} s: wait, or stop it"
                )
            private(self.folder, "the local stack's folder")
            yield

    @property
    def _earlier_file(self) -> Path:
        return self.folder.with_suffix(".earlier")

    @property
    def _lock_file(self) -> Path:
        # next to the folder, not in it: deleting the folder must not delete the lock
        return self.folder.with_suffix(".lock")


def _alive(state: State, name: Name) -> Running | None:
    """The server that the stack started, if it still runs."""
    running = state.kafka if name == "kafka" else state.postgres
    return running if server.is_alive(running) else None


def _with_running(state: State, name: Name, running: Running | None) -> State:
    return replace(state, kafka=running) if name == "kafka" else replace(state, postgres=running)


def _try_lock(lock: TextIO, path: Path) -> bool:
    """Lock the file if it is free; False also if it is no longer the file at that path."""
    try:
        return try_lock(lock) and os.path.samestat(os.fstat(lock.fileno()), path.stat())
    except FileNotFoundError:
        return False
