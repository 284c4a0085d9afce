"""Schedules by seed: how to play one again, and what to say when one fails."""

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import product, takewhile

from tests.simulation.choices import Choices, Schedule, smallest
from tests.simulation.inputs import mixed, nasty, small
from tests.simulation.processes import CRASH
from tests.simulation.sink_run import SinkRun
from tests.simulation.worker_run import WorkerRun

INPUTS = 100
CRASHES, PAUSES = (0.0, 0.005, 0.02, 0.05), (0.0, 0.02, 0.05, 0.15)

#: Plays the run of a seed by these choices.
Play = Callable[[int, Choices], None]


def play_workers(seed: int, choices: Choices) -> None:
    """Workers under the schedule: raises AssertionError where something is not exact."""
    dice = random.Random(seed)
    run = WorkerRun(
        choices,
        nasty(seed % INPUTS),
        crash=dice.choice(CRASHES),
        pause=dice.choice(PAUSES),
        eager=seed % 2 == 1,
    )
    run.run()


def play_sinks(seed: int, choices: Choices) -> None:
    """Sinks under the schedule."""
    dice = random.Random(seed)
    SinkRun(choices, seed, crash=dice.choice(CRASHES), pause=dice.choice(PAUSES)).run()


def play_hasty_sinks(seed: int, choices: Choices) -> None:
    """Sinks that may lose a partition and get it back while they gather one batch."""
    dice = random.Random(seed)
    SinkRun(choices, seed, crash=dice.choice(CRASHES), pause=dice.choice(PAUSES), hasty=True).run()


#: What Kafka decides about a transaction: marks that are left out, and errors that roll back.
ENDINGS = {"no markers": 1, "send_offsets_to_transaction": 2, "commit": 2}


def play_endings(seed: int, choices: Choices) -> None:
    """A worker with four batches that meets every pair of such endings; chance has no part in it."""
    del seed, choices
    for first, ending in _endings({}):
        for second, another in _endings({first: ending}):
            schedule = {first: ending, second: another}
            if marks := _marks(_four_batches(schedule), second):
                _four_batches(schedule | {marks[-1]: 1})  # the offset's is the last


def play_late(seed: int, choices: Choices) -> None:
    """A request to commit that is sent again, and arrives at any later one, after which the worker may die."""
    del seed, choices
    for what in ("commit late", "commit sent again"):
        arrived = 0
        for at in _about(what, {}):
            for later in _about("late arrival", {at: 1}):
                played = _four_batches({at: 1, later: 1})
                arrived += "late request arrives" in " ".join(played.stage.told)
                for then in effects(played, later):
                    _four_batches({at: 1, later: 1, then: CRASH})
        assert arrived > 10, "no request was late"


def _about(what: str, before: Schedule) -> list[int]:
    made = _four_batches(before).stage.choices.made
    return [at for at, one in enumerate(made) if one.about == what and at > max(before, default=-1)]


def _endings(before: Schedule) -> list[tuple[int, int]]:
    made = _four_batches(before).stage.choices.made
    after = max(before, default=-1)
    return [(at, ENDINGS[one.about]) for at, one in enumerate(made) if at > after and one.about in ENDINGS]


def _four_batches(schedule: Schedule) -> WorkerRun:
    run = WorkerRun(Choices(schedule), small(), longest_run=1, eager=True)
    run.run()
    return run


def play_torn(seed: int, choices: Choices) -> None:
    """A commit of which Kafka writes every set of its marks but all: exact in the end, or refused as it is.

    Raises AssertionError also where everything is refused, or nothing.
    """
    del seed, choices
    refused = Counter[bool]()
    for after_crash in ("same store", "other machine"):
        for longest_run in (2, 4):
            for schedule in _half_ended(longest_run):
                run = _torn(schedule, longest_run, after_crash)
                refused[run.torn is not None] += 1
        for schedule in _half_ended(2, offset=True):
            run = _torn(schedule, 2, after_crash, forgetful=True)
            refused[run.torn is not None] += 1
    assert min(refused[True], refused[False]) > 10, refused


def play_rolled_back(seed: int, choices: Choices) -> None:
    """A commit without any mark, a second worker that rolls it back and dies at some effect, and the first again."""
    del seed, choices
    for at in _commits(4):
        for then in effects(_torn({at: 1}, 4, "other machine"), at):
            torn = _torn({at: 1, then: CRASH}, 4, "other machine").torn
            assert torn is None, f"refused, though nothing of it was to be read: {torn}"


#: Chance has no part in these: what one play does not see, none does.
EXHAUSTIVE = frozenset({play_endings, play_late, play_torn, play_rolled_back})


def _commits(longest_run: int) -> list[int]:
    made = _torn({}, longest_run).stage.choices.made
    return [at for at, one in enumerate(made) if one.about == "no markers"]


def _half_ended(longest_run: int, *, offset: bool = False) -> Iterator[Schedule]:
    """Every set of marks, of one commit after the other; with `offset` those with the group's offset."""
    for at in _commits(longest_run):
        marks = _marks(_torn({at: 1}, longest_run), at)
        for written in product((0, 1), repeat=len(marks)):
            if offset and not written[-1]:
                continue
            yield {at: 1} | {mark: 1 for mark, one in zip(marks, written, strict=True) if one}


def _marks(run: WorkerRun, at: int) -> list[int]:
    """The choices whether a mark is written, of a transaction whose marks are left out at `at`."""
    after = enumerate(run.stage.choices.made[at + 1 :], at + 1)
    return [number for number, _ in takewhile(lambda one: one[1].about == "mark written", after)]


def _torn(
    schedule: Schedule, longest_run: int, after_crash: str = "same store", *, forgetful: bool = False
) -> WorkerRun:
    run = WorkerRun(
        Choices(schedule),
        mixed(),
        longest_run=longest_run,
        eager=True,
        after_crash=after_crash,
        tearing=True,
        forgetful=forgetful,
    )
    run.run()
    return run


def failure(play: Play, seed: int, schedule: Schedule | None = None) -> AssertionError | None:
    """What a seed comes to, or one schedule of its run; None if all is well."""
    try:
        play(seed, Choices(seed=seed) if schedule is None else Choices(schedule))
    except AssertionError as wrong:
        return wrong
    return None


def assert_holds(play: Play, seeds: Iterable[int]) -> None:
    """Play all seeds; of the first one that fails, show the smallest schedule that does."""
    for seed in seeds:
        if failure(play, seed) is not None:
            raise AssertionError(explained(play, seed)) from None


def explained(play: Play, seed: int) -> str:
    """The smallest schedule of a seed that fails, what happens in it, and how to play it again."""
    choices = Choices(seed=seed)
    with suppress(AssertionError):
        play(seed, choices)
    kept = smallest(choices.schedule, lambda fewer: failure(play, seed, fewer) is not None)
    what = failure(play, seed, kept)
    return f"{what}\n\nseed {seed}; again: {play.__name__}({seed}, Choices({kept}))"


def caught_by(play: Play, seeds: Iterable[int], check: str) -> tuple[bool, list[str]]:
    """Whether a schedule fails by this check, a regular expression for the first line of what it says; and what other
    checks said before.
    """
    others: list[str] = []
    for seed in seeds:
        if (wrong := failure(play, seed)) is not None:
            told = str(wrong).partition("\n")[0]
            if re.match(check, told):
                return True, others
            others.append(told)
    return False, others


def effects(run: SinkRun | WorkerRun, after: int = -1) -> list[int]:
    """The numbers of the choices before an effect."""
    return [
        number
        for number, made in enumerate(run.stage.choices.made)
        if made.about == "effect" and number > after
    ]
