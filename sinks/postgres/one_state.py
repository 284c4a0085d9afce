"""Read-only sessions in which all queries see one state."""

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg import IsolationLevel

from config.settings import Settings
from sinks.postgres import READER, Connection, connect
from sinks.postgres.migrations import check


@contextmanager
def one_state(connection: Connection) -> Iterator[None]:
    """A read-only transaction that sees the state at its first query, in a session of its own."""
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    # A time-out that is set for the database would be too short to read whole tables.
    connection.execute("SET statement_timeout = 0")
    with connection.transaction():
        yield


@contextmanager
def audited(settings: Settings) -> Iterator[Connection]:
    """The state that an audit sees; raises Refused for a database of another version."""
    with connect(settings, READER, name="wallet verify") as connection:
        check(connection)
        with one_state(connection):
            # First of all, as moving a month does: otherwise a deadlock could end an audit that has read rows for
            # an hour.
            if connection.execute("SELECT to_regclass('wallets') IS NOT NULL").fetchone() == (True,):
                connection.execute("LOCK TABLE wallets IN ACCESS SHARE MODE")
            yield connection
