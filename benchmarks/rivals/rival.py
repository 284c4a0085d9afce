"""What a rival of the worker is to a measurement: a program to be had, started, and looked at."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from local.server import Progress


@dataclass(frozen=True)
class Ready:
    """A rival that can be started: its command without the last arguments, and what it is made of.

    Every program takes KAFKA INPUT PREFIX PARTITIONS FOLDER, reads INPUT as the consumer group PREFIX, and writes
    <PREFIX>.ledger and <PREFIX>.rejections, until SIGTERM. What it keeps on disk is below FOLDER.
    """

    command: tuple[str, ...]
    versions: dict[str, str]


@dataclass(frozen=True)
class Rival:
    """Another engine with the worker's work to do.

    `events` is how many it handles in a measurement at most: a slow one would take minutes for more. `balances` is the
    topic with its newest balances, where {prefix} and {input} stand for themselves: the changelog of its state, as
    the worker's is. `makes` are topics to be made before it starts, beside its outputs. `prepare` takes the folder
    of the cache, and raises WalletError where the rival is not to be had.
    """

    name: str
    guarantee: str
    events: int
    balances: str
    prepare: Callable[[Path, Progress], Ready]
    makes: tuple[str, ...] = ()
