"""What has come before in a file, kept on disk: a file of any length takes the same memory."""

import sqlite3

from operations.sending.files.temporary import room


class Seen:
    """Counts how often each text comes, in a file that vanishes when it is closed."""

    def __init__(self) -> None:
        with room():
            self._counts = sqlite3.connect("")  # a file of its own
            self._counts.execute("CREATE TABLE counts (text TEXT PRIMARY KEY, times INTEGER) WITHOUT ROWID")

    def times(self, text: str) -> int:
        """How often it has come, with this time; raises UnicodeEncodeError for what is no Unicode text."""
        with room():
            counted = self._counts.execute(
                "INSERT INTO counts VALUES (?, 1) ON CONFLICT (text) DO UPDATE SET times = times + 1 RETURNING times",
                [text],
            )
            return int(counted.fetchone()[0])

    def close(self) -> None:
        """Forget everything."""
        self._counts.close()
