"""Another time of day for programs that tests start; it may jump while they run, as when NTP or a person sets it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")
FOLDER = Path(__file__).parents[1] / ".local"
#: Where the seconds are that a program's clock is ahead, and that of the tests themselves (`tests.later`).
VARIABLE = "TEST_CLOCK"
BYTES = 8


class Clock:
    """The clock of some programs: a file says how far it is off."""

    def __init__(self, library: Path, file: Path) -> None:
        self._library = library
        self._file = file
        ours = os.environ.get(VARIABLE)
        self._begins_s = int.from_bytes(Path(ours).read_bytes(), sys.byteorder, signed=True) if ours else 0
        new = file.with_suffix(".new")
        new.write_bytes(bytes(BYTES))
        new.replace(file)  # programs of another run may have the old one in their memory
        self.jump(0)

    def jump(self, seconds: int) -> None:
        """From now on the clock is so far ahead of the tests' own, or behind."""
        # In place: programs have the file in their memory.
        with self._file.open("r+b") as file:
            file.write((self._begins_s + seconds).to_bytes(BYTES, sys.byteorder, signed=True))

    @property
    def environment(self) -> dict[str, str]:
        """What makes a program live by this clock, and all that it starts."""
        return {"LD_PRELOAD": str(self._library), VARIABLE: str(self._file)}


def library() -> Path | None:
    """What programs load to live by another clock, made anew; None where it cannot be made."""
    if sys.platform != "linux" or not shutil.which("gcc"):
        return None
    FOLDER.mkdir(exist_ok=True)
    made, there = FOLDER / f"clock-{os.getpid()}.so", FOLDER / "clock.so"
    subprocess.run(["gcc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", made, SOURCE], check=True)
    return made.replace(there)  # whole or not at all: others may be loading it
