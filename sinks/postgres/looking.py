"""Read-only sessions in which all questions see one state."""

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg import IsolationLevel

from config.settings import Settings
from sinks.postgres.migrations import check
from sinks.postgres.sessions import READER, Connection, connect


@contextmanager
def looking(settings: Settings) -> Iterator[Connection]:
    """A read-only transaction that sees what was there at its first question.

    Raises Refused for a database of another version.
    """
    with connect(settings, READER, name="wallet verify") as connection:
        check(connection)
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        # Whoever set one for the database did not think of an audit.
        connection.execute("SET statement_timeout = 0")
        with connection.transaction():
            # First of all, as whoever moves months does: an audit that has read rows for an hour is not to be the
            # victim of a deadlock.
            if connection.execute("SELECT to_regclass('wallets') IS NOT NULL").fetchone() == (True,):
                connection.execute("LOCK TABLE wallets IN ACCESS SHARE MODE")
            yield connection
