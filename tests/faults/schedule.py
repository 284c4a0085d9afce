"""What goes wrong, when, to whom and for how long: a pure function of a seed, so that every run can be repeated."""

import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import takewhile

WORKERS = ("worker-1", "worker-2", "worker-3")
SINKS = ("sink-1", "sink-2")
#: The worker whose stores lie on a small disk of their own.
ON_SMALL_DISK = "worker-3"

#: The pipeline is left alone for so long at the beginning; then a backup is taken, which later faults restore.
QUIET_S = 6.0
#: Between the end of a fault and the next one.
PAUSE_S = (1.0, 8.0)
#: How often the next fault does not wait for the end of the one before.
OVERLAP = 0.25


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong; `dice` seeds the choices that it makes on the way."""

    at_s: float
    kind: str
    target: str
    length_s: float
    dice: int

    def __str__(self) -> str:
        return f"{self.at_s:7.1f} s  {self.kind:<26} {self.target:<9} {self.length_s:4.1f} s"


@dataclass(frozen=True)
class Kind:
    """One kind of fault: whom it can hit, and for how many seconds."""

    targets: tuple[str, ...]
    least_s: float = 0.0
    most_s: float = 0.0


def kinds(brokers: int) -> dict[str, Kind]:
    """Every kind there is. Of several brokers one can be away for long, and its partitions get other leaders."""
    nodes = tuple(f"broker-{node}" for node in range(1, brokers + 1))
    away = Kind(nodes, 8.0, 15.0) if brokers > 1 else Kind(nodes, 0.5, 3.0)
    return {
        "worker_killed": Kind(WORKERS),
        "worker_stopped": Kind(WORKERS),
        "worker_suspended": Kind(WORKERS, 8.0, 12.0),
        "worker_state_lost": Kind(WORKERS),
        "worker_disk_full": Kind((ON_SMALL_DISK,), 5.0, 10.0),
        "worker_clock_jumped": Kind(WORKERS, 4.0, 8.0),
        "sink_killed": Kind(SINKS),
        "sink_stopped": Kind(SINKS),
        "sink_suspended": Kind(SINKS, 8.0, 14.0),
        "sink_clock_jumped": Kind(SINKS, 4.0, 8.0),
        "broker_killed": away,
        "broker_suspended": Kind(nodes, 2.0, 6.0),
        "postgres_killed": Kind(("postgres",), 0.5, 5.0),
        # A blink, or so long that the sinks give their connections up (tests.faults.torture.LIMITS).
        "postgres_suspended": Kind(("postgres",), 3.0, 20.0),
        "postgres_sessions_ended": Kind(("postgres",), 1.0, 3.0),
        "postgres_cut_in_copy": Kind(("postgres",), 1.0, 3.0),
        "postgres_commit_unanswered": Kind(("postgres",), 2.0, 6.0),
        "postgres_restored": Kind(("postgres",), 0.5, 2.0),
        "rebalances_in_succession": Kind(("group",), 5.0, 8.0),
        "kills_in_succession": Kind(("group",), 6.0, 6.0),
        "idle_spare": Kind(("group",), 5.0, 8.0),
        "partitions_to_and_fro": Kind(WORKERS, 8.0, 12.0),
        "group_offsets_deleted": Kind(("group",)),
        "upstream_left_open": Kind(("upstream",), 3.0, 8.0),
    }


def schedule(seed: int, seconds: float, brokers: int = 1, only: Collection[str] = ()) -> tuple[Fault, ...]:
    """The faults of a run, by time: every kind once in a random order, then every kind once again, and so on."""
    dice = random.Random(seed)
    possible = {name: kind for name, kind in kinds(brokers).items() if not only or name in only}
    backup = Fault(QUIET_S, "postgres_backup", "postgres", 0.0, 0)
    faults = takewhile(lambda fault: fault.at_s + fault.length_s < seconds, _endless(dice, possible))
    return (*([backup] if "postgres_restored" in possible else []), *faults)


def _endless(dice: random.Random, possible: dict[str, Kind]) -> Iterator[Fault]:
    at_s = QUIET_S + 2.0
    while True:
        for name in dice.sample(sorted(possible), len(possible)):
            kind = possible[name]
            length_s = dice.uniform(kind.least_s, kind.most_s)
            yield Fault(at_s, name, dice.choice(kind.targets), length_s, dice.getrandbits(32))
            waits = dice.random() >= OVERLAP
            at_s += dice.uniform(*PAUSE_S) + (length_s if waits else 0.0)
