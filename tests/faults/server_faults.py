"""Faults of Kafka and of PostgreSQL; tests.faults.faults says what a fault is."""

import random

import psycopg

from tests.faults.gate import Mood
from tests.faults.scene import Scene, Skipped
from tests.faults.schedule import Fault


def broker_killed(scene: Scene, fault: Fault) -> None:
    """SIGKILL, and a start after a while; one broker of three is missed by nobody for long."""
    node = _node(fault)
    scene.cluster.kill(node)
    scene.rest(fault.length_s)
    scene.cluster.start(node)


def broker_suspended(scene: Scene, fault: Fault) -> None:
    """SIGSTOP: requests are taken by the machine and answered by nobody, commits among them."""
    with scene.cluster.paused(_node(fault)):
        scene.rest(fault.length_s)


def postgres_killed(scene: Scene, fault: Fault) -> None:
    """SIGKILL, and a start after a while."""
    scene.postgres.kill()
    scene.rest(fault.length_s)
    scene.postgres.start()


def postgres_suspended(scene: Scene, fault: Fault) -> None:
    """SIGSTOP to all of it: connections stay, what is sent is taken, and nobody answers."""
    with scene.postgres.suspended():
        scene.rest(fault.length_s)


def postgres_sessions_ended(scene: Scene, fault: Fault) -> None:
    """Every session of the sinks is ended again and again by the server."""
    dice = random.Random(fault.dice)
    query = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'wallet sink%'"
    )
    left_s = fault.length_s
    with psycopg.connect(scene.postgres.dsn, autocommit=True) as connection:
        while left_s > 0 and not scene.ended.is_set():
            scene.told["sessions ended by the server"] += connection.execute(query).rowcount
            pause_s = dice.uniform(0.1, 0.7)
            scene.rest(pause_s)
            left_s -= pause_s


def postgres_cut_in_copy(scene: Scene, fault: Fault) -> None:
    """Connections break in the middle of a COPY."""
    before = scene.gate.cuts
    scene.gate.mood = Mood.CUTS_COPIES
    scene.rest(fault.length_s)
    scene.gate.mood = Mood.OPEN
    scene.told["connections cut in mid-COPY"] += scene.gate.cuts - before


def postgres_commit_unanswered(scene: Scene, fault: Fault) -> None:
    """COMMIT is carried out and nobody hears of it, until the connection breaks."""
    before = scene.gate.swallowed
    scene.gate.mood = Mood.SWALLOWS_ANSWERS
    scene.rest(fault.length_s)
    scene.gate.mood = Mood.OPEN
    scene.gate.cut_all()
    scene.told["commits answered by nothing"] += scene.gate.swallowed - before


def postgres_backup(scene: Scene, _: Fault) -> None:
    """A backup, of the files at rest; the sinks wait meanwhile."""
    scene.postgres.back_up()


def postgres_restored(scene: Scene, fault: Fault) -> None:
    """The database is lost and the backup put in its place: rows and positions of a while ago."""
    if not scene.postgres.has_backup:
        raise Skipped("there is no backup yet")
    scene.postgres.kill()
    scene.rest(fault.length_s)
    scene.postgres.put_back()
    scene.postgres.start()


def _node(fault: Fault) -> int:
    return int(fault.target.rpartition("-")[2])
