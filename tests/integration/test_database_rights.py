"""Who may connect, hold up `wallet init`, and take a backup."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr

from config.errors import Refused
from config.settings import Settings
from local.database import postgres_programs
from sinks import postgres
from sinks.archive import seals
from sinks.postgres import databases
from sinks.postgres.migrations import LOCK, migrate
from tests.integration.archives import table
from tests.integration.tables import rows
from tests.integration.test_archiver import OLD, content_of, row_of

pytestmark = pytest.mark.integration


@pytest.fixture
def login(settings: Settings) -> Iterator[str]:
    """Somebody who may log in to the server, and no more."""
    with postgres.connect(settings) as owner:
        name = f"{owner.info.dbname}_login"
        owner.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(name)))
        try:
            yield name
        finally:
            owner.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def as_login(settings: Settings, name: str) -> Settings:
    """The local server trusts everybody but the owner."""
    address = urlsplit(settings.postgres.get_secret_value())
    dsn = address._replace(netloc=f"{name}@{address.hostname}:{address.port}").geturl()
    return settings.model_copy(update={"postgres": SecretStr(dsn), "startup_wait_s": 1.0})


def test_a_login_of_the_server_is_let_in_by_one_of_our_roles_only(settings: Settings, login: str) -> None:
    theirs = as_login(settings, login).postgres.get_secret_value()
    migrate(settings)
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(theirs)
    with postgres.connect(settings) as owner:
        for role in (postgres.READER, postgres.WRITER, postgres.ARCHIVER):
            named = (sql.Identifier(role), sql.Identifier(login))
            owner.execute(sql.SQL("GRANT {} TO {}").format(*named))
            with postgres.connect(as_login(settings, login), role) as session:
                assert session.execute("SELECT current_user").fetchone() == (role,)
            owner.execute(sql.SQL("REVOKE {} FROM {}").format(*named))


def test_init_takes_the_right_to_connect_from_others_again(settings: Settings, login: str) -> None:
    """A database that was restored from a dump has the rights of a new one."""
    migrate(settings)
    with postgres.connect(settings) as owner:
        database = sql.Identifier(owner.info.dbname)
        owner.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO PUBLIC").format(database))
    theirs = as_login(settings, login).postgres.get_secret_value()
    psycopg.connect(theirs).close()
    assert migrate(settings) == []
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(theirs)


def test_who_holds_the_lock_of_init_is_named_after_a_time(settings: Settings) -> None:
    hasty = settings.model_copy(update={"startup_wait_s": 0.5})
    with postgres.connect(settings, name="the one who holds it") as other:
        other.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        backend = other.info.backend_pid
        with pytest.raises(
            Refused,
            match=rf"no lock on the database within 0\.5 s, which the one who holds it \(backend {backend}, from",
        ) as told:
            migrate(hasty)
        assert "\n" not in str(told.value)
        other.execute("SELECT pg_advisory_unlock(%s)", [LOCK])
    migrate(settings)


def test_a_table_that_is_locked_holds_init_up_for_a_time_only(settings: Settings) -> None:
    hasty = settings.model_copy(update={"startup_wait_s": 0.5})
    with postgres.connect(settings) as other, other.transaction():
        other.execute("CREATE TABLE wallet_migrations (name text PRIMARY KEY)")
        with pytest.raises(
            Refused,
            match=r"no lock on the database within 0\.5 s, which other sessions use \(pg_stat_activity",
        ):
            migrate(hasty)


def test_a_reader_can_take_a_whole_backup(settings: Settings, login: str, tmp_path: Path) -> None:
    """pg_dump locks and reads every month by its own name."""
    migrate(settings)
    with postgres.connect(settings) as owner, postgres.connect(settings, postgres.ARCHIVER) as archiver:
        owner.execute("SELECT make_month(%s)", [OLD])
        owner.execute("INSERT INTO wallets VALUES ('w', 'EUR', now())")
        owner.execute(row_of(OLD, 1))
        seals.add(archiver, content_of(owner, OLD))
        archiver.execute("SELECT archive_month(%s, 500)", [OLD])
        owner.execute(sql.SQL("GRANT wallet_reader TO {}").format(sql.Identifier(login)))
        version = owner.info.server_version // 10_000
    programs, dump = postgres_programs(version), tmp_path / "wallet.dump"
    theirs = as_login(settings, login).postgres.get_secret_value()
    run([programs / "pg_dump", "--no-owner", "--format=custom", f"--file={dump}", theirs])
    restored = databases.create(settings, f"{login}_restored")
    try:
        dsn = restored.postgres.get_secret_value()
        run([programs / "pg_restore", "--exit-on-error", "--no-owner", f"--dbname={dsn}", dump])
        assert migrate(restored) == []
        for query in ("SELECT * FROM wallet_entries", "SELECT * FROM archive_seals", "SELECT * FROM wallets"):
            assert rows(restored, query) == rows(settings, query)
        with postgres.connect(restored) as owner, pytest.raises(psycopg.errors.RestrictViolation):
            owner.execute(row_of(OLD, 2, table(OLD)))
    finally:
        databases.drop(settings, f"{login}_restored")


def run(command: list[object]) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
