"""A Python environment beside ours, for a program that wants other versions of our libraries."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from config.errors import NotReachable
from local.server import Progress

PATIENCE_S = 600


def environment(cache: Path, name: str, requirements: Path, progress: Progress) -> Path:
    """The folder of an environment with what the requirements pin, made with pip once for this machine.

    Raises NotReachable, with pip's last line, if it cannot be made.
    """
    digest = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = cache / f"{name}-{digest}"
    if (folder / "ready").exists():
        return folder
    progress(f"fetching {name} with pip, once for this machine")
    shutil.rmtree(folder, ignore_errors=True)
    install = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--requirement",
        str(requirements),
    ]
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [str(folder / "bin" / "python"), *install],
    ):
        try:
            subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE_S)
        except (subprocess.SubprocessError, OSError) as failure:
            said = str(getattr(failure, "stderr", "") or failure).strip().splitlines()
            raise NotReachable(f"pip could not fetch {name}: {said[-1]}") from None
    (folder / "ready").touch()
    return folder
