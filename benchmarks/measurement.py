"""A measurement: what happened within a window that opens at the first progress and closes at the last."""

import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from benchmarks import machine
from config.errors import Stopped

LOOK_EVERY_S = 0.05
#: Without progress for so long a measurement gives up.
PATIENCE_S = 90.0


@dataclass(frozen=True)
class Measurement:
    """One line of the table. `cpu_s` is that of the process under measurement, within the window.

    `whole_cpu_us` counts that process from its first instruction, start-up included, over all its events.
    `warm_rate` and `warm_cpu_us` are of the second half of the window, in which a just-in-time compiler has done its
    work; 0 where halves were not told apart. `beside_us` is what an event cost the servers.
    """

    name: str
    events: float
    seconds: float
    cpu_s: float
    whole_cpu_us: float
    peak_mib: float
    note: str = ""
    warm_rate: float = 0.0
    warm_cpu_us: float = 0.0
    beside_us: dict[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.events / self.seconds

    @property
    def cpu_us(self) -> float:
        """Processor time of one event, in microseconds."""
        return self.cpu_s / self.events * 1e6

    @property
    def steady_rate(self) -> float:
        """Events a second when it is warm, or in all where halves were not told apart."""
        return self.warm_rate or self.rate

    @property
    def steady_cpu_us(self) -> float:
        """Processor time of one event, likewise."""
        return self.warm_cpu_us or self.cpu_us


def of_this_process(name: str, work: Callable[[], int], note: str = "") -> Measurement:
    """Measure work that this process does, all of it; it returns how many events it was."""
    before, began_s = machine.usage(os.getpid()), time.monotonic()
    events = work()
    seconds, after = time.monotonic() - began_s, machine.usage(os.getpid())
    cpu_s = after.cpu_s - before.cpu_s
    return Measurement(name, events, seconds, cpu_s, cpu_s / events * 1e6, after.peak_mib, note)


class Look(NamedTuple):
    """How far it was at one time."""

    at_s: float
    done: int
    usage: machine.Usage
    beside: dict[str, float]


def watch(
    name: str,
    pid: int,
    done: Callable[[], int],
    total: int,
    check: Callable[[], None],
    *,
    events: int | None = None,
    note: str = "",
    beside: Mapping[str, int] = MappingProxyType({}),
    longest_s: float = math.inf,
) -> Measurement:
    """Look at `done` until it is `total`, and measure the process from the first progress on.

    `done` counts whatever moves evenly with the events: `total` of it are `events` (as many unless given).
    Start-up, and the work that led to the first progress, are outside of the window on both of its axes.
    `beside` names other processes whose time is told, too, with that of their children. After `longest_s` since the
    first progress what was done by then is all.
    `check` raises if waiting has become pointless; Stopped is raised when nothing moves for PATIENCE_S.
    """

    def see() -> Look:
        times = {other: machine.tree_cpu_s(its) for other, its in beside.items()}
        return Look(time.monotonic(), done(), machine.usage(pid), times)

    opened = half = look = see()
    moved_s = look.at_s
    while look.done < total and not (opened.done and look.at_s - opened.at_s > longest_s):
        time.sleep(LOOK_EVERY_S)
        check()
        before, look = look, see()
        if not opened.done:
            opened = look
        if half.done * 2 < total:
            half = look
        if look.done > before.done:
            moved_s = look.at_s
        elif look.at_s - moved_s > PATIENCE_S:
            raise Stopped(f"{name}: no progress for {PATIENCE_S:g} s at {look.done} of {total}")
    if look.done == opened.done:
        raise Stopped(f"{name} was over at the first look: measure more events (--events)")
    per_step = (total if events is None else events) / total
    moved = (look.done - opened.done) * per_step
    warm = half if half.done < look.done else opened
    warmed = (look.done - warm.done) * per_step
    return Measurement(
        name,
        moved,
        look.at_s - opened.at_s,
        look.usage.cpu_s - opened.usage.cpu_s,
        look.usage.cpu_s / (look.done * per_step) * 1e6,
        look.usage.peak_mib,
        note,
        warmed / (look.at_s - warm.at_s),
        (look.usage.cpu_s - warm.usage.cpu_s) / warmed * 1e6,
        {other: (cpu_s - opened.beside[other]) / moved * 1e6 for other, cpu_s in look.beside.items()},
    )
