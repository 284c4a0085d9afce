"""Quix Streams, in a Python environment of its own: it wants other versions of our libraries."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.rivals.rival import Ready, Rival
from config.errors import NotReachable
from local.server import Progress

REQUIREMENTS = Path(__file__).with_name("quix.txt")
PROGRAM = Path(__file__).with_name("quix_program.py")
PATIENCE_S = 600


def prepare(cache: Path, progress: Progress) -> Ready:
    """Make its environment with pip, unless the cache has it."""
    digest = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = cache / f"quix-{digest}"
    if not (folder / "ready").exists():
        progress("fetching Quix Streams with pip, once for this machine")
        _install(folder)
    pinned = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    versions = dict(line.split("==", 1) for line in pinned if line.startswith("quixstreams=="))
    return Ready((str(folder / "bin" / "python"), str(PROGRAM)), versions)


def _install(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    pip = [
        str(folder / "bin" / "python"),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--requirement",
        str(REQUIREMENTS),
    ]
    for command in ([sys.executable, "-m", "venv", str(folder)], [*pip, "--disable-pip-version-check"]):
        try:
            subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE_S)
        except (subprocess.SubprocessError, OSError) as failure:
            said = str(getattr(failure, "stderr", "") or failure).strip().splitlines()
            raise NotReachable(f"pip could not fetch Quix Streams: {said[-1]}") from None
    (folder / "ready").touch()


RIVAL = Rival("Quix Streams", "exactly once", 60_000, "changelog__{prefix}--{input}--default", prepare)
