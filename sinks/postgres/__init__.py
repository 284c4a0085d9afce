"""Connections to PostgreSQL, and what its errors mean.

Sessions run in UTF8 and UTC, with our schema as the only search path, whatever the server, the database, the login
or the environment set; and in autocommit: open a transaction with `connection.transaction()`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any, Literal

import psycopg
from psycopg import sql

from config.asking import ask_again, growing
from config.errors import NotReachable, Refused, Stopped, WalletError
from config.logs import EventLog
from config.settings import Settings
from sinks.postgres.dsn import checked, refusal
from sinks.postgres.poolers import refuse_shared_sessions
from sinks.postgres.silence import Attended

log = EventLog("sinks.postgres")

Connection = psycopg.Connection[tuple[Any, ...]]
Role = Literal["wallet_writer", "wallet_reader", "wallet_archiver"]

WRITER: Role = "wallet_writer"
READER: Role = "wallet_reader"
ARCHIVER: Role = "wallet_archiver"

#: A server that does not answer, or vanished without a word, is noticed within half a minute.
PARAMETERS: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
#: The meaning of our statements and their answers depends on these, which may be set differently for the server, the
#: database, the login, in PGOPTIONS or in the DSN. The encoding is set at the start: it applies to every byte.
ENCODING = "UTF8"
MEANING = {
    "timezone": "UTC",
    "search_path": "public",
    "datestyle": "ISO, YMD",
    "intervalstyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "quote_all_identifiers": "off",
    "array_nulls": "on",
    # After waiting for a lock, a statement must see what its holder did.
    "default_transaction_isolation": "read committed",
    # Rows that a policy hides must be an error, not missing.
    "row_security": "off",
}
#: A writer reports when it waits for another's lock; and when its machine vanishes, the server releases its locks
#: within half a minute, not after TCP's default of two hours.
WRITER_LIMITS = {
    "lock_timeout": "5s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}


#: Errors after which the same may work later: also a server's answer to a process that was suspended in the middle
#: of a transaction, and that of a server that is a standby right now.
PASSING = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.IdleInTransactionSessionTimeout,
    psycopg.errors.TransactionTimeout,
    psycopg.errors.ReadOnlySqlTransaction,
    NotReachable,
)

#: Another session's lock is in the way.
BUSY = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)
#: A table, column or function is missing.
UNDEFINED = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.UndefinedFunction,
)


def connect(
    settings: Settings, role: Role | None = None, *, wait_s: float | None = None, name: str = "wallet"
) -> Connection:
    """Connect within `wait_s` (`WALLET_STARTUP_WAIT_S` unless given) and take the role, if any.

    Raises NotReachable when the server did not answer in time, ConfigurationError when the DSN is wrong, Refused
    when its user lacks a right. The DSN, which may hold a password, appears in no message.
    A server that falls silent later (`WALLET_POSTGRES_TIMEOUT_S`) is an OperationalError of psycopg.
    """
    wait_s = settings.startup_wait_s if wait_s is None else wait_s
    said = count()

    def say_once(error: psycopg.OperationalError) -> None:
        if not next(said):
            log.warning("waiting_for_postgres", reason=one_line(error))

    try:
        return ask_again(
            lambda: _session(settings, role, name),
            psycopg.OperationalError,
            growing(settings.retry_wait_s),
            wait_s,
            unless=lambda error: refusal(one_line(error)),
            waiting=say_once,
        )
    except psycopg.OperationalError as error:
        reason = one_line(error)
        raise refusal(reason) or NotReachable(
            f"PostgreSQL did not answer within {wait_s:g} s: {reason}: start it, or set WALLET_POSTGRES"
        ) from None


def one_line(error: psycopg.Error) -> str:
    """The error's message as one line."""
    return " ".join(str(error).split()) or type(error).__name__


def reason_to_wait(
    error: psycopg.Error | NotReachable, doing: str, connection: Connection | None = None
) -> str:
    """The reason of an error after which the same may work later, in one line.

    Raises Refused if a right or a table is missing, and Stopped for anything else that waiting does not change.
    """
    if isinstance(error, NotReachable):
        return str(error)
    if isinstance(error, (psycopg.errors.InsufficientPrivilege, *UNDEFINED)) and (refused := lost(error)):
        raise refused from error
    if isinstance(error, PASSING) or (connection is not None and connection.closed):
        return one_line(error)
    raise Stopped(f"{doing}: {one_line(error)}") from error


def lost(failure: Exception) -> WalletError | None:
    """What a command says when PostgreSQL ended its session or refused its statement; None for any other failure."""
    if isinstance(failure, psycopg.errors.InsufficientPrivilege):
        return Refused(
            f"the user of WALLET_POSTGRES lacks a right: {failure.diag.message_primary}: run `wallet init`, or GRANT it"
        )
    if isinstance(failure, UNDEFINED):
        return Refused(
            "the database of WALLET_POSTGRES lacks a table, column or function: "
            f"{failure.diag.message_primary or one_line(failure)}: "
            "run `wallet init`, or set WALLET_POSTGRES to the pipeline's database"
        )
    if isinstance(failure, psycopg.DataError):
        return Refused(
            f"PostgreSQL holds a value that another program wrote: {one_line(failure)}: `wallet verify` shows it"
        )
    if isinstance(failure, psycopg.OperationalError | psycopg.InterfaceError):
        return NotReachable(
            f"PostgreSQL broke off: {failure.diag.message_primary or one_line(failure)}; the transaction is rolled "
            "back, run the command again"
        )
    return None


def _session(settings: Settings, role: Role | None, name: str) -> Connection:
    dsn = checked(settings.postgres.get_secret_value())
    parameters = PARAMETERS | {"application_name": name, "client_encoding": ENCODING}
    connection = Attended.connect(dsn, autocommit=True, **parameters)
    connection.silence_s, connection.place = settings.postgres_timeout_s, (dsn, parameters)
    try:
        refuse_shared_sessions(connection, dsn)
        wanted = dict(MEANING)
        if role in {WRITER, ARCHIVER}:
            limit = {"idle_in_transaction_session_timeout": f"{settings.transaction_timeout_s}s"}
            wanted |= WRITER_LIMITS | limit
        connection.execute(
            "SELECT set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) AS wanted (name, value)",
            [list(wanted), list(wanted.values())],
        )
        if role:
            _take(connection, role)
    except BaseException:
        connection.close()
        raise
    return connection


def _take(connection: Connection, role: Role) -> None:
    try:
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
    except (psycopg.errors.InvalidParameterValue, psycopg.errors.InsufficientPrivilege):
        raise Refused(
            f"the user of WALLET_POSTGRES cannot become {role}: run `wallet init`, then GRANT {role} TO it"
        ) from None


@contextmanager
def as_login(connection: Connection, role: Role) -> Iterator[None]:
    """Drop the session's role for a while: the login sees more of its own sessions, and may end them."""
    connection.execute("RESET ROLE")
    try:
        yield
    finally:
        connection.execute(f"SET ROLE {role}")
