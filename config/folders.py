"""Folders of ours, which nobody but their owner may look into: what is in them tells balances; and who works in one."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from config.errors import ConfigurationError

PRIVATE = 0o700


def private(folder: Path, what: str) -> Path:
    """Make the folder, or find it there, and close it to others.

    Raises ConfigurationError, which begins with `what` it is, where that cannot be done.
    """
    try:
        folder.mkdir(PRIVATE, parents=True, exist_ok=True)
        if folder.stat().st_mode & 0o077:  # made by an earlier release, or by hand
            folder.chmod(PRIVATE)
    except OSError as failure:
        raise ConfigurationError(
            f"{what} {folder} cannot be used: {failure.strerror}: it must be a folder of this user's own"
        ) from None
    return folder


def make_private(folder: Path) -> None:
    """Make the folder for its owner alone; one that is there stays as it is. Raises OSError."""
    folder.mkdir(PRIVATE, parents=True, exist_ok=True)


class Taken(Exception):  # noqa: N818 - a fact, not a fault
    """Another process has the lock; `pid` as it wrote it, or "unknown"."""

    def __init__(self, pid: str) -> None:
        super().__init__(f"process {pid} has it")
        self.pid = pid


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of this file, which ends with the process at the latest; raises Taken."""
    with path.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise Taken(lock.read().strip() or "unknown") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
