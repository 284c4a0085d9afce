"""What the stack remembers between commands: ports, the password, the servers it started, and its earlier addresses."""

import hashlib
import json
import random
import secrets
import socket
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Self

from config.errors import Refused
from local.server import Running

FORMAT = 1
#: Below the range of ephemeral ports (Linux 32768, macOS 49152): a client that retries while a server is down could
#: otherwise take the server's port, or even connect to itself.
PORTS = range(20_000, 32_000)
#: Most addresses to keep; a stack gets new ones when it is deleted, or when its port is taken.
MOST = 100


@dataclass(frozen=True)
class State:
    """One stack's state file. `full_speed` says how Kafka was last started."""

    kafka_port: int = 0
    controller_port: int = 0
    postgres_port: int = 0
    password: str = field(default_factory=lambda: secrets.token_urlsafe(16), repr=False)
    full_speed: bool = False
    kafka: Running | None = None
    postgres: Running | None = None

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """Read the file; None if there is none yet, raises Refused if it cannot be read."""
        try:
            fields = json.loads(path.read_text())
            if fields.pop("format") != FORMAT:
                raise Refused(
                    f"{path} was written by another version: stop its servers and remove {path.parent}"
                )
            running = {
                name: Running(**fields[name]) if fields[name] else None for name in ("kafka", "postgres")
            }
            return cls(**fields | running)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Refused(f"{path} is damaged: stop its servers and remove {path.parent}") from error

    def save(self, path: Path) -> None:
        """Write it atomically, readable only for us."""
        new = path.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_text(json.dumps({"format": FORMAT} | asdict(self), indent=2) + "\n")
        new.replace(path)

    def with_free_ports(self, *, kafka: bool, postgres: bool) -> Self:
        """Keep each port that is free; choose another if there is none yet or it is taken."""
        state = self
        if kafka:
            state = replace(state, kafka_port=state._own_or_free(state.kafka_port))
            state = replace(state, controller_port=state._own_or_free(state.controller_port))
        if postgres:
            state = replace(state, postgres_port=state._own_or_free(state.postgres_port))
        return state

    def _own_or_free(self, port: int) -> int:
        return port if port and is_free(port) else free_port(without=self._ports)

    @property
    def _ports(self) -> list[int]:
        return [self.kafka_port, self.controller_port, self.postgres_port]


def is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # as servers do: closed connections linger in TIME_WAIT
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port(without: list[int]) -> int:
    """A free port on loopback."""
    for port in random.sample(PORTS, 200):
        if port not in without and is_free(port):
            return port
    raise Refused(
        f"no free port between {PORTS.start} and {PORTS.stop} on 127.0.0.1: stop something that listens there"
    )


def remember_addresses(path: Path, addresses: list[str]) -> None:
    """Add these to all addresses that the stack ever had, to report settings that still point to an earlier one.

    It keeps only digests: PostgreSQL's address contains the password. The file survives `down --delete`.
    """
    known = _known(path)
    new = [digest for digest in map(_digest, addresses) if digest not in known]
    if new:
        path.touch(mode=0o600)
        path.write_text("\n".join([*known, *new][-MOST:]) + "\n", encoding="ascii")


def had_address(path: Path, address: str) -> bool:
    """Whether the stack has, or ever had, this address."""
    return _digest(address) in _known(path)


def _known(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii", errors="replace").split()
    except OSError:
        return []


def _digest(address: str) -> str:
    return hashlib.sha256(address.encode("utf-8", "surrogateescape")).hexdigest()
