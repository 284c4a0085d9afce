"""Bring a database to the tables that this program needs: numbered SQL files, each run once, in order.

The files are config/migrations/NNNN_name.sql. Each runs in its own transaction together with the row that
records it, under a lock, so any number of `wallet init` may run at once.
"""

import hashlib
from collections.abc import Iterator
from importlib import resources
from typing import NamedTuple

import psycopg
from psycopg import sql

from config.errors import Refused
from config.logs import EventLog
from config.settings import Settings
from sinks.postgres import ENCODING, Connection, connect
from sinks.postgres.locks import holder
from sinks.postgres.months import make_months_ahead

log = EventLog("sinks.migrations")

OLDEST_SERVER = 150_000
LOCK = int.from_bytes(b"wallet", "big")

RECORD_TABLE = """
    CREATE TABLE IF NOT EXISTS wallet_migrations (
        name text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now()
    )
"""


#: Rights of the database itself, set at every init, since a dump does not contain them. A login to the server alone
#: must not open this database: a session here can hold locks.
DATABASE_RIGHTS = """
    REVOKE CONNECT, TEMPORARY ON DATABASE {database} FROM PUBLIC;
    GRANT CONNECT ON DATABASE {database} TO wallet_writer, wallet_reader, wallet_archiver;
    GRANT TEMPORARY ON DATABASE {database} TO wallet_writer
"""


class Migration(NamedTuple):
    """One SQL file: its name without ending, and its text."""

    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, in hex; the same whatever line ends the file was checked out with."""
        return hashlib.sha256("\n".join(self.sql.splitlines()).encode()).hexdigest()


def shipped() -> list[Migration]:
    """The migrations that came with this code, in their order."""
    files = (file for file in resources.files("config.migrations").iterdir() if file.name.endswith(".sql"))
    return sorted(Migration(file.name.removesuffix(".sql"), file.read_text("utf-8")) for file in files)


def migrate(settings: Settings, migrations: list[Migration] | None = None) -> list[str]:
    """Apply what is missing and make the coming months; returns the names applied now.

    `migrations` are those of this release, except in tests. Raises Refused for a database that is newer than the
    program, differs from it, does not let its owner do this, or in which other sessions hold the locks for
    `WALLET_STARTUP_WAIT_S`.
    """
    known = shipped() if migrations is None else migrations
    with connect(settings) as connection:
        if connection.info.server_version < OLDEST_SERVER:
            raise Refused(
                f"PostgreSQL {connection.info.server_version // 10_000} is too old: 15 or later is needed"
            )
        encoding = connection.info.parameter_status("server_encoding")
        if encoding != ENCODING:
            raise Refused(
                f"the database of WALLET_POSTGRES is in {encoding}, which cannot hold every wallet id: make one with: "
                f"CREATE DATABASE {connection.info.dbname} TEMPLATE template0 ENCODING 'UTF8'"
            )
        try:
            applied = list(_apply_missing(connection, known, settings.startup_wait_s))
        except psycopg.errors.InsufficientPrivilege as denied:
            raise Refused(
                f"the owner in WALLET_POSTGRES lacks a right: {denied.diag.message_primary}: let it own the database, "
                "and give it CREATEROLE, or GRANT it wallet_writer, wallet_reader and wallet_archiver"
            ) from denied
        except psycopg.errors.LockNotAvailable:
            raise Refused(
                f"no lock on the database within {settings.startup_wait_s:g} s, {_in_the_way(connection)}: wait until "
                "it is done or end it (pg_terminate_backend), then run `wallet init` again; this run is rolled back"
            ) from None
        make_months_ahead(connection, settings)
    return applied


def check(connection: Connection) -> None:
    """Raise Refused unless the database has exactly the migrations of this program."""
    known = shipped()
    exists = connection.execute("SELECT to_regclass('wallet_migrations') IS NOT NULL").fetchone()
    recorded = _recorded(connection) if exists and exists[0] else {}
    _compare(known, recorded)
    if missing := [migration.name for migration in known if migration.name not in recorded]:
        raise Refused(f"the database lacks {', '.join(missing)}: run `wallet init`")


def _apply_missing(connection: Connection, known: list[Migration], wait_s: float) -> Iterator[str]:
    """Apply one migration per transaction, reading each time what others may have applied meanwhile."""
    while True:
        with connection.transaction():
            connection.execute("SELECT set_config('lock_timeout', %s, true)", [f"{round(wait_s * 1_000)}ms"])
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
            connection.execute(RECORD_TABLE)
            recorded = _recorded(connection)
            _compare(known, recorded)
            migration = next((m for m in known if m.name not in recorded), None)
            if migration is None:
                database = sql.Identifier(connection.info.dbname)
                connection.execute(sql.SQL(DATABASE_RIGHTS).format(database=database))
                return
            connection.execute(migration.sql.encode())
            connection.execute(
                "INSERT INTO wallet_migrations (name, checksum) VALUES (%s, %s)",
                [migration.name, migration.checksum],
            )
        log.debug("migration_applied", name=migration.name)
        yield migration.name


def _in_the_way(connection: Connection) -> str:
    """What `wallet init` waits for, as far as it can be seen."""
    if other := holder(connection, LOCK):
        return f"which {other} holds"
    return "which other sessions use (pg_stat_activity shows their transactions)"


def _recorded(connection: Connection) -> dict[str, str]:
    return dict(connection.execute("SELECT name, checksum FROM wallet_migrations").fetchall())


def _compare(known: list[Migration], recorded: dict[str, str]) -> None:
    ours = {migration.name: migration.checksum for migration in known}
    if newer := sorted(set(recorded) - set(ours)):
        raise Refused(f"the database is newer than this program (it has {newer[-1]}): upgrade the program")
    if changed := [name for name, checksum in sorted(recorded.items()) if checksum != ours[name]]:
        raise Refused(
            f"migration {changed[0]} is not the one this database was made with: use a released version"
        )
