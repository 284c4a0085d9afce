"""PostgreSQL: connections, and what the command line reads.

Sessions run in UTF8 and UTC, with our schema as the only search path, whatever the server, the database, the login
or the environment set; in autocommit: whoever needs a transaction says so with `connection.transaction()`.
"""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from config.errors import NotReachable, Refused, WalletError
from config.logs import EventLog
from config.settings import Settings
from sinks.dsn import checked, refusal
from sinks.poolers import refuse_shared_sessions
from sinks.silence import Attended

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
#: What statements and answers of ours mean depends on these; anybody may have set them otherwise, for the server,
#: the database, the login, in PGOPTIONS or in the DSN. The encoding is said at the start: it rules every byte.
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
    # Who waited for a lock must see what the other did meanwhile.
    "default_transaction_isolation": "read committed",
    # Rows that a policy hides must be an error, not missing.
    "row_security": "off",
}
#: A writer says so when it waits for another's lock; and when its machine vanishes, the server lets go of
#: its locks within half a minute, not after the two hours that are TCP's default.
WRITER_LIMITS = {
    "lock_timeout": "5s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}


def connect(
    settings: Settings, role: Role | None = None, *, wait_s: float | None = None, name: str = "wallet"
) -> Connection:
    """Connect within `wait_s` (`WALLET_STARTUP_WAIT_S` unless given) and take the role, if any.

    Raises NotReachable when the server did not answer in time, ConfigurationError when the DSN is wrong, Refused
    when its user lacks a right. The DSN, which may hold a password, appears in no message.
    A server that falls silent later (`WALLET_POSTGRES_TIMEOUT_S`) is an OperationalError of psycopg.
    """
    wait_s = settings.startup_wait_s if wait_s is None else wait_s
    deadline = time.monotonic() + wait_s
    pause_s = 0.1
    while True:
        try:
            return _session(settings, role, name)
        except psycopg.OperationalError as error:
            reason = one_line(error)
            if refused := refusal(reason):
                raise refused from None
            if time.monotonic() + pause_s > deadline:
                raise NotReachable(
                    f"PostgreSQL did not answer within {wait_s:g} s: {reason}: start it, or set WALLET_POSTGRES"
                ) from None
        if pause_s < 0.2:
            log.warning("waiting_for_postgres", reason=reason)
        time.sleep(pause_s * random.uniform(0.8, 1.0))  # noqa: S311 - spreads retries, guards nothing
        pause_s = min(pause_s * 2, settings.retry_wait_s)


def one_line(error: psycopg.Error) -> str:
    """The error's message as one line."""
    return " ".join(str(error).split()) or type(error).__name__


def lost(failure: Exception) -> WalletError | None:
    """What a command says when PostgreSQL ended its session or refused its statement; None for any other failure."""
    if isinstance(failure, psycopg.errors.InsufficientPrivilege):
        return Refused(
            f"the user of WALLET_POSTGRES lacks a right: {failure.diag.message_primary}: run `wallet init`, or GRANT it"
        )
    if isinstance(failure, psycopg.DataError):
        return Refused(
            f"PostgreSQL holds a value that none of ours wrote: {one_line(failure)}: `wallet verify` names it"
        )
    if isinstance(failure, psycopg.OperationalError | psycopg.InterfaceError):
        return NotReachable(
            f"PostgreSQL could not go on: {failure.diag.message_primary or one_line(failure)}; what was "
            "begun is undone, run it again"
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
            f"the user of WALLET_POSTGRES may not be {role}: run `wallet init`, then GRANT {role} TO it"
        ) from None


@contextmanager
def as_login(connection: Connection, role: Role) -> Iterator[None]:
    """Lay the session's role down for a while: the login sees more of its own sessions, and may end them."""
    connection.execute("RESET ROLE")
    try:
        yield
    finally:
        connection.execute(f"SET ROLE {role}")


class WalletBalance(NamedTuple):
    """A wallet's balance, in minor units of its currency."""

    wallet_id: str
    currency: str
    balance: int


class StatementLine(NamedTuple):
    """One entry of a wallet, as `wallet_statement` gives it. Amounts are minor units, times aware UTC."""

    wallet_id: str
    sequence: int
    transaction_id: UUID
    type: str
    amount: int
    currency: str
    occurred_at: datetime
    group_id: str | None
    metadata: dict[str, str]
    balance: int
    recorded_at: datetime
    source_partition: int
    source_offset: int
    hash: bytes


class SinkPosition(NamedTuple):
    """How far one sink is in one partition; `updated_at` is its last progress."""

    sink: str
    topic: str
    partition: int
    next_offset: int
    high_offset: int
    owner: str
    updated_at: datetime


def balance(settings: Settings, wallet_id: str, at: datetime | None = None) -> WalletBalance | None:
    """The newest balance, or the one by recorded_at `at`; None for a wallet that has no entry at all."""
    query = """
        SELECT w.wallet_id, w.currency,
            wallet_balance_at(w.wallet_id, coalesce(%s, 'infinity'::timestamptz)) AS balance
        FROM wallets AS w WHERE w.wallet_id = %s
    """
    with (
        connect(settings, READER) as connection,
        connection.cursor(row_factory=class_row(WalletBalance)) as cursor,
    ):
        return cursor.execute(query, [at, wallet_id]).fetchone()


def effective_balance(settings: Settings, wallet_id: str, at: datetime) -> WalletBalance | None:
    """The balance by occurred_at `at`, in minor units; None for a wallet that has no entry at all.

    In the order of that time it may leave 64 bits. Reads all entries of the wallet.
    """
    query = """
        SELECT w.wallet_id, w.currency, wallet_balance_effective_at(w.wallet_id, %s)
        FROM wallets AS w WHERE w.wallet_id = %s
    """
    with connect(settings, READER) as connection:
        row = connection.execute(query, [at, wallet_id]).fetchone()
    return None if row is None else WalletBalance(row[0], row[1], int(row[2]))


def statement(
    settings: Settings, wallet_id: str, start: datetime | None = None, end: datetime | None = None
) -> Iterator[StatementLine]:
    """Entries of a wallet by sequence, recorded from `start` (included) to `end` (not).

    A thousand are in memory at a time; the connection is open until the iterator ends or is closed.
    """
    query = """
        SELECT * FROM wallet_statement(
            %s, coalesce(%s, '-infinity'::timestamptz), coalesce(%s, 'infinity'::timestamptz)
        )
    """
    with (
        connect(settings, READER) as connection,
        connection.transaction(),
        connection.cursor("statement", row_factory=class_row(StatementLine)) as cursor,
    ):
        cursor.itersize = 1_000
        yield from cursor.execute(query, [wallet_id, start, end])


def positions(settings: Settings) -> list[SinkPosition]:
    """Every sink's positions, by sink, topic and partition."""
    query = """
        SELECT sink, topic, partition, next_offset, high_offset, owner, updated_at
        FROM sink_positions ORDER BY sink, topic, partition
    """
    with (
        connect(settings, READER) as connection,
        connection.cursor(row_factory=class_row(SinkPosition)) as cursor,
    ):
        return cursor.execute(query).fetchall()


def written(settings: Settings) -> dict[tuple[str, int], SinkPosition]:
    """How far the rows of each topic and partition are in the tables.

    The archive is left out: it reads the snapshots, which are another sink's, and writes no row of them.
    """
    return {(at.topic, at.partition): at for at in positions(settings) if at.sink != "archive"}


def counts(settings: Settings) -> dict[str, int]:
    """Rows of each table, counted in one statement."""
    query = """
        SELECT
            (SELECT count(*) FROM wallets) AS wallets,
            (SELECT count(*) FROM transactions) AS transactions,
            (SELECT count(*) FROM transaction_archive) AS transaction_archive,
            (SELECT count(*) FROM transaction_snapshots) AS transaction_snapshots,
            (SELECT count(*) FROM rejections) AS rejections
    """
    with connect(settings, READER) as connection:
        cursor = connection.execute(query)
        row = cursor.fetchone()
        names = [column.name for column in cursor.description or ()]
    return dict(zip(names, row or (), strict=True))


def rejections_by_reason(settings: Settings) -> dict[str, int]:
    """How many records were rejected for each reason that occurred."""
    with connect(settings, READER) as connection:
        return dict(
            connection.execute(
                "SELECT reason, count(*) FROM rejections GROUP BY reason ORDER BY 1"
            ).fetchall()
        )
