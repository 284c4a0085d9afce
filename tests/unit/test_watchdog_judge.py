"""The watchdog's verdict: what counts as a stall, and what never does. Looks come one second apart."""

import pytest

from topics.lag import Lag, TopicPart
from vitals.watchdog import TURNS, Judge, Look, Standing

LIMIT_S = 10.0
BEHIND = Lag(stable_end=100, end=100, records=50, oldest_ms=0)


def at(
    position: int | None,
    partition: int = 0,
    *,
    reader: str = "worker",
    progress: int = 0,
    waits_for: str | None = None,
) -> Standing:
    return Standing(reader, f"{reader}-topic", partition, position, progress, waits_for)


def lags(*standings: Standing, lag: Lag = BEHIND) -> dict[TopicPart, Lag]:
    return {one.place: lag for one in standings}


def look(judge: Judge, seconds: int, *standings: Standing, lag: Lag | None = BEHIND) -> list[Standing]:
    """What stalls after so many seconds in which nothing changed."""
    stalls = []
    for _ in range(seconds):
        stalls = judge.judge(1.0, standings, lags(*standings, lag=lag) if lag else {})
    return [stall.standing for stall in stalls]


def test_a_position_that_stands_still_before_records_is_a_stall_at_the_limit() -> None:
    judge = Judge(LIMIT_S)
    assert look(judge, 10, at(50)) == []  # the first look begins the count
    assert look(judge, 1, at(50)) == [at(50)]


def test_every_move_begins_the_count_anew() -> None:
    judge = Judge(LIMIT_S)
    for position in range(5):
        assert look(judge, 9, at(position)) == []
    assert look(judge, 10, at(4)) == [at(4)]


@pytest.mark.parametrize(
    ("standing", "lag"),
    [
        pytest.param(at(100), Lag(100, 100, 0), id="at the end"),
        pytest.param(at(50), Lag(100, 100, 0), id="only marks and rolled-back records up to the end"),
        pytest.param(at(50), Lag(50, 900, 0), id="an open upstream transaction holds the rest"),
        pytest.param(at(50), Lag(100, 100, None), id="whether records are there is not known"),
        pytest.param(at(50), None, id="Kafka does not tell the end"),
        pytest.param(at(None), None, id="recovering while Kafka is away"),
        pytest.param(at(50, waits_for="the registry"), BEHIND, id="waits for a reason"),
    ],
)
def test_these_may_stand_still_for_ever(standing: Standing, lag: Lag | None) -> None:
    assert look(Judge(LIMIT_S), 100, standing, lag=lag) == []


def test_the_count_begins_when_the_excuse_ends() -> None:
    judge = Judge(LIMIT_S)
    assert look(judge, 100, at(50, waits_for="PostgreSQL")) == []
    assert look(judge, 9, at(50)) == []
    assert look(judge, 1, at(50)) == [at(50)]


def test_recovery_that_reads_records_makes_progress() -> None:
    judge = Judge(LIMIT_S)
    for records in range(100):
        assert look(judge, 1, at(None, progress=records)) == []


def test_recovery_that_does_not_go_on_is_a_stall() -> None:
    judge = Judge(LIMIT_S)
    assert look(judge, 11, at(None, progress=7), lag=Lag(100, 100)) == [at(None, progress=7)]


def test_a_partition_between_moving_ones_gets_longer_but_not_for_ever() -> None:
    judge = Judge(LIMIT_S)
    stalls = []
    for second in range(1, 100):
        stalls = look(judge, 1, at(50, partition=0), at(second, partition=1))
        if stalls:
            break
    assert stalls == [at(50, partition=0)]
    assert second == LIMIT_S * TURNS + 1


def test_the_sinks_of_one_process_do_not_excuse_each_other() -> None:
    judge = Judge(LIMIT_S)
    for second in range(10):
        assert look(judge, 1, at(50, reader="ledger"), at(second, reader="rejections")) == []
    assert look(judge, 1, at(50, reader="ledger"), at(99, reader="rejections")) == [at(50, reader="ledger")]


def test_a_partition_that_comes_back_begins_anew() -> None:
    judge = Judge(LIMIT_S)
    assert look(judge, 9, at(50)) == []
    assert look(judge, 1) == []
    assert look(judge, 10, at(50)) == []


def test_a_stall_says_who_stands_where_and_how_far_it_could_go() -> None:
    judge = Judge(LIMIT_S)
    look(judge, 10, at(50))
    (stall,) = judge.judge(1.0, [at(50)], lags(at(50)))
    assert str(stall) == (
        "worker of worker-topic[0] is at offset 50, the last stable offset is 100, no progress for 10 s"
    )


def test_no_standings_at_all_do_not_mean_that_kafka_is_silent() -> None:
    assert Look(0.0, [], {}).kafka_answers
    assert not Look(0.0, [at(1)], {}).kafka_answers
