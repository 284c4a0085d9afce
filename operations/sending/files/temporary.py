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
