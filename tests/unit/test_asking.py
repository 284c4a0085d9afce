"""Asking again: until there is an answer, a failure is final, time is up, or somebody says stop."""

import threading
import time
from collections.abc import Callable

import pytest

from config import asking
from config.asking import NotYet, ask_again, growing, in_time


class Clock(threading.Event):
    """Waiting for it takes no time, but is counted; it may be set after so many pauses."""

    def __init__(self, set_after: int | None = None) -> None:
        super().__init__()
        self.now_s = 0.0
        self.pauses: list[float] = []
        self._set_after = set_after

    def monotonic(self) -> float:
        return self.now_s

    def wait(self, timeout: float | None = None) -> bool:
        self.pauses.append(timeout or 0.0)
        self.now_s += timeout or 0.0
        if len(self.pauses) == self._set_after:
            self.set()
        return self.is_set()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of `config.asking`, which everybody waits for who is not told to stop by another."""
    one = Clock()
    monkeypatch.setattr(asking, "NEVER", one)
    monkeypatch.setattr(asking, "time", one)
    monkeypatch.setattr("config.asking.random.uniform", lambda _, most: most)
    return one


def failing(times: float, clock: Clock | None = None, takes_s: float = 0.0) -> Callable[[], int]:
    """A question that is answered, with the number of attempts, after so many that failed."""
    attempts = 0

    def question() -> int:
        nonlocal attempts
        attempts += 1
        if clock:
            clock.now_s += takes_s
        if attempts <= times:
            raise NotYet(attempts)
        return attempts

    return question


def test_a_question_is_asked_again_until_it_is_answered(clock: Clock) -> None:
    heard: list[NotYet] = []
    assert ask_again(failing(3), NotYet, 0.5, waiting=heard.append) == 4
    assert clock.pauses == [0.5] * 3
    assert [failure.args for failure in heard] == [(1,), (2,), (3,)]


@pytest.mark.parametrize("answer", [None, False, 0])
def test_an_answer_is_an_answer_whatever_it_is(clock: Clock, answer: object) -> None:
    assert ask_again(lambda: answer, NotYet, 0.5) is answer
    assert not clock.pauses


def test_no_pause_ends_after_the_deadline(clock: Clock) -> None:
    heard: list[NotYet] = []
    with pytest.raises(NotYet, match="4"):
        ask_again(failing(99), NotYet, 1.0, 3.5, waiting=heard.append)
    assert clock.pauses == [1.0] * 3
    assert len(heard) == 3


def test_the_deadline_counts_the_time_of_the_question_itself(clock: Clock) -> None:
    with pytest.raises(NotYet, match="3"):
        ask_again(failing(99, clock, takes_s=5.0), NotYet, 0.0, 14.0)


def test_without_time_there_is_one_attempt(clock: Clock) -> None:
    with pytest.raises(NotYet, match="1"):
        ask_again(failing(1), NotYet, 0.1, 0.0)
    assert not clock.pauses


def test_a_failure_of_another_kind_and_a_final_one_are_raised_at_once(clock: Clock) -> None:
    with pytest.raises(NotYet, match="1"):
        ask_again(failing(1), KeyError, 0.5)
    with pytest.raises(NotYet, match="2"):
        ask_again(failing(99), NotYet, 0.5, unless=lambda failure: failure.args == (2,))
    assert clock.pauses == [0.5]


def test_who_is_told_to_stop_asks_no_more() -> None:
    stop = Clock(set_after=2)
    with pytest.raises(NotYet, match="2"):
        ask_again(failing(99), NotYet, 0.5, stop=stop)
    with pytest.raises(InterruptedError):
        ask_again(failing(99), NotYet, 0.5, stop=stop, stopped=InterruptedError())


def test_who_is_told_to_stop_before_the_first_attempt_still_makes_it() -> None:
    stop = Clock()
    stop.set()
    assert ask_again(failing(0), NotYet, 0.5, stop=stop) == 1


def test_a_pause_ends_at_once_when_stop_is_set() -> None:
    stop = threading.Event()
    threading.Timer(0.05, stop.set).start()
    began = time.monotonic()
    with pytest.raises(NotYet):
        ask_again(failing(99), NotYet, 30.0, stop=stop)
    assert time.monotonic() - began < 10


def test_a_condition_comes_true_in_time_or_not(clock: Clock) -> None:
    assert in_time(lambda: clock.now_s >= 1.0, 0.5, 1.0)
    assert not in_time(lambda: False, 0.5, 1.0)


def test_pauses_double_up_to_the_longest(clock: Clock) -> None:
    assert ask_again(failing(5), NotYet, growing(1.0, 0.25)) == 6
    assert clock.pauses == [0.25, 0.5, 1.0, 1.0, 1.0]


def test_pauses_vary_but_are_never_longer_than_the_longest() -> None:
    pauses = [pause_s for pause_s, _ in zip(growing(1.0, 1.0), range(100), strict=False)]
    assert max(pauses) <= 1.0
    assert min(pauses) >= 0.8
    assert len(set(pauses)) > 50
