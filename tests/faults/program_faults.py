"""Faults of programs, of the workers' group and of upstream; tests.faults.faults says what a fault is."""

import random

from confluent_kafka import KafkaError, KafkaException

from tests.faults import small_disk
from tests.faults.scene import Scene, Skipped
from tests.faults.schedule import Fault
from topics.cluster import quiet_admin

#: Seconds by which a clock jumps: within what a worker bears, and far beyond it in both directions.
JUMPS = (-86_400, -7_200, -1_800, 1_800, 7_200, 86_400, 31 * 86_400)
#: A program under another clock is given so long to have its partitions, so that the clock jumps while it works.
BEGIN_S = 25.0
DELETE_ATTEMPTS = 40
#: A spare worker has the partitions of all others within this time: a session, recovery, and a rebalance that waits
#: in vain, as one does whose members only a restarted coordinator remembers (docs/reliability.md).
TAKE_OVER_S = 100.0


class NotTakenOver(Exception):  # noqa: N818 - the name is the message
    """Nobody did the work though somebody could."""


def killed(scene: Scene, fault: Fault) -> None:
    """SIGKILL."""
    scene.programs[fault.target].kill()


def stopped(scene: Scene, fault: Fault) -> None:
    """SIGTERM, as in a planned restart."""
    scene.programs[fault.target].stop()


def suspended(scene: Scene, fault: Fault) -> None:
    """SIGSTOP for longer than the session time-out: a zombie that wakes up."""
    with scene.programs[fault.target].suspended():
        scene.rest(fault.length_s)


def worker_state_lost(scene: Scene, fault: Fault) -> None:
    """Killed, and its stores are gone when it starts again."""
    worker = scene.programs[fault.target]
    worker.hold()
    worker.kill()
    worker.lose_state()
    worker.release()


def worker_disk_full(scene: Scene, fault: Fault) -> None:
    """No room on the disk of its stores."""
    if scene.small_disk is None:
        raise Skipped("no file system can be mounted here")
    with small_disk.full(scene.small_disk):
        scene.rest(fault.length_s)


def clock_jumped(scene: Scene, fault: Fault) -> None:
    """Its time of day jumps while it works, and back again; the broker's does not."""
    if scene.clock is None:
        raise Skipped("there is no C compiler to make another clock with")
    program = scene.programs[fault.target]
    program.hold()
    program.stop()
    scene.clock.jump(0)
    before = program.times_told("assigned")
    program.release(**scene.clock.environment)
    left_s = BEGIN_S
    while program.times_told("assigned") == before and left_s > 0:
        scene.rest(0.5)
        left_s -= 0.5
    scene.clock.jump(random.Random(fault.dice).choice(JUMPS))
    scene.rest(fault.length_s)
    scene.clock.jump(0)
    scene.rest(fault.length_s / 2)
    # Not told to stop: a wait of librdkafka goes by the time of day, and one that was caught in a step backwards
    # sleeps for as long again (docs/reliability.md).
    program.kill()


# -- the group, and upstream


def rebalances_in_succession(scene: Scene, fault: Fault) -> None:
    """One more worker comes and goes, told to or killed, before anybody has found out what is whose."""
    dice = random.Random(fault.dice)
    left_s = fault.length_s
    while left_s > 0:
        scene.visitor.hold()
        scene.visitor.release()
        stay_s = dice.uniform(0.5, 2.5)
        scene.rest(stay_s)
        scene.visitor.hold()
        if dice.random() < 0.5:
            scene.visitor.stop()
        else:
            scene.visitor.kill()
        left_s -= stay_s
        scene.told["workers that came and went"] += 1


def kills_in_succession(scene: Scene, fault: Fault) -> None:
    """One worker a second is killed, any of them; each comes back within another, under its own name."""
    dice = random.Random(fault.dice)
    for _ in range(round(fault.length_s)):
        dice.choice(scene.workers).kill()
        scene.rest(1.0)


def idle_spare(scene: Scene, fault: Fault) -> None:
    """More workers than partitions; then all but one are killed, and who is left has to do the work, the spare too."""
    spares = [scene.visitor, scene.spare]
    for spare in spares:
        spare.hold()
        spare.release()
    scene.rest(fault.length_s)
    for worker in scene.workers:
        worker.hold()
        worker.kill()
    scene.visitor.hold()
    scene.visitor.kill()
    before = scene.spare.times_told("ready")
    left_s = TAKE_OVER_S
    while scene.spare.times_told("ready") == before and left_s > 0:
        scene.rest(0.5)
        left_s -= 0.5
    taken = scene.spare.times_told("ready") > before
    scene.spare.hold()
    for worker in scene.workers:
        worker.release()
    scene.rest(1.0)
    scene.spare.stop()
    if not taken:
        raise NotTakenOver(f"a spare worker was not ready {TAKE_OVER_S:g} s after all others were killed")


def partitions_to_and_fro(scene: Scene, fault: Fault) -> None:
    """A worker leaves in order, others take its partitions, it comes back and has them again; and so on."""
    worker = scene.programs[fault.target]
    turn_s = fault.length_s / 4
    for _ in range(2):
        worker.hold()
        worker.stop()
        scene.rest(turn_s)
        worker.release()
        scene.rest(turn_s)


def group_offsets_deleted(scene: Scene, _: Fault) -> None:
    """All workers are stopped and the group is deleted, as Kafka does by itself after a week of idleness."""
    for worker in scene.workers:
        worker.hold()
    for worker in scene.workers:
        worker.stop()
    try:
        _delete_group(scene)
    finally:
        for worker in scene.workers:
            worker.release()


def _delete_group(scene: Scene) -> None:
    client = quiet_admin(scene.settings)
    for _ in range(DELETE_ATTEMPTS):
        answer = client.delete_consumer_groups([scene.settings.group])[scene.settings.group]
        try:
            answer.result(10)
        except KafkaException as failure:
            # Somebody was killed and counts as a member until the session time-out, or a broker is away.
            if failure.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
                return
            scene.rest(1.0)
        else:
            scene.told["groups deleted"] += 1
            return
    raise Skipped("the group could not be deleted")


def upstream_left_open(scene: Scene, fault: Fault) -> None:
    """A transaction of upstream stays open for a while; nothing behind it can be read."""
    commit = random.Random(fault.dice).random() < 0.5
    scene.load.leave_open(scene.rest, fault.length_s, commit=commit)
