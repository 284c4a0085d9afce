"""Workers that crash, lie dormant and take over from one another, thousands of times, on a simulated Kafka."""

import pytest

from tests.effort import in_full
from tests.simulation.choices import Choices, Schedule
from tests.simulation.inputs import small
from tests.simulation.processes import CRASH, MACHINE_CRASH, PAUSE
from tests.simulation.schedules import (
    assert_holds,
    effects,
    play_endings,
    play_late,
    play_rolled_back,
    play_torn,
    play_workers,
)
from tests.simulation.worker_run import WorkerRun

STRETCH = 500
#: What the scheduler may do after a pause.
OTHER_MACHINE, A_ZOMBIE = 1, 2


@pytest.mark.parametrize("first", [0, *map(in_full, range(STRETCH, 60_000, STRETCH))])
def test_every_record_is_handled_exactly_once_whatever_breaks(first: int) -> None:
    assert_holds(play_workers, range(first, first + STRETCH))


def two_batches(schedule: Schedule, *, eager: bool, after_crash: str = "same store") -> WorkerRun:
    """Open, post two batches of two records each, and whatever the schedule says."""
    run = WorkerRun(Choices(schedule), small(), eager=eager, longest_run=2, after_crash=after_crash)
    try:
        run.run()
    except AssertionError as failure:
        raise AssertionError(f"{failure}\nschedule {dict(schedule)}") from None
    return run


@pytest.mark.parametrize(
    ("after_crash", "eager"),
    [
        ("same store", False),
        ("empty store", True),
        ("other machine", False),
        in_full("same store", True),
        in_full("empty store", False),
        in_full("other machine", True),
    ],
)
def test_a_crash_at_any_effect_and_at_any_of_the_recovery_after_it_leaves_all_or_nothing(
    after_crash: str, eager: bool
) -> None:
    points = effects(two_batches({}, eager=eager))
    pairs = 0
    for first in points:
        run = two_batches({first: CRASH}, eager=eager, after_crash=after_crash)
        for second in effects(run, first):
            two_batches({first: CRASH, second: CRASH}, eager=eager, after_crash=after_crash)
            pairs += 1
    assert len(points) > 15
    assert pairs > 300


@pytest.mark.parametrize(
    "about", ["send_offsets_to_transaction", "offsets unanswered", "commit", "commit unanswered"]
)
def test_what_kafka_does_not_answer_in_time_is_asked_again_and_ends_no_worker(about: str) -> None:
    points = [
        at for at, made in enumerate(two_batches({}, eager=False).stage.choices.made) if made.about == about
    ]
    assert len(points) == 2
    for point in points:
        run = two_batches({point: 1}, eager=False)
        assert not [what for what in run.stage.told if "ends itself" in what]


def test_however_kafka_ends_any_two_transactions_every_record_is_handled_exactly_once() -> None:
    assert_holds(play_endings, [0])


def test_a_request_to_commit_that_arrives_late_ends_no_other_transaction() -> None:
    assert_holds(play_late, [0])


def test_a_commit_that_kafka_ends_in_a_part_of_its_topics_is_mended_or_refused() -> None:
    assert_holds(play_torn, [0])


def test_a_store_whose_newest_entry_was_rolled_back_elsewhere_begins_anew() -> None:
    assert_holds(play_rolled_back, [0])


def test_a_machine_that_crashes_at_any_effect_may_lose_any_of_its_last_writes() -> None:
    losses = 0
    for first in effects(two_batches({}, eager=True)):
        run = two_batches({first: MACHINE_CRASH}, eager=True)
        assert is_told(run, "machine crashes before")
        asked = run.stage.choices.made[first + 1]
        writes = asked.options if asked.about == "writes lost" else 1
        for lost in range(1, writes):
            losses += 1
            run = two_batches({first: MACHINE_CRASH, first + 1: lost}, eager=True)
            for second in effects(run, first):
                two_batches({first: MACHINE_CRASH, first + 1: lost, second: CRASH}, eager=True)
    assert losses > 10


def is_told(run: WorkerRun, what: str) -> bool:
    return any(what in one for one in run.stage.told)


@pytest.mark.parametrize("eager", [in_full(False), True])
def test_a_zombie_that_wakes_at_any_effect_of_its_successor_changes_nothing(eager: bool) -> None:
    woken = 0
    for first in effects(two_batches({}, eager=eager)):
        asleep = {first: PAUSE, first + 1: OTHER_MACHINE}
        run = two_batches(asleep, eager=eager)
        for second in effects(run, first):
            woken += wakes(two_batches(asleep | {second: PAUSE, second + 1: A_ZOMBIE}, eager=eager), "pauses")
            woken += wakes(
                two_batches(asleep | {second: CRASH, second + 1: A_ZOMBIE}, eager=eager), "crashes"
            )
    assert woken > 100


def wakes(run: WorkerRun, what: str) -> bool:
    """Whether the first worker goes on right after what its successor does; everybody wakes in the end."""
    told = run.stage.told
    done = next((at for at, one in enumerate(told) if one.startswith(f"worker-1@1: {what} before")), None)
    return done is not None and told[done + 1].startswith("worker-0@0: ")


def test_a_worker_that_is_fenced_while_it_recovers_does_not_send_the_operator_to_reset_the_group() -> None:
    fenced = 0
    for number in effects(two_batches({}, eager=False)):
        run = two_batches({number: PAUSE, number + 1: OTHER_MACHINE}, eager=False)
        assert run.misled == 0
        fenced += is_told(run, "worker-0@0: loses the partition: Fenced")
    assert fenced > 10
