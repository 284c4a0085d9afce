"""Exactly once on a real Kafka: workers that are killed, stopped, restarted and joined under load."""

import random
import signal

import pytest

from audit.contract import Reason
from tests.integration.exactness import assert_exact, found, source_of
from tests.integration.pipelines import Rig
from tests.integration.workers import Worker, wait_until
from topics.names import Topics

pytestmark = pytest.mark.integration

#: Enough that a worker with small batches is still at it when the test turns on it.
BACKLOG = 6_000


def test_mixed_input_becomes_exactly_what_the_fold_says(rig: Rig) -> None:
    rig.send(BACKLOG)
    rig.start()
    rig.wait_until_posted()
    wanted = assert_exact(rig.settings)
    assert wanted.reasons == set(Reason)


@pytest.mark.full
def test_of_two_workers_one_is_killed_in_mid_batch_and_the_other_finishes_its_work(rig: Rig) -> None:
    first, second = rig.start(), rig.start()
    rig.wait_until_shared_by(2)
    with rig.flowing():
        rig.kill_in_mid_batch(first)
        rig.wait_until_shared_by(1)
        rig.send(1_000)
    rig.wait_until_posted()
    second.stop()
    assert_exact(rig.settings)


@pytest.mark.full
def test_a_worker_that_is_told_to_stop_leaves_the_group_before_it_ends(rig: Rig) -> None:
    first, second = rig.start(), rig.start()
    rig.wait_until_shared_by(2)
    with rig.flowing():
        first.stop()
        assert len(rig.members()) == 1, "a member that has gone without a word holds its partitions"
        rig.wait_until_shared_by(1)
    rig.wait_until_posted()
    second.stop()
    assert rig.members() == []
    assert_exact(rig.settings)


def test_a_worker_that_is_told_to_stop_at_any_moment_of_its_start_ends_in_order(rig: Rig) -> None:
    for moment in ("starting", "assigned", "position", "ready"):
        worker = rig.start()
        worker.wait_until_told(moment)
        worker.stop()


@pytest.mark.full
def test_a_worker_that_is_told_to_stop_while_the_group_lets_it_wait_ends_in_order(rig: Rig) -> None:
    silent = rig.start(session_timeout_s=60)
    silent.wait_until_told("ready", 4)
    silent.signal(signal.SIGSTOP)
    joins = rig.start()
    wait_until(rig.is_rebalancing, "the group waits for the silent one", joins.check_runs)
    joins.stop()
    silent.signal(signal.SIGCONT)


@pytest.mark.parametrize("times", [3, pytest.param(20, marks=[pytest.mark.full, pytest.mark.timeout(600)])])
def test_a_worker_restarted_with_a_backlog_goes_on_where_the_last_one_stopped(rig: Rig, times: int) -> None:
    dice = random.Random(times)
    for turn in range(times):
        rig.send(2_000)
        already = rig.decided()
        worker = rig.start(batch_records=100)
        rig.wait_until_decided(already + dice.randrange(1, 1_500))
        with rig.flowing():
            if turn % 2:
                worker.stop()
            else:
                rig.kill_in_mid_batch(worker)
    rig.start()
    rig.wait_until_posted()
    assert_exact(rig.settings)


@pytest.mark.parametrize("turns", [2, pytest.param(16, marks=[pytest.mark.full, pytest.mark.timeout(600)])])
def test_partitions_stay_exact_while_workers_join_and_leave(rig: Rig, turns: int) -> None:
    """Each turn revokes some partitions, keeps some and assigns some, under load."""
    dice = random.Random(turns)
    alive: list[Worker] = [rig.start(batch_records=50), rig.start(batch_records=50)]
    with rig.flowing():
        rig.wait_until_shared_by(2)
        for _ in range(turns):
            alive.append(rig.start(batch_records=50))
            rig.wait_until_shared_by(3)
            alive.pop(dice.randrange(len(alive))).stop()
    rig.wait_until_posted()
    kept = "".join(worker.text() for worker in rig.workers)
    assert any(f"kept={at}" in kept for at in range(4)), (
        "no rebalance kept a partition: this test shows nothing"
    )
    assert_exact(rig.settings)


@pytest.mark.full
def test_workers_that_join_and_leave_before_a_rebalance_has_ended_leave_it_exact(rig: Rig) -> None:
    stays = rig.start(batch_records=50)
    stays.wait_until_told("ready", 4)
    with rig.flowing():
        for _ in range(2):
            joins = rig.start(batch_records=50)
            joins.wait_until_told("starting")
            follows = rig.start(batch_records=50)
            wait_until(lambda: len(rig.members()) > 1, "somebody has joined", rig.check_workers)
            joins.kill()
            follows.ask_to_stop()
            follows.wait()
    rig.wait_until_posted()
    assert_exact(rig.settings)


def test_the_groups_offset_and_the_outputs_move_together_or_not_at_all(rig: Rig) -> None:
    """A worker frozen at any moment: what it has committed is in both places, or in neither."""
    worker = rig.start(batch_records=20)
    worker.wait_until_told("ready", 4)
    names = Topics.of(rig.settings)

    def handled() -> dict[int, int]:
        highest: dict[int, int] = {}
        for topic in (names.rejections, names.ledger):
            for at, some in found(rig.settings, topic).items():
                highest[at] = max(highest.get(at, 0), *map(source_of, some))
        return {at: offset + 1 for at, offset in highest.items()}

    with rig.flowing(600):
        for _ in range(4):
            wait_until(lambda: bool(rig.open_transactions()), "a batch is in hand", worker.check_runs)
            worker.signal(signal.SIGSTOP)
            # Markers that the broker is writing at this moment may yet arrive; nothing else can.
            wait_until(lambda: rig.committed(stable=False) == handled(), "offsets and outputs agree")
            worker.signal(signal.SIGCONT)
    rig.wait_until_posted()
    assert_exact(rig.settings)
