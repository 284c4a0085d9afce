"""Connections that notice when PostgreSQL says nothing any more: it is suspended, or its machine is.

TCP does not tell, for the kernel of a suspended server goes on to acknowledge what comes. A long statement is silent,
too. So after a while of silence the server is asked for a new connection: one that answers is at work, and one that
does not is held to be away, as if the connection had broken.
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

#: Behind a server's FATAL, in its own language, libpq sets two spaces; it sets none so in what it says itself.
SAID = ":  "


class Attended(psycopg.Connection[tuple[Any, ...]]):
    """A connection whose every wait ends with psycopg's OperationalError once the server is held to be away."""

    #: For so long the server may be silent before it is asked; set by who connects, with how to connect.
    silence_s = float("inf")
    place: tuple[str, Mapping[str, Any]] = ("", {})

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """Whatever psycopg does with a server goes through here."""
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
                return  # it lives, whatever it says: too many clients, for example
            self.pgconn.finish()
            raise psycopg.OperationalError(
                f"the server was silent for {self.silence_s:g} s and answers no new connection either"
            ) from None
