"""A lock on a file: one holder at a time, who is named to the next, and nobody once that is gone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from config.errors import Refused
from config.folders import locked

HOLD = """
import sys
from pathlib import Path
from config.folders import locked

with locked(Path(sys.argv[1]), RuntimeError):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused_and_told_who_has_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdin
    assert holder.stdout
    with holder:
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(Refused, match=f"^{holder.pid} has it$"),
            locked(path, lambda process: Refused(f"{process} has it")),
        ):
            pytest.fail("two have the lock")
        holder.kill()
    with locked(path, Refused):
        assert path.read_text() == str(os.getpid())


def test_a_lock_is_free_again_when_its_block_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    for _ in range(2):
        with locked(path, Refused), pytest.raises(Refused, match=f"^{os.getpid()}$"), locked(path, Refused):
            pytest.fail("two have the lock")


def test_a_full_disk_keeps_nobody_from_taking_a_lock() -> None:
    with locked(Path("/dev/full"), Refused):
        pass
