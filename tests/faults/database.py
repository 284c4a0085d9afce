"""The PostgreSQL of a run: killed, backed up, restored."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from local import server
from local.database import Database
from local.server import Running


class Postgres:
    """A PostgreSQL of this run's own, with at most one backup: a copy of its files."""

    def __init__(self, folder: Path, port: int, password: str) -> None:
        self._database = Database(folder, port, password)
        self._running: Running | None = None
        self._disk = folder / "postgres"
        self._backup = folder / "backup"

    @property
    def dsn(self) -> str:
        """Where it is, as its owner."""
        return self._database.address

    @property
    def has_backup(self) -> bool:
        """Whether a backup was taken."""
        return self._backup.exists()

    def start(self) -> None:
        """Start it and return when it answers."""
        self._database.prepare(lambda _line: None)
        self._running = server.spawn(self._database)
        server.wait_until_ready(self._database, self._running)

    def kill(self) -> None:
        """End it and all its sessions by SIGKILL, as a power cut would."""
        if self._running:
            server.kill(self._running)

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """It answers nobody meanwhile, by SIGSTOP."""
        with server.suspended(self._running) if self._running else nullcontext():
            yield

    def back_up(self) -> None:
        """Stop it in order, copy its files, start it again."""
        if self._running:
            server.stop(self._database, self._running)
        shutil.rmtree(self._backup, ignore_errors=True)
        _copy(self._disk, self._backup)
        self.start()

    def put_back(self) -> None:
        """Replace its files by those of the backup; it must be down."""
        shutil.rmtree(self._disk)
        _copy(self._backup, self._disk)


def _copy(source: Path, target: Path) -> None:
    # cp keeps owners, which shutil.copytree does not: Postgres runs as another user where we are root.
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)
