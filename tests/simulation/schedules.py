"""Schedules by seed: how to play one again, and what to say when one fails."""

import random
from collections.abc import Callable, Iterable
from contextlib import suppress

from tests.simulation.choices import Choices, Schedule, smallest
from tests.simulation.inputs import nasty, small
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
            _four_batches({first: ending, second: another})


def _endings(before: Schedule) -> list[tuple[int, int]]:
    made = _four_batches(before).stage.choices.made
    after = max(before, default=-1)
    return [(at, ENDINGS[one.about]) for at, one in enumerate(made) if at > after and one.about in ENDINGS]


def _four_batches(schedule: Schedule) -> WorkerRun:
    run = WorkerRun(Choices(schedule), small(), longest_run=1, eager=True)
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


def caught_at(play: Play, seeds: Iterable[int]) -> int | None:
    """How many schedules it takes until one fails; None if none does."""
    for number, seed in enumerate(seeds, 1):
        if failure(play, seed) is not None:
            return number
    return None


def effects(run: SinkRun | WorkerRun, after: int = -1) -> list[int]:
    """The numbers of the choices before an effect."""
    return [
        number
        for number, made in enumerate(run.stage.choices.made)
        if made.about == "effect" and number > after
    ]
