"""What `sinks.positions` asks of a PostgreSQL: the real one and the simulated one answer alike."""

from collections.abc import Callable

import pytest

from config.errors import Refused, Stopped
from sinks.positions import Holder, Move, NotAsLeft, Origin, Position, advance, claim, owned
from sinks.postgres import Connection
from topics.cluster import Offsets

MINE, OTHERS = Holder("ledger", "topic", "a:1:mine"), Holder("ledger", "topic", "b:2:others")
HERE = Origin("cluster", "topic id")
LOG = Offsets(5, 100)

#: A new session of the same database.
Opens = Callable[[], Connection]


def a_first_claim_begins_where_the_log_begins(opens: Opens) -> None:
    assert claim(opens(), MINE, HERE, 0, 2, LOG) == Position(5, 5)
    assert owned(opens(), MINE) == {0: 5}


def a_later_claim_keeps_what_was_reached_and_fences_who_had_it(opens: Opens) -> None:
    mine, others = opens(), opens()
    claim(mine, MINE, HERE, 0, 2, LOG)
    advance(mine, MINE, [Move(0, 5, 9)])
    assert claim(others, OTHERS, HERE, 0, 2, LOG) == Position(9, 9)
    with pytest.raises(NotAsLeft):
        advance(mine, MINE, [Move(0, 9, 10)])
    assert owned(mine, MINE) == {}
    assert owned(others, OTHERS) == {0: 9}


def another_topic_of_this_name_is_refused_and_takes_nothing_over(opens: Opens) -> None:
    mine, others = opens(), opens()
    claim(mine, MINE, HERE, 0, 2, LOG)
    for elsewhere in (Origin("cluster", "another id"), Origin("another cluster", "topic id")):
        with pytest.raises(Refused, match="this database was filled from topic topic with id topic id"):
            claim(others, OTHERS, elsewhere, 0, 2, LOG)
    assert owned(mine, MINE) == {0: 5}


def a_position_outside_of_the_log_stops_and_takes_nothing_over(opens: Opens) -> None:
    mine, others = opens(), opens()
    claim(mine, MINE, HERE, 0, 2, LOG)
    for log in (Offsets(6, 100), Offsets(0, 4)):
        with pytest.raises(Stopped, match="is at offset 5 of topic partition 0"):
            claim(others, OTHERS, HERE, 0, 2, log)
    assert owned(mine, MINE) == {0: 5}


def an_advance_from_where_the_position_is_not_moves_none(opens: Opens) -> None:
    mine = opens()
    for partition in (0, 1):
        claim(mine, MINE, HERE, partition, 2, LOG)
    with pytest.raises(NotAsLeft), mine.transaction():
        advance(mine, MINE, [Move(0, 5, 6), Move(1, 4, 6)])
    assert owned(mine, MINE) == {0: 5, 1: 5}


def what_is_rolled_back_has_moved_nothing(opens: Opens) -> None:
    mine = opens()
    claim(mine, MINE, HERE, 0, 2, LOG)

    def moved_in_vain() -> None:
        with mine.transaction():
            advance(mine, MINE, [Move(0, 5, 6)])
            raise InterruptedError

    with pytest.raises(InterruptedError):
        moved_in_vain()
    assert owned(mine, MINE) == {0: 5}


CASES: list[Callable[[Opens], None]] = [
    a_first_claim_begins_where_the_log_begins,
    a_later_claim_keeps_what_was_reached_and_fences_who_had_it,
    another_topic_of_this_name_is_refused_and_takes_nothing_over,
    a_position_outside_of_the_log_stops_and_takes_nothing_over,
    an_advance_from_where_the_position_is_not_moves_none,
    what_is_rolled_back_has_moved_nothing,
]
