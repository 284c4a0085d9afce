"""A clock that jumps while a program runs, by libfaketime; only time of day, as when NTP or a person sets it."""

import os
from pathlib import Path

#: The library is asked where it stands every second, and the file that tells it is no older than that.
_EVERY_S = "1"
_SITE = Path(__file__).parent / "fake_clock"


class Clock:
    """One program's clock at a time: a file says how far it is off."""

    def __init__(self, library: Path, file: Path) -> None:
        self._library = library
        self._file = file
        self.jump(0)

    def jump(self, seconds: int) -> None:
        """From now on the clock is so far ahead, or behind."""
        self._file.write_text(f"{seconds:+d}\n")

    @property
    def environment(self) -> dict[str, str]:
        """What makes a program live by this clock."""
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": _EVERY_S,
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "PYTHONPATH": os.pathsep.join([str(_SITE), os.environ.get("PYTHONPATH", "")]),
        }


def library() -> Path | None:
    """libfaketime as Debian installs it, in its form for programs with threads."""
    return next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
