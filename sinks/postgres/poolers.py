"""Check that a pooler between us and PostgreSQL keeps our session.

Roles, session locks, temporary tables and time-outs belong to a session. A pooler that passes the server's sessions
on after each transaction (pgbouncer: pool_mode=transaction) would take them from us, and leave our role to the next
client. That shows only while other clients are busy, so we check it before anything is set.
"""

import select
from contextlib import closing
from typing import Any

import psycopg
from psycopg.pq import ExecStatus

from config.errors import ConfigurationError

#: Other clients of the pooler may hide it once, not every time.
LOOKS = 5
#: A pooler whose sessions are all taken makes us wait for one: then it keeps sessions for their clients.
ANSWER_S = 5.0

REFUSAL = (
    "WALLET_POSTGRES leads to a pooler that changes sessions after each transaction (pgbouncer: "
    "pool_mode=transaction): name the server itself, or a pool with pool_mode=session"
)


def refuse_shared_sessions(connection: psycopg.Connection[Any], dsn: str) -> None:
    """Raise ConfigurationError where this connection does not keep one session of the server to itself.

    Costs one query; with a pooler also a second connection. There is a pooler if another process answers than the
    one named at the start. Nothing may have been set in the session yet.
    """
    if _answering(connection) == connection.info.backend_pid:
        return
    with closing(psycopg.Connection.connect(dsn, autocommit=True)) as other:
        for _ in range(LOOKS):
            ours = _answering(connection)
            # Under transaction pooling `other` gets the session that we have just released, or we get
            # another one while it has ours.
            theirs = _held(other)
            if theirs is None:
                return
            if theirs == ours or _answering(connection) != ours:
                raise ConfigurationError(REFUSAL)
            other.execute("COMMIT")


def _answering(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    assert row  # noqa: S101 - a SELECT without a table returns its row
    return int(row[0])


def _held(other: psycopg.Connection[Any]) -> int | None:
    """The session that `other` has now for a transaction, which it leaves open; None if it gets none in time."""
    server = other.pgconn
    server.send_query(b"BEGIN; SELECT pg_backend_pid()")
    arrived = select.poll()
    arrived.register(other.fileno(), select.POLLIN)
    found = None
    while arrived.poll(ANSWER_S * 1_000):
        server.consume_input()
        while not server.is_busy():
            result = server.get_result()
            if result is None:
                return found
            if result.status == ExecStatus.TUPLES_OK:
                found = int(result.get_value(0, 0) or 0)
            elif result.status == ExecStatus.FATAL_ERROR:
                raise psycopg.OperationalError(result.error_message.decode(errors="replace"))
    return None
