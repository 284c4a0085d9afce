"""A disk of a few megabytes that can be filled, for one worker's stores."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SIZE_MB = 96
BALLAST = "ballast"
#: What is left over when a piece of this size does not fit is filled by smaller ones.
PIECES = (1_048_576, 65_536, 4_096)


@contextmanager
def mounted(folder: Path) -> Iterator[Path | None]:
    """A small file system in memory at this folder; None where this user may not mount one."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "wallet-torture", str(folder)]
    try:
        done = subprocess.run(words, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        done = False
    try:
        yield folder if done else None
    finally:
        if done:
            # Lazily: a program that was just killed may hold a file for a moment.
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def full(folder: Path) -> Iterator[None]:
    """Not a block is free meanwhile; what others free is taken again by nobody."""
    ballast = folder / BALLAST
    with ballast.open("wb", buffering=0) as file:
        for size in PIECES:
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue  # full, for pieces of this size
    try:
        yield
    finally:
        ballast.unlink()
