"""Temporary files, with a one-line error if there is no room for them."""

import contextlib
import sqlite3
import tempfile
from collections.abc import Iterator
from typing import IO

from config.errors import ConfigurationError

BUFFER_BYTES = 1024 * 1024


def temporary(name: str) -> IO[bytes]:
    """A file in `TMPDIR` that is deleted when closed; raises ConfigurationError."""
    with room():
        return tempfile.TemporaryFile("w+b", BUFFER_BYTES, prefix=f"wallet-{name}-")


@contextlib.contextmanager
def room() -> Iterator[None]:
    """Raise ConfigurationError if a temporary file cannot be created or written."""
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        told = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigurationError(
            f"cannot write a temporary file ({told}): set TMPDIR to a folder with room"
        ) from None


class Seen:
    """Counts how often each text comes, in a temporary file."""

    def __init__(self) -> None:
        with room():
            self._counts = sqlite3.connect("")  # a temporary file on disk
            self._counts.execute("CREATE TABLE counts (text TEXT PRIMARY KEY, times INTEGER) WITHOUT ROWID")

    def times(self, text: str) -> int:
        """How often it has come, including this time; raises UnicodeEncodeError if it is not Unicode text."""
        with room():
            counted = self._counts.execute(
                "INSERT INTO counts VALUES (?, 1) ON CONFLICT (text) DO UPDATE SET times = times + 1 RETURNING times",
                [text],
            )
            return int(counted.fetchone()[0])

    def close(self) -> None:
        """Forget everything."""
        self._counts.close()
