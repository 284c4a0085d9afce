"""Asking again: pauses that grow, for as long as somebody has patience."""

import random
import time
from threading import Event

FIRST_PAUSE_S = 0.1


class Patience:
    """The pauses between attempts at one thing: each is about twice the one before, up to `longest_s`.

    It ends after `wait_s`, and when `stop` is set. Pauses vary a little, so that those who wait for the same do not
    come back all at once.
    """

    def __init__(
        self,
        longest_s: float,
        wait_s: float = float("inf"),
        stop: Event | None = None,
        first_s: float = FIRST_PAUSE_S,
    ) -> None:
        self._longest_s = longest_s
        self._next_s = min(first_s, longest_s)
        self._deadline = time.monotonic() + wait_s
        self._stop = stop or Event()
        #: How often was paused.
        self.pauses = 0

    @property
    def ended(self) -> bool:
        """Whether the next attempt would come too late, or is not wanted any more."""
        return self._stop.is_set() or time.monotonic() + self._next_s > self._deadline

    def pause(self) -> bool:
        """Whether to try again, asked after an attempt that failed: True after the pause."""
        if self.ended:
            return False
        pause_s = self._next_s * random.uniform(0.8, 1.0)  # noqa: S311 - spreads attempts, guards nothing
        self._next_s = min(2 * self._next_s, self._longest_s)
        self.pauses += 1
        return not self._stop.wait(pause_s)
