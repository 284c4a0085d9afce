"""All addresses that a local stack ever had, to report settings that still point to an earlier one.

It keeps only digests: PostgreSQL's address contains the password. The file survives `down --delete`.
"""

import hashlib
from pathlib import Path

#: Most addresses to keep; a stack gets new ones when it is deleted, or when its port is taken.
MOST = 100


def remember(path: Path, addresses: list[str]) -> None:
    """Add these addresses."""
    known = _known(path)
    new = [digest for digest in map(_digest, addresses) if digest not in known]
    if new:
        path.touch(mode=0o600)
        path.write_text("\n".join([*known, *new][-MOST:]) + "\n", encoding="ascii")


def had(path: Path, address: str) -> bool:
    """Whether the stack has, or ever had, this address."""
    return _digest(address) in _known(path)


def _known(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii", errors="replace").split()
    except OSError:
        return []


def _digest(address: str) -> str:
    return hashlib.sha256(address.encode("utf-8", "surrogateescape")).hexdigest()
