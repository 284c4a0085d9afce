"""What a measurement needs of the machine: who it is, and what its processes use, by /proc."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from config.errors import ConfigurationError

_TICKS = os.sysconf("SC_CLK_TCK")
PACKAGES = ("faust-streaming", "aiokafka", "confluent-kafka", "psycopg", "rocksdict", "fastavro")


class Usage(NamedTuple):
    """Processor seconds (user and system, 10 ms steps) since the start of a process, and its peak memory."""

    cpu_s: float
    peak_mib: float


def usage(pid: int) -> Usage:
    """What one process has used, all its threads together."""
    lines = (Path("/proc") / str(pid) / "status").read_text().splitlines()
    # Some kernels that run containers leave the peak out; the present size is then the nearest there is.
    sizes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":\t") for line in lines)
             if name in {"VmHWM", "VmRSS"}}  # fmt: skip
    return Usage(_own_cpu_s(pid), sizes.get("VmHWM", sizes.get("VmRSS", 0)) / 1024)


def tree_cpu_s(pid: int) -> float:
    """Processor seconds of a process, of its children that live and of those that it has waited for."""
    parents = {int(path.name): _stat(int(path.name)) for path in Path("/proc").glob("[0-9]*")}
    total, waiting = 0.0, [pid]
    while waiting:
        one = waiting.pop()
        if fields := parents.get(one):
            total += sum(map(int, fields[11:15])) / _TICKS
            waiting += [child for child, its in parents.items() if its and int(its[1]) == one]
    return total


def description() -> dict[str, str]:
    """The machine and the versions that a result belongs to."""
    if not Path("/proc/self/stat").exists():
        raise ConfigurationError("the benchmarks read /proc: run them on Linux, or in a container")
    models = [line.partition(": ")[2] for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    load = os.getloadavg()[0]
    return {
        "processor": f"{os.cpu_count()} cores, {models[0] if models else platform.machine()}",
        "load before": f"{load:.1f}",
        "Python": platform.python_version(),
    } | {name: version(name) for name in PACKAGES}


def _own_cpu_s(pid: int) -> float:
    fields = _stat(pid)
    return sum(map(int, fields[11:13])) / _TICKS if fields else 0.0


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the name, which may hold anything; None if it has ended."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines()
