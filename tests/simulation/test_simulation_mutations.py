"""What the simulation is worth: it sees every one of these faults within a bounded number of schedules."""

import pytest

from tests.effort import EFFORT
from tests.simulation.mutations import MUTATIONS, Mutation, broken
from tests.simulation.schedules import EXHAUSTIVE, caught_by

BOUND = 1_500


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda one: one.name)
def test_the_simulation_sees_that(mutation: Mutation) -> None:
    seeds = 1 if mutation.play in EXHAUSTIVE else BOUND
    first = mutation.first_seed if EFFORT == 1 else 0
    with broken(mutation):
        seen, others = caught_by(mutation.play, range(first, mutation.first_seed + seeds), mutation.seen_by)
    assert seen, (
        f"not seen by {mutation.play.__name__} with {seeds} seeds; what other checks said: {others[:5]}"
    )


def test_a_mutation_is_undone_when_its_test_is_over() -> None:
    for mutation in MUTATIONS:
        before = [edit.function.__code__ for edit in mutation.edits]
        with broken(mutation):
            assert all(
                edit.function.__code__ is not code for edit, code in zip(mutation.edits, before, strict=True)
            )
        assert [edit.function.__code__ for edit in mutation.edits] == before
