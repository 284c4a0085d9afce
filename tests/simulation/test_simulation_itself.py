"""The simulation's own parts: schedules play again, and the broker has the semantics that count."""

from collections.abc import Callable
from typing import cast

import pytest

from sinks.postgres import Connection
from tests.positions_contract import CASES, Opens
from tests.simulation.broker import Broker, Decided, OldEpoch, Stored, Unstable
from tests.simulation.choices import Choices, smallest
from tests.simulation.inputs import nasty
from tests.simulation.postgres import Postgres, Session
from tests.simulation.processes import Stage
from tests.simulation.sink_run import SinkRun
from tests.simulation.worker_run import WorkerRun

LEDGER, BALANCES = "ledger", "balances"


def told(run: WorkerRun | SinkRun) -> list[str]:
    run.run()
    return run.stage.told


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "made",
    [
        lambda seed, choices: WorkerRun(choices, nasty(seed), crash=0.02, pause=0.05),
        lambda seed, choices: SinkRun(choices, seed, crash=0.02, pause=0.05),
    ],
    ids=["workers", "sinks"],
)
def test_a_seed_and_the_schedule_it_made_play_the_same_again(
    made: Callable[[int, Choices], WorkerRun | SinkRun], seed: int
) -> None:
    first = Choices(seed=seed)
    story = told(made(seed, first))
    assert story == told(made(seed, Choices(seed=seed)))
    assert story == told(made(seed, Choices(first.schedule)))


def test_a_failing_schedule_is_reduced_to_what_makes_it_fail() -> None:
    schedule = dict.fromkeys(range(50), 1)
    assert smallest(schedule, lambda fewer: 7 in fewer and 31 in fewer) == {7: 1, 31: 1}


@pytest.fixture
def broker() -> Broker:
    return Broker(Stage(Choices(), 0.0))


def write(broker: Broker, epoch: int, topic: str, value: bytes) -> int:
    return broker.append("id", epoch, topic, Stored(0, b"k", value))


def values(broker: Broker, topic: str) -> list[bytes | None]:
    return [one.value for one in broker.log(topic).visible()]


def test_an_open_transaction_hides_itself_and_what_comes_after_it(broker: Broker) -> None:
    epoch = broker.begin_epoch("id")
    write(broker, epoch, LEDGER, b"1")
    broker.log(LEDGER).append(Stored(0, b"k", b"by somebody else"))
    assert broker.log(LEDGER).stable == 0
    assert values(broker, LEDGER) == []
    broker.end("id", epoch, commits=True)
    assert values(broker, LEDGER) == [b"1", b"by somebody else"]
    assert broker.log(LEDGER).end == 3, "the marker takes an offset"


def test_a_zombie_is_refused_and_what_it_had_open_is_gone(broker: Broker) -> None:
    old = broker.begin_epoch("id")
    write(broker, old, LEDGER, b"1")
    new = broker.begin_epoch("id")
    with pytest.raises(OldEpoch):
        write(broker, old, LEDGER, b"2")
    with pytest.raises(OldEpoch):
        broker.end("id", old, commits=True)
    write(broker, new, LEDGER, b"3")
    broker.end("id", new, commits=True)
    assert values(broker, LEDGER) == [b"3"]


def test_markers_may_be_late_and_the_next_owner_waits_for_them() -> None:
    broker = Broker(Stage(Choices({1: 1}), 0.0))
    epoch = broker.begin_epoch("id")
    write(broker, epoch, LEDGER, b"1")
    write(broker, epoch, BALANCES, b"2")
    broker.current("id", epoch).offsets["input"] = 5
    broker.end("id", epoch, commits=True)
    assert (values(broker, LEDGER), values(broker, BALANCES)) == ([], [])
    broker.finish_one(0)
    assert (values(broker, LEDGER), values(broker, BALANCES)) == ([b"1"], [])
    broker.begin_epoch("id")
    assert values(broker, BALANCES) == [b"2"]
    assert broker.committed("input") == 5


def test_what_is_left_open_ends_as_the_next_transaction_does_that_touches_its_log() -> None:
    broker = Broker(Stage(Choices({0: 1}), 0.0))
    epoch = broker.begin_epoch("id")
    write(broker, epoch, LEDGER, b"1")
    write(broker, epoch, BALANCES, b"2")
    broker.current("id", epoch).offsets["input"] = 5
    broker.end("id", epoch, commits=True)
    epoch = broker.begin_epoch("id")
    assert (values(broker, LEDGER), values(broker, BALANCES)) == ([], [])
    write(broker, epoch, LEDGER, b"3")
    broker.end("id", epoch, commits=True)
    assert (values(broker, LEDGER), values(broker, BALANCES)) == ([b"1", b"3"], [])
    with pytest.raises(Unstable):
        broker.committed("input")
    write(broker, epoch, BALANCES, b"4")
    broker.current("id", epoch).offsets["input"] = 6
    broker.end("id", epoch, commits=False)
    assert values(broker, BALANCES) == []
    assert broker.committed("input") is None
    assert broker.quiet


def test_what_is_committed_cannot_be_aborted_and_is_committed_again_at_no_cost(broker: Broker) -> None:
    epoch = broker.begin_epoch("id")
    write(broker, epoch, LEDGER, b"1")
    broker.end("id", epoch, commits=True)
    broker.end("id", epoch, commits=True)
    with pytest.raises(Decided):
        broker.end("id", epoch, commits=False)
    assert values(broker, LEDGER) == [b"1"]


def test_offsets_count_when_their_transaction_commits_and_not_before(broker: Broker) -> None:
    epoch = broker.begin_epoch("id")
    broker.current("id", epoch).offsets["input"] = 5
    assert broker.offsets == {}
    broker.end("id", epoch, commits=False)
    assert broker.committed("input") is None


def test_compaction_keeps_the_newest_of_every_key_and_all_offsets(broker: Broker) -> None:
    epoch = broker.begin_epoch("id")
    for value in (b"1", b"2"):
        write(broker, epoch, BALANCES, value)
    broker.end("id", epoch, commits=True)
    write(broker, epoch, BALANCES, b"open")
    broker.log(BALANCES).compact()
    assert values(broker, BALANCES) == [b"2"]
    assert [one.offset for one in broker.log(BALANCES).stored] == [1, 3]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_positions_are_kept_as_a_real_postgres_keeps_them(case: Callable[[Opens], None]) -> None:
    stage = Stage(Choices(), 0.0)
    stage.calm = True
    server = Postgres(stage, {0: [], 1: []})
    case(lambda: cast("Connection", Session(server, f"wallet sink ledger {len(server.sessions)}")))
