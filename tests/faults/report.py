"""What a run came to: printed for people, and as JSON beside the logs."""

import json
import re
import signal
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.progress import Stall, longest
from tests.faults.schedule import Fault
from tests.faults.supervision import Program

#: The last good look before a fault may be so old when it begins.
BEFORE_S = 1.0
LONG_S = 4.0
#: A traceback is a fault of ours, except where the disk was full, as it is on purpose.
TRACEBACK = re.compile(r"^(?!.*No space left on device).*(?:traceback=|^Traceback )", re.MULTILINE)

#: No input may take a program to more (docs/scale.md).
MOST_BYTES = 600_000_000


@dataclass
class Report:
    """The figures of a run, and everything that is wrong with it."""

    seed: int
    brokers: int
    folder: str
    ran_s: float = 0.0
    events: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    skipped: dict[str, str] = field(default_factory=dict)
    told: Counter[str] = field(default_factory=Counter)
    #: Why clients of the observer were made again.
    renewed: list[str] = field(default_factory=list)
    #: How often programs ended with each code; a negative one is a signal.
    ends: Counter[str] = field(default_factory=Counter)
    #: The longest time without progress after each kind of fault, of workers and of sinks.
    stalls_s: dict[str, dict[str, float]] = field(default_factory=dict)
    settled_s: float = 0.0
    differences: int = 0
    checks: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    #: Every stall that was long, as reader, partition, and the seconds of the run that it lasted from and to.
    stalls: list[tuple[str, int, float, float]] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def add_stalls(self, made: Sequence[tuple[float, Fault]], stalls: Sequence[Stall]) -> None:
        """Give each stall to the fault that began last before it."""
        self.stalls = [
            (one.reader, one.partition, round(one.from_s, 1), round(one.to_s, 1))
            for one in sorted(stalls, key=lambda one: one.from_s)
            if one.length_s > LONG_S
        ]
        began = [max(0.0, at_s - BEFORE_S) for at_s, _ in made]
        for (_, fault), from_s, to_s in zip(made, began, [*began[1:], float("inf")], strict=True):
            worst = self.stalls_s.setdefault(fault.kind, {"worker": 0.0, "sink": 0.0})
            for reader in worst:
                worst[reader] = max(worst[reader], round(longest(stalls, reader, from_s, to_s), 1))

    def add_ends(self, programs: Iterable[Program]) -> None:
        """Count how programs ended; one that ended as none should is a problem, and so is a traceback."""
        for program in programs:
            role = program.name.partition("-")[0]
            for end in program.ends:
                self.ends[f"{role} {end.code}"] += 1
                if (
                    not end.expected and end.sent is not signal.SIGABRT
                ):  # that one is told as not ended, below
                    self.problems.append(
                        f"{program.name} ended with code {end.code} (we had sent {end.sent and end.sent.name})"
                    )
            if program.peak_bytes > MOST_BYTES:
                self.problems.append(f"{program.name} took {program.peak_bytes // 1_000_000} MB of memory")
            if program.overdue:
                self.problems.append(
                    f"{program.name} did not end when it was told to, {program.overdue} times"
                )
            text = program.log.read_text(errors="replace") if program.log.exists() else ""
            if found := len(TRACEBACK.findall(text)):
                self.problems.append(f"{program.name} told {found} tracebacks: see {program.log}")

    def save(self) -> None:
        """Write it down as JSON."""
        text = json.dumps(vars(self) | {"clean": self.clean}, indent=2)
        (Path(self.folder) / "report.json").write_text(text + "\n")

    def __str__(self) -> str:
        lines = [
            f"seed {self.seed}, {self.brokers} broker(s), {self.ran_s:.0f} s, {self.events:,} events",
            f"{self.faults.total()} faults; logs in {self.folder}",
            f"{'fault':<28} {'times':>5}  longest time without progress, s: worker, sink",
        ]
        lines += [
            f"  {kind:<26} {times:>5}  {self.stalls_s[kind]['worker']:6.1f} {self.stalls_s[kind]['sink']:6.1f}"
            for kind, times in sorted(self.faults.items())
        ]
        lines += [f"  {kind:<26} skipped: {why}" for kind, why in sorted(self.skipped.items())]
        lines += [f"  {what}: {times}" for what, times in sorted(self.told.items())]
        lines += [f"  the observer's clients made again: {why}" for why in self.renewed]
        ends = ", ".join(f"{end}: {times}" for end, times in sorted(self.ends.items()))
        lines += [f"ends by code: {ends}", f"everything posted and written after {self.settled_s:.1f} s"]
        lines += [f"  {question}: {answer}" for question, answer in self.checks.items()]
        lines += [f"differences: {self.differences}"]
        lines += [f"PROBLEM {problem}" for problem in self.problems]
        return "\n".join([*lines, "clean" if self.clean else "NOT clean"])
