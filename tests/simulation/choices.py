"""A schedule: everything that chance decides in one run, numbered, so that it can be played again.

Every choice has a 0, which means "nothing happens": go on, no fault, all at once. So a schedule is the
mapping of choice number to what was chosen there, zeros left out, and the empty schedule is the run in
which all goes well. A schedule that fails is made smaller by leaving choices out (`smallest`).
"""

import random
from collections.abc import Callable, Mapping
from typing import NamedTuple

Schedule = Mapping[int, int]


class Made(NamedTuple):
    """One choice that came up: what it was about, and among how many."""

    about: str
    options: int


class Choices:
    """Answers the questions of one run, by chance from a seed or as a given schedule says."""

    def __init__(self, given: Schedule | None = None, *, seed: int | str | None = None) -> None:
        self._given = given or {}
        self._dice = None if seed is None else random.Random(seed)
        #: What came up, in order, and what was chosen where that was not 0.
        self.made: list[Made] = []
        self.schedule: dict[int, int] = {}

    def rarely(self, about: str, *probabilities: float) -> int:
        """0 mostly; 1, 2, ... each with its own probability."""
        options = len(probabilities) + 1
        if self._dice is None:
            return self._note(about, options, None)
        luck = self._dice.random()
        for option, probability in enumerate(probabilities, 1):
            if luck < probability:
                return self._note(about, options, option)
            luck -= probability
        return self._note(about, options, 0)

    def among(self, about: str, options: int) -> int:
        """Any of 0 to options - 1."""
        if options < 2:
            return 0
        return self._note(about, options, None if self._dice is None else self._dice.randrange(options))

    def _note(self, about: str, options: int, chosen: int | None) -> int:
        number = len(self.made)
        if chosen is None:
            # A schedule made smaller may come by fewer options than it was made for.
            chosen = min(self._given.get(number, 0), options - 1)
        self.made.append(Made(about, options))
        if chosen:
            self.schedule[number] = chosen
        return chosen


def smallest(schedule: Schedule, fails: Callable[[Schedule], bool]) -> dict[int, int]:
    """Leave choices out as long as what is left still fails: halves first, single ones last."""
    kept = dict(schedule)
    size = len(kept)
    while size:
        for start in range(0, len(kept), size):
            some = set(list(kept)[start : start + size])
            fewer = {number: chosen for number, chosen in kept.items() if number not in some}
            if some and fails(fewer):
                kept = fewer
                break
        else:
            size //= 2
        size = min(size, len(kept))
    return kept
