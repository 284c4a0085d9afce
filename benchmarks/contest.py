"""Rounds in turn: ours, a rival, ours, the next rival. A figure counts where both results are equal."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from benchmarks.measurement import Measurement
from benchmarks.place import Place, log
from benchmarks.rivals.rival import Ready
from config.errors import WalletError

#: What a side leaves behind, to be held against the other's.
Result = TypeVar("Result")


@dataclass
class Comparison:
    """What rounds in turn found: pairs of ours and theirs. `lacking` says why a rival was not measured."""

    what: str
    rival: str
    guarantee: str
    rounds: list[tuple[Measurement, Measurement]] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)
    lacking: str = ""

    def sides(self, figure: Callable[[Measurement], float]) -> tuple[list[float], list[float]]:
        """A figure of ours and of theirs, round by round."""
        return [figure(ours) for ours, _ in self.rounds], [figure(theirs) for _, theirs in self.rounds]


class Contest(ABC, Generic[Result]):
    """One of ours against one rival."""

    def __init__(self, place: Place, what: str, rival: str, guarantee: str) -> None:
        self.place = place
        self.comparison = Comparison(what, rival, guarantee)
        self._ready: Ready | None = None

    @abstractmethod
    def prepare(self) -> Ready:
        """Fetch and build the rival; raises WalletError where it is not to be had."""

    @abstractmethod
    def ours(self, number: int) -> tuple[Measurement, Result]:
        """Measure ours in this round."""

    @abstractmethod
    def theirs(self, number: int, ready: Ready) -> tuple[Measurement, Result]:
        """Measure the rival in this round."""

    @abstractmethod
    def differences(self, ours: Result, theirs: Result) -> list[str]:
        """In what the results differ."""

    def begin(self) -> None:
        """Prepare the rival, or note in one line why it cannot be."""
        try:
            self._ready = self.prepare()
        except WalletError as lack:
            self._leave_out(lack)
        else:
            self.comparison.versions = self._ready.versions

    def round(self, number: int) -> None:
        """Ours, then theirs, then the check."""
        if self._ready is None:
            return
        ours, our_result = self.ours(number)
        try:
            theirs, their_result = self.theirs(number, self._ready)
        except WalletError as failure:
            self._leave_out(failure)
            return
        if found := self.differences(our_result, their_result):
            self.comparison.differences += found
            log.error("different", rival=self.comparison.rival, what="; ".join(found))
            return
        self.comparison.rounds.append((ours, theirs))
        sides = {
            side: f"{one.rate:.0f}/s, warm {one.warm_rate:.0f}/s {one.warm_cpu_us:.1f} us"
            for side, one in (("ours", ours), ("theirs", theirs))
        }
        log.info("round", what=self.comparison.what, rival=self.comparison.rival, **sides)

    def _leave_out(self, why: WalletError) -> None:
        """Do without the rival from now on."""
        self._ready, self.comparison.lacking = None, str(why).splitlines()[0]
        log.warning("left_out", rival=self.comparison.rival, why=str(why))


def run(contests: Sequence["Contest[Any]"], rounds: int) -> None:
    """As many rounds of each, in turn; what they find is in their comparisons."""
    for contest in contests:
        contest.begin()
    for number in range(1, rounds + 1):
        for contest in contests:
            contest.round(number)
