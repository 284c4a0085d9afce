"""The schedule of a run is what its seed says, and every kind of fault is in it."""

import pytest

from tests.faults.faults import FAULTS
from tests.faults.schedule import kinds, schedule


@pytest.mark.parametrize("brokers", [1, 3])
def test_a_schedule_is_a_pure_function_of_its_seed(brokers: int) -> None:
    assert schedule(7, 600, brokers) == schedule(7, 600, brokers)
    assert schedule(7, 600, brokers) != schedule(8, 600, brokers)


def test_a_longer_run_begins_like_a_shorter_one_of_the_same_seed() -> None:
    short, long = schedule(7, 120), schedule(7, 1_200)
    assert len(short) < len(long)
    assert long[: len(short)] == short


def test_every_fault_ends_before_its_run_does() -> None:
    assert all(fault.at_s + fault.length_s < 600 for seed in range(50) for fault in schedule(seed, 600))


def test_every_kind_comes_once_before_any_comes_twice() -> None:
    faults = [fault.kind for fault in schedule(7, 1_200) if fault.kind != "postgres_backup"]
    count = len(kinds(1))
    assert sorted(faults[:count]) == sorted(kinds(1))
    assert sorted(faults[count : 2 * count]) == sorted(kinds(1))


def test_a_backup_is_taken_before_the_first_one_is_restored() -> None:
    for seed in range(50):
        faults = [fault.kind for fault in schedule(seed, 300)]
        assert faults[0] == "postgres_backup"
        assert faults.count("postgres_backup") == 1


def test_only_the_kinds_that_are_asked_for_are_in_it() -> None:
    assert {fault.kind for fault in schedule(7, 300, only=["sink_killed"])} == {"sink_killed"}


def test_every_broker_of_three_is_hit_and_no_other() -> None:
    hit = {fault.target for fault in schedule(7, 3_600, 3) if fault.kind.startswith("broker")}
    assert hit == {"broker-1", "broker-2", "broker-3"}


def test_every_kind_can_be_made() -> None:
    assert set(FAULTS) == set(kinds(1)) | {"postgres_backup"}
