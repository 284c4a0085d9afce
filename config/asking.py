"""Asking again: the same question, until it is answered, time is up, or whoever asks is told to stop."""

import random
import time
from collections.abc import Callable, Iterator
from itertools import repeat
from threading import Event
from typing import TypeVar

from config.stopping import NEVER

FIRST_PAUSE_S = 0.1

T = TypeVar("T")
E = TypeVar("E", bound=Exception)


class NotYet(Exception):  # noqa: N818 - a fact, not a fault
    """There is no answer yet."""


def ask_again(
    question: Callable[[], T],
    on: type[E] | tuple[type[E], ...],
    pauses: float | Iterator[float],
    wait_s: float = float("inf"),
    stop: Event | None = None,
    *,
    unless: Callable[[E], object] = lambda _: False,
    waiting: Callable[[E], object] = lambda _: None,
    stopped: Exception | None = None,
) -> T:
    """The answer to a question, which is asked again after a pause while it fails with (one of) `on`.

    There is no further attempt after a failure of which `unless` says that it is final, when the pause would end more
    than `wait_s` after the first attempt began, and once `stop` is set. Then the last failure is raised; after `stop`
    it is `stopped`, if given. The first attempt is always made. `waiting` gets each failure before the pause after it.
    """
    deadline, stop = time.monotonic() + wait_s, stop or NEVER
    coming = pauses if isinstance(pauses, Iterator) else repeat(pauses)
    while True:
        try:
            return question()
        except on as failure:
            pause_s = next(coming)
            if unless(failure) or time.monotonic() + pause_s > deadline:
                raise
            waiting(failure)
            if stop.wait(pause_s):
                if stopped is not None:
                    raise stopped from None
                raise


def in_time(condition: Callable[[], object], pause_s: float, wait_s: float) -> bool:
    """Whether a condition came true within `wait_s`; looks again after each pause."""

    def look() -> None:
        if not condition():
            raise NotYet

    try:
        ask_again(look, NotYet, pause_s, wait_s)
    except NotYet:
        return False
    return True


def growing(longest_s: float, first_s: float = FIRST_PAUSE_S) -> Iterator[float]:
    """Pauses, each about twice the one before, up to `longest_s`.

    They vary a little, so that those who wait for the same do not come back all at once.
    """
    pause_s = min(first_s, longest_s)
    while True:
        yield pause_s * random.uniform(0.8, 1.0)  # noqa: S311 - spreads attempts, guards nothing
        pause_s = min(2 * pause_s, longest_s)
