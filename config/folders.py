"""Our folders: closed to other users, since they contain balances, and locked while in use."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from config.errors import ConfigurationError

PRIVATE = 0o700


def private(folder: Path, what: str) -> Path:
    """Create the folder if needed, and close it to other users.

    Raises ConfigurationError, whose message begins with `what`, if that is not possible.
    """
    try:
        folder.mkdir(PRIVATE, parents=True, exist_ok=True)
        if folder.stat().st_mode & 0o077:  # created by an earlier release, or by hand
            folder.chmod(PRIVATE)
    except OSError as failure:
        raise ConfigurationError(
            f"{what} {folder} cannot be used: {failure.strerror}: it must be a folder that belongs to this user"
        ) from None
    return folder


def make_private(folder: Path) -> None:
    """Create the folder for its owner only; an existing one stays as it is. Raises OSError."""
    folder.mkdir(PRIVATE, parents=True, exist_ok=True)


def try_lock(file: int | TextIO) -> bool:
    """Lock an open file unless it is locked; the lock ends when the file is closed or the process ends."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def locked(path: Path, taken: Callable[[str], Exception]) -> Iterator[None]:
    """Hold the lock on this file; if it is taken, raises `taken(pid)`."""
    with path.open("a+") as lock:
        if not try_lock(lock):
            lock.seek(0)
            raise taken(lock.read().strip() or "unknown")
        with suppress(OSError):  # on a full disk nobody is told who has it
            lock.truncate(0)
            os.write(lock.fileno(), str(os.getpid()).encode())
        yield


@contextmanager
def written_whole(path: Path) -> Iterator[TextIO]:
    """A file to write that is renamed into place once it is complete and on disk; on failure nothing is left.

    A pipe or a device is written to as it is: renaming would put a file in its place.
    """
    if path.exists() and not path.is_file():
        with path.open("w", newline="", encoding="utf-8") as out:
            yield out
        return
    path = path.resolve()  # a link stays one
    unfinished = path.with_name(f"{path.name}.part")
    try:
        with unfinished.open("w", newline="", encoding="utf-8") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
