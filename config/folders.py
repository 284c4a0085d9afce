"""Folders of ours: what is in them tells balances, so nobody but their owner may look into them."""

from pathlib import Path

from config.errors import ConfigurationError

PRIVATE = 0o700


def private(folder: Path, what: str) -> Path:
    """Make the folder, or find it there, and close it to others.

    Raises ConfigurationError, which begins with `what` it is, where that cannot be done.
    """
    try:
        folder.mkdir(PRIVATE, parents=True, exist_ok=True)
        if folder.stat().st_mode & 0o077:  # made by an earlier release, or by hand
            folder.chmod(PRIVATE)
    except OSError as failure:
        raise ConfigurationError(
            f"{what} {folder} cannot be used: {failure.strerror}: it must be a folder of this user's own"
        ) from None
    return folder


def make_private(folder: Path) -> None:
    """Make the folder for its owner alone; one that is there stays as it is. Raises OSError."""
    folder.mkdir(PRIVATE, parents=True, exist_ok=True)
