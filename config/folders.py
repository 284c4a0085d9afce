"""Folders of ours: closed to others, since what is in them tells balances, and locked while somebody works in one."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

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


def try_lock(file: int | TextIO) -> bool:
    """Lock an open file unless somebody has it locked; the lock ends with the file, or with the process."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def locked(path: Path, taken: Callable[[str], Exception]) -> Iterator[None]:
    """Hold the lock on this file; raises what `taken` makes of the process that has it."""
    with path.open("a+") as lock:
        if not try_lock(lock):
            lock.seek(0)
            raise taken(lock.read().strip() or "unknown")
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


@contextmanager
def written_whole(path: Path) -> Iterator[TextIO]:
    """A file to write, which is at its place, and on the disk, once all of it is; where that fails nothing is left."""
    unfinished = path.with_name(f"{path.name}.part")
    try:
        with unfinished.open("w", newline="", encoding="utf-8") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
