"""Numbered folders in `WALLET_STATE_DIR`: each worker of a machine takes one, the same after a restart."""

import hashlib
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from config.errors import ConfigurationError, Refused, Stopped
from config.folders import locked, make_private, private

#: More workers than this on one machine are a configuration mistake.
MOST_WORKERS = 1_000


class _Taken(Exception):  # noqa: N818 - a fact, not a fault
    """Another worker has the folder."""


@contextmanager
def numbered_folder(state_dir: Path) -> Iterator[Path]:
    """The lowest numbered folder that no living process holds; its lock ends with the process."""
    try:
        make_private(state_dir)  # an existing one stays readable: Prometheus reads the addresses in it
    except OSError as failure:
        raise ConfigurationError(
            f"WALLET_STATE_DIR={state_dir} cannot be used: {failure.strerror}: name a folder this user can write to"
        ) from None
    for number in range(MOST_WORKERS):
        folder = private(state_dir / str(number), "WALLET_STATE_DIR:")
        with suppress(_Taken), locked(folder / "lock", _Taken):
            yield folder
            return
    raise Refused(f"all of {MOST_WORKERS} folders in {state_dir} are in use: stop some workers")


def identity(folder: Path) -> str:
    """The name of the worker that holds this folder: the same after a restart, and no other worker's.

    The folder keeps a random part. Machine and path are in the name, too, so that a copy of a folder gets another name.
    """
    drawn = folder / "identity"
    try:
        if not drawn.exists() or not drawn.read_text():
            drawn.write_text(secrets.token_hex(16))
    except OSError as failure:
        raise Stopped(
            f"{drawn} cannot be written: {failure.strerror}: correct that and start again"
        ) from None
    parts = (socket.gethostname(), str(folder.resolve()), drawn.read_text())
    return f"worker-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:24]}"
