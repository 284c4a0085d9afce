"""What a sink makes of partitions that another owner took, and for how long it remembers that."""

import pytest

from config.errors import Stopped
from config.settings import Settings
from sinks import holdings
from sinks.holdings import FENCED_SESSIONS, REMEMBERED, Holdings
from sinks.ledger import LedgerSink
from sinks.observer import Observer
from sinks.positions import Lost, Position
from tests.unit.test_asking import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(holdings, "time", clock)
    return clock


def fenced_for_too_long(held: Holdings, clock: Clock, settings: Settings) -> None:
    """The group gives partition 0, another owner takes it, and the group goes on to say that it is ours."""
    held.gain({0: Position(0, 0)})
    held.lose(Lost({0}, {}))
    asks = []
    held.check_fences()
    asks.append(held.astray)
    clock.now_s += FENCED_SESSIONS * settings.session_timeout_s + 0.1
    held.check_fences()
    asks.append(held.astray)
    assert asks == [False, True]
    # It joins anew.
    held.astray = False
    held.let_go([0])


def test_who_is_fenced_soon_again_stops_and_who_is_so_much_later_has_patience_again(
    plain_settings: Settings, clock: Clock
) -> None:
    held = Holdings(plain_settings, LedgerSink("test.ledger"), Observer())
    fenced_for_too_long(held, clock, plain_settings)
    clock.now_s += REMEMBERED * FENCED_SESSIONS * plain_settings.session_timeout_s
    fenced_for_too_long(held, clock, plain_settings)
    with pytest.raises(Stopped, match="does another pipeline write to this database"):
        fenced_for_too_long(held, clock, plain_settings)
