"""What the simulation is worth: it sees every one of these faults within a bounded number of schedules."""

import pytest

from tests.simulation.mutations import MUTATIONS, Mutation, broken
from tests.simulation.schedules import caught_at

BOUND = 1_500


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_the_simulation_sees_that(mutation: Mutation) -> None:
    with broken(mutation):
        assert caught_at(mutation.play, range(BOUND)) is not None, f"not seen in {BOUND} schedules"


def test_a_mutation_is_undone_when_its_test_is_over() -> None:
    for mutation in MUTATIONS:
        before = [edit.function.__code__ for edit in mutation.edits]
        with broken(mutation):
            assert all(
                edit.function.__code__ is not code for edit, code in zip(mutation.edits, before, strict=True)
            )
        assert [edit.function.__code__ for edit in mutation.edits] == before
