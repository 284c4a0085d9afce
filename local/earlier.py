"""The addresses that a local stack ever had, so that who still holds one of an earlier stack is told so.

Only digests are kept: the address of PostgreSQL holds its password. The file outlives `down --delete`.
"""

import hashlib
from pathlib import Path

#: So many are remembered; a stack gets new ones when it is deleted, or when a stranger sits on its port.
MOST = 100


def remember(path: Path, addresses: list[str]) -> None:
    """Keep these addresses among those that the stack had."""
    known = _known(path)
    new = [digest for digest in map(_digest, addresses) if digest not in known]
    if new:
        path.touch(mode=0o600)
        path.write_text("\n".join([*known, *new][-MOST:]) + "\n", encoding="ascii")


def had(path: Path, address: str) -> bool:
    """Whether the stack has this address, or had it once."""
    return _digest(address) in _known(path)


def _known(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii", errors="replace").split()
    except OSError:
        return []


def _digest(address: str) -> str:
    return hashlib.sha256(address.encode("utf-8", "surrogateescape")).hexdigest()
