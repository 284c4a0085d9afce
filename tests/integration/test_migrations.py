"""Migrations against a real Postgres: once each, raced, refused."""

import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest
from psycopg import sql
from pydantic import SecretStr

from config.errors import Refused
from config.settings import Settings
from sinks import postgres
from sinks.postgres import questions
from sinks.postgres.migrations import Migration, check, migrate, shipped
from sinks.postgres.months import coming_months

pytestmark = pytest.mark.integration


def test_migrating_twice_applies_nothing_the_second_time(settings: Settings) -> None:
    assert migrate(settings) == [migration.name for migration in shipped()]
    assert migrate(settings) == []


def test_this_month_and_the_ones_ahead_are_made(settings: Settings) -> None:
    migrate(settings.model_copy(update={"months_ahead": 14}))
    months = coming_months(14, datetime.now(UTC).date())
    partitions = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'transactions'::regclass"
    with postgres.connect(settings) as connection:
        found = connection.execute(partitions).fetchall()
    assert {name for (name,) in found} == {f"transactions_{month:%Y_%m}" for month in months}


def test_several_at_once_apply_each_migration_once(settings: Settings) -> None:
    with ThreadPoolExecutor(6) as threads:
        applied = list(threads.map(lambda _: migrate(settings), range(6)))
    assert sorted(name for names in applied for name in names) == [migration.name for migration in shipped()]


def test_a_database_that_is_newer_than_the_code_is_refused(settings: Settings) -> None:
    migrate(settings, [*shipped(), Migration("9999_from_the_future", "CREATE TABLE future ()")])
    with pytest.raises(Refused, match=r"newer than this program .*9999_from_the_future"):
        migrate(settings)
    with postgres.connect(settings) as connection, pytest.raises(Refused, match="newer than this program"):
        check(connection)


def test_a_migration_that_was_changed_afterwards_is_refused(settings: Settings) -> None:
    first, *rest = shipped()
    migrate(settings)
    with pytest.raises(Refused, match=f"migration {first.name} is not the one"):
        migrate(settings, [first._replace(sql=f"{first.sql}\n-- changed"), *rest])


def test_line_ends_do_not_change_a_migration(settings: Settings) -> None:
    migrate(settings)
    assert migrate(settings, [m._replace(sql=m.sql.replace("\n", "\r\n")) for m in shipped()]) == []


def test_a_migration_that_fails_leaves_nothing_of_itself(settings: Settings) -> None:
    broken = Migration("9999_broken", "CREATE TABLE half (); SELECT 1 / 0")
    with pytest.raises(Exception, match="division by zero"):
        migrate(settings, [*shipped(), broken])
    with postgres.connect(settings) as connection:
        assert connection.execute("SELECT to_regclass('half')").fetchone() == (None,)
        check(connection)


def test_a_database_without_tables_is_refused_with_what_to_do(settings: Settings) -> None:
    with postgres.connect(settings) as connection, pytest.raises(Refused, match="run `wallet init`"):
        check(connection)


@pytest.fixture
def plain_owner(settings: Settings) -> Iterator[Settings]:
    """Settings of an owner who is no superuser and may make roles, or was granted those that others made."""
    name = f"owner_{secrets.token_hex(4)}"
    owner = sql.Identifier(name)
    with postgres.connect(settings) as connection:
        database = sql.Identifier(connection.info.dbname)
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEROLE PASSWORD 'secret'").format(owner))
        connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(database, owner))
        for (role,) in connection.execute(
            "SELECT rolname FROM pg_roles WHERE rolname ~ '^wallet_'"
        ).fetchall():
            connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(role), owner))
        address = urlsplit(settings.postgres.get_secret_value())
        dsn = address._replace(netloc=f"{name}:secret@{address.hostname}:{address.port}").geturl()
        try:
            yield settings.model_copy(update={"postgres": SecretStr(dsn)})
        finally:
            connection.execute(sql.SQL("REASSIGN OWNED BY {} TO CURRENT_USER").format(owner))
            connection.execute(sql.SQL("DROP OWNED BY {}").format(owner))
            connection.execute(sql.SQL("DROP ROLE {}").format(owner))


def test_an_owner_who_is_no_superuser_can_migrate_and_its_sinks_can_write(plain_owner: Settings) -> None:
    assert migrate(plain_owner) == [migration.name for migration in shipped()]
    with postgres.connect(plain_owner, postgres.WRITER) as writer:
        assert writer.execute("SELECT make_month('2031-01-31')").fetchone() == (True,)
        writer.execute("INSERT INTO wallets VALUES ('w', 'EUR', now())")
        writer.execute(
            "INSERT INTO transactions SELECT"
            " 'w', 1, gen_random_uuid(), 'CREDIT', 1, 'EUR', now(), null, '{}', 1, '2031-01-31', 0, 0, '', ''"
        )
    assert questions.balance(plain_owner, "w") == ("w", "EUR", 1)


def test_a_user_who_may_not_make_tables_is_told_so_in_one_line(
    plain_owner: Settings, settings: Settings
) -> None:
    with postgres.connect(settings) as connection:
        database = sql.Identifier(connection.info.dbname)
        connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO CURRENT_USER").format(database))
    with pytest.raises(
        Refused, match="the owner in WALLET_POSTGRES lacks a right: permission denied"
    ) as refused:
        migrate(plain_owner)
    assert "secret" not in str(refused.value)
