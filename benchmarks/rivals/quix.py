"""Quix Streams, in a Python environment of its own: it wants other versions of our libraries."""

from pathlib import Path

from benchmarks.rivals.rival import Ready, Rival
from local.environment import environment
from local.server import Progress

REQUIREMENTS = Path(__file__).with_name("quix.txt")
PROGRAM = Path(__file__).with_name("quix_program.py")


def prepare(cache: Path, progress: Progress) -> Ready:
    """Make its environment, unless the cache has it."""
    folder = environment(cache, "quix", REQUIREMENTS, progress)
    pinned = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    versions = dict(line.split("==", 1) for line in pinned if line.startswith("quixstreams=="))
    return Ready((str(folder / "bin" / "python"), str(PROGRAM)), versions)


RIVAL = Rival("Quix Streams", "exactly once", 60_000, "changelog__{prefix}--{input}--default", prepare)
