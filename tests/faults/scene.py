"""What the faults of a run act upon."""

import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from config.settings import Settings
from tests.clock import Clock
from tests.faults.cluster import Cluster
from tests.faults.database import Postgres
from tests.faults.gate import Gate
from tests.faults.load import Load
from tests.faults.schedule import WORKERS, Fault
from tests.faults.supervision import Program

#: Faults that hold every worker.
OF_ALL_WORKERS = frozenset({"group_offsets_deleted", "kills_in_succession", "idle_spare"})


class Skipped(Exception):  # noqa: N818 - the name is the message
    """This kind of fault cannot be made here, and why."""


@dataclass
class Scene:
    """One run: its servers, its programs, its upstream, and what came of the faults so far."""

    settings: Settings
    cluster: Cluster
    postgres: Postgres
    gate: Gate
    load: Load
    #: Workers and sinks by name, one more worker that only comes and goes, and one more than there is work for.
    programs: dict[str, Program]
    visitor: Program
    spare: Program
    #: The disk of one worker's stores, small enough to be filled; None where it could not be mounted.
    small_disk: Path | None
    #: A clock that can jump; None without a C compiler.
    clock: Clock | None
    #: Set when the run is cut short: nobody rests any longer.
    ended: threading.Event = field(default_factory=threading.Event)
    #: What faults have to tell besides, such as how often a copy was cut.
    told: Counter[str] = field(default_factory=Counter)
    _locks: defaultdict[str, threading.Lock] = field(default_factory=lambda: defaultdict(threading.Lock))

    @property
    def workers(self) -> list[Program]:
        """The three that are always there."""
        return [self.programs[name] for name in WORKERS]

    def rest(self, seconds: float) -> None:
        """Let time pass."""
        self.ended.wait(seconds)

    @contextmanager
    def alone_with(self, fault: Fault) -> Iterator[None]:
        """Wait until no other fault works on the same target. Of the brokers only one may be away at a time."""
        wanted = {fault.target if not fault.target.startswith("broker") else "broker"}
        if "clock" in fault.kind:
            wanted.add("clock")
        if fault.kind in OF_ALL_WORKERS:
            # No broker either: see Progress for what an admin client may do when one goes away.
            wanted |= {*WORKERS, "broker"}
        with ExitStack() as stack:
            for name in sorted(wanted):  # in one order, so that two faults never wait for each other
                stack.enter_context(self._locks[name])
            yield
