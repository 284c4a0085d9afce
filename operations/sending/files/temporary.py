"""Temporary files: where there is no room for one, that is told in one line."""

import contextlib
import sqlite3
import tempfile
from collections.abc import Iterator
from typing import IO

from config.errors import ConfigurationError

BUFFER_BYTES = 1024 * 1024


def temporary(name: str) -> IO[bytes]:
    """A file that vanishes when it is closed, in `TMPDIR`; raises ConfigurationError."""
    with room():
        return tempfile.TemporaryFile("w+b", BUFFER_BYTES, prefix=f"wallet-{name}-")


@contextlib.contextmanager
def room() -> Iterator[None]:
    """Raises ConfigurationError where a temporary file cannot be made or written."""
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        told = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigurationError(
            f"a temporary file cannot be written ({told}): name a folder with room in TMPDIR"
        ) from None
