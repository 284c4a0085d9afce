"""What is kept on disk meanwhile, so that memory does not grow with a file; a one-line error if there is no room."""

import contextlib
import sqlite3
import struct
import tempfile
from collections.abc import Iterator

from config.errors import ConfigurationError

BUFFER_BYTES = 1024 * 1024
#: A line's number, and the lengths of key and body.
_HEAD = struct.Struct("<qHI")


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


class Spool:
    """Lines kept on disk until they are sent (`TMPDIR`), about 100 bytes each: each has a number, a key and a body.

    So a file is read to its end before anything of it is sent, and changing it meanwhile has no effect.
    """

    def __init__(self) -> None:
        with room():
            self._file = tempfile.TemporaryFile("w+b", BUFFER_BYTES, prefix="wallet-")  # noqa: SIM115 - `close` does

    def add(self, number: int, key: bytes, body: bytes) -> None:
        """Keep one more line."""
        with room():
            self._file.write(_HEAD.pack(number, len(key), len(body)) + key + body)

    def lines(self) -> Iterator[tuple[int, bytes, bytes]]:
        """The kept lines, from the first."""
        with room():
            self._file.seek(0)
        take = self._file.read
        while head := take(_HEAD.size):
            number, key_bytes, body_bytes = _HEAD.unpack(head)
            yield number, take(key_bytes), take(body_bytes)

    def close(self) -> None:
        """Delete the file."""
        self._file.close()


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
