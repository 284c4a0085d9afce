"""Sinks that crash, lie dormant and lose their partitions, on a simulated Kafka group and Postgres."""

import pytest

from tests.effort import in_full
from tests.simulation.choices import Choices, Schedule
from tests.simulation.postgres import Content
from tests.simulation.processes import CRASH, PAUSE
from tests.simulation.schedules import assert_holds, effects, play_hasty_sinks, play_sinks
from tests.simulation.sink_run import SinkRun

STRETCH = 500
#: What the scheduler may do after a pause, and the choice of the sink whose turn it is.
ANOTHER_SINK, WEATHER, THOUGHT_DEAD = 1, 2, 0


@pytest.mark.parametrize("first", [0, *map(in_full, range(STRETCH, 20_000, STRETCH))])
def test_every_row_is_written_once_and_positions_agree_whatever_breaks(first: int) -> None:
    assert_holds(play_sinks, range(first, first + STRETCH))


class NewestFirst(Choices):
    """As the schedule says, but for whose turn it is: that of the sink that came last."""

    def among(self, about: str, options: int) -> int:
        if about == "whose turn" and options > 1:
            return self._note(about, options, options - 1)
        return super().among(about, options)


def played(schedule: Schedule, choices: type[Choices] = Choices) -> SinkRun:
    """Sinks that read two partitions to their ends, and whatever the schedule says."""
    run = SinkRun(choices(schedule), 0, most=5)
    try:
        run.run()
    except AssertionError as failure:
        raise AssertionError(f"{failure}\nschedule {dict(schedule)}") from None
    return run


def test_a_sink_that_crashes_at_any_effect_and_its_successor_at_any_other_leave_all_or_nothing() -> None:
    points, pairs = effects(played({})), 0
    for first in points:
        for second in effects(played({first: CRASH}), first):
            told = " ".join(played({first: CRASH, second: CRASH}).stage.told)
            assert "sink-0: crashes" in told
            pairs += "sink-1: crashes" in told
    assert len(points) > 20
    assert pairs > 500


def test_a_sink_that_is_thought_dead_at_any_effect_writes_nothing_when_it_wakes() -> None:
    taken, woken = 0, 0
    for first in effects(played({})):
        # A second sink joins; then the dormant one is thought dead, and the second takes its partitions over.
        joins = {first: PAUSE, first + 1: ANOTHER_SINK}
        made = played(joins, NewestFirst).stage.choices.made
        turns = (number for number, one in enumerate(made) if one.about == "scheduler" and number > first + 1)
        turn = next(turns, None)
        if turn is None:
            continue
        told = played(joins | {turn: WEATHER, turn + 2: THOUGHT_DEAD}, NewestFirst).stage.told
        lost = [number for number, what in enumerate(told) if "a sink is thought dead" in what]
        after = told[lost[0] :] if lost else []
        taken += any(what.startswith("sink-1: assigned") for what in after)
        woken += any(what.startswith("sink-0: ") for what in after)
    assert min(taken, woken) > 20, (taken, woken)


def test_a_partition_that_is_lost_and_given_back_while_a_batch_is_gathered_leaves_no_gap() -> None:
    assert_holds(play_hasty_sinks, range(300))


def test_an_idle_sink_notices_that_postgres_was_restored_from_a_backup() -> None:
    run = SinkRun(Choices({}), 0)
    with run.in_place():
        while not run.through:
            run.turn()
        run.server.restore(0)
        for _ in range(100):
            run.turn()
        for process in run.stage.processes:
            process.kill()
    assert run.server.content != Content({}, {})
    assert run.through
