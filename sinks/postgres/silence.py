"""Connections that notice when PostgreSQL or its machine is suspended.

TCP does not show it, since the kernel of a suspended server still acknowledges what comes. A long statement is silent,
too. So after a while of silence we ask the server for a new connection: if it answers it is working, and if not it
counts as away, as if the connection had broken.
"""

import time
from collections.abc import Mapping
from contextlib import closing
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen

from config.logs import EventLog

log = EventLog("sinks.silence")

T = TypeVar("T")

#: libpq puts two spaces after a server's FATAL (in the server's language), but not in its own messages.
SAID = ":  "


class Attended(psycopg.Connection[tuple[Any, ...]]):
    """A connection whose every wait ends with psycopg's OperationalError once the server counts as away."""

    #: How long the server may be silent before we ask it; `connect` sets this and how to connect.
    silence_s = float("inf")
    place: tuple[str, Mapping[str, Any]] = ("", {})

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """All of psycopg's exchanges with a server go through here."""
        return super().wait(self._attended(gen), interval, timeout)

    def _attended(self, gen: PQGen[T]) -> PQGen[T]:
        """The same steps, with an eye on the clock: psycopg sends 0 when nothing came for `interval`."""
        try:
            wanted = next(gen)
            heard_s = time.monotonic()
            while True:
                ready = yield wanted
                if ready:
                    heard_s = time.monotonic()
                elif time.monotonic() - heard_s > self.silence_s:
                    self._refuse_silence()
                    heard_s = time.monotonic()
                wanted = gen.send(ready)
        except StopIteration as ended:
            return ended.value  # type: ignore[no-any-return] # it is what gen returns

    def _refuse_silence(self) -> None:
        dsn, parameters = self.place
        try:
            with closing(psycopg.connect(dsn, **parameters)):
                log.debug("postgres_takes_long", silent_for_s=self.silence_s)
        except psycopg.OperationalError as error:
            if SAID in str(error):
                return  # it is alive, whatever it answers: too many clients, for example
            self.pgconn.finish()
            raise psycopg.OperationalError(
                f"the server was silent for {self.silence_s:g} s and answers no new connection either"
            ) from None
