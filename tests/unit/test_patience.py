"""Asking again: pauses that grow to a bound, and end with the time or with whoever is told to stop."""

import threading
import time

import pytest

from config import patience
from config.patience import Patience


@pytest.fixture
def paused(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made, without variation and without waiting."""
    pauses: list[float] = []
    now = [time.monotonic()]

    class Clock(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            pauses.append(timeout or 0.0)
            now[0] += timeout or 0.0
            return self.is_set()

    monkeypatch.setattr(patience, "Event", Clock)
    monkeypatch.setattr("config.patience.random.uniform", lambda _, most: most)
    monkeypatch.setattr("config.patience.time.monotonic", lambda: now[0])
    return pauses


def test_pauses_double_up_to_the_longest(paused: list[float]) -> None:
    one = Patience(longest_s=1.0, first_s=0.25)
    assert all(one.pause() for _ in range(5))
    assert paused == [0.25, 0.5, 1.0, 1.0, 1.0]
    assert one.pauses == 5


def test_a_pause_that_would_end_too_late_is_not_begun(paused: list[float]) -> None:
    one = Patience(longest_s=1.0, wait_s=2.0, first_s=0.25)
    while one.pause():
        pass
    assert paused == [0.25, 0.5, 1.0]
    assert one.ended


def test_without_time_there_is_no_second_attempt(paused: list[float]) -> None:
    assert not Patience(longest_s=1.0, wait_s=0.0).pause()
    assert not paused


def test_who_is_told_to_stop_pauses_no_longer() -> None:
    stop = threading.Event()
    one = Patience(longest_s=30.0, stop=stop, first_s=30.0)
    threading.Timer(0.05, stop.set).start()
    assert not one.pause()
    assert one.ended
