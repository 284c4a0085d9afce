"""What was seen before in a file, kept on disk so that memory does not grow with the file."""

import sqlite3

from operations.sending.files.temporary import room


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
