"""Sessions mean the same whatever was set around them; a database or a pooler that cannot do that is refused."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import conninfo, sql
from pydantic import SecretStr

from config.errors import ConfigurationError, Refused
from config.settings import Settings
from sinks import postgres
from sinks.ledger import TRANSACTIONS
from sinks.postgres import ENCODING, MEANING, databases, questions
from sinks.postgres.migrations import migrate
from sinks.rows import entry_row
from sinks.tables import reconcile
from tests.integration.tables import write
from tests.ledgers import Ledger, wait_until

pytestmark = pytest.mark.integration

#: Everything otherwise than we need it.
HOSTILE = {
    "client_encoding": "LATIN1",
    "timezone": "Pacific/Kiritimati",
    "search_path": "elsewhere, public",
    "datestyle": "SQL, DMY",
    "intervalstyle": "sql_standard",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "standard_conforming_strings": "off",
    "quote_all_identifiers": "on",
    "array_nulls": "off",
    "default_transaction_isolation": "serializable",
    "row_security": "on",
}
ROLES = (None, postgres.WRITER, postgres.READER)
NAMES = ("Zürich", "日本", "😀" * 128, "back\\slash 'quoted'", '{"NULL",NULL}', " ")


def set_for_database(settings: Settings) -> None:
    with postgres.connect(settings) as owner:
        database = sql.Identifier(owner.info.dbname)
        owner.execute("CREATE SCHEMA elsewhere CREATE TABLE wallets (wallet_id text)")
        for name, value in HOSTILE.items():
            statement = sql.SQL("ALTER DATABASE {} SET {} = {}")
            parts = [sql.Literal(part.strip()) for part in value.split(",")]
            owner.execute(statement.format(database, sql.Identifier(name), sql.SQL(", ").join(parts)))


@pytest.fixture(params=["the database", "the DSN", "the environment"])
def hostile(request: pytest.FixtureRequest, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A database with tables, and settings that were set otherwise from one side."""
    migrate(settings)
    if request.param == "the database":
        set_for_database(settings)
        return settings
    options = " ".join(
        f"-c {name}={value.replace(' ', '')}" for name, value in HOSTILE.items() if name != "client_encoding"
    )
    if request.param == "the environment":
        monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
        monkeypatch.setenv("PGOPTIONS", options)
        return settings
    dsn = conninfo.make_conninfo(
        settings.postgres.get_secret_value(), options=options, client_encoding="LATIN1"
    )
    return settings.model_copy(update={"postgres": SecretStr(dsn)})


def test_a_session_means_the_same_whatever_was_set_around_it(hostile: Settings) -> None:
    with psycopg.connect(hostile.postgres.get_secret_value()) as plain:
        assert plain.execute("SHOW bytea_output").fetchone() == ("escape",)  # it was set indeed
    for role in ROLES:
        with postgres.connect(hostile, role) as session:
            found = session.execute(
                "SELECT name, current_setting(name) FROM unnest(%s::text[]) AS name",
                [["client_encoding", *MEANING]],
            )
            assert {name: value.lower() for name, value in found} == {
                "client_encoding": ENCODING.lower(),
                **{name: value.lower() for name, value in MEANING.items()},
            }
    assert HOSTILE.keys() == {"client_encoding", *MEANING}


def test_names_are_stored_and_read_as_they_are(hostile: Settings) -> None:
    ledger = Ledger(0)
    for name in NAMES:
        ledger.post(name, 5)
    write(hostile, ledger)
    rows = [entry_row(written.body).row for written in ledger.written]
    with postgres.connect(hostile, postgres.WRITER) as writer, writer.transaction():
        assert reconcile(writer, TRANSACTIONS, rows) == 0
    for name in NAMES:
        assert questions.balance(hostile, name) == (name, "EUR", 5)
        assert [line.wallet_id for line in questions.statement(hostile, name)] == [name]
    with postgres.connect(hostile) as owner:
        stored = owner.execute("SELECT convert_to(wallet_id, 'UTF8') FROM public.wallets").fetchall()
    assert {bytes(name) for (name,) in stored} == {name.encode() for name in NAMES}


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "EUC_JP"])
def test_a_database_in_another_encoding_is_refused_before_anything_is_made(
    settings: Settings, encoding: str
) -> None:
    with postgres.connect(settings) as owner:
        name = f"{owner.info.dbname}_other"
        create = sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {} LOCALE 'C'")
        owner.execute(create.format(sql.Identifier(name), sql.Literal(encoding)))
    other = databases.of(settings, name)
    try:
        with pytest.raises(
            Refused, match=f"the database of WALLET_POSTGRES is in {encoding}.* ENCODING 'UTF8'"
        ):
            migrate(other)
        with postgres.connect(other) as owner:
            assert owner.execute("SELECT to_regclass('public.wallet_migrations')").fetchone() == (None,)
    finally:
        databases.drop(settings, name)


PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


@contextmanager
def pooled(settings: Settings, folder: Path, mode: str) -> Iterator[Settings]:
    """The same database through a pgbouncer of this mode."""
    assert PGBOUNCER
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    to = conninfo.conninfo_to_dict(settings.postgres.get_secret_value())
    configuration = folder / f"{mode}.ini"
    server = f"host={to['host']} port={to['port']} dbname={to['dbname']} user={to['user']} password={to['password']}"
    configuration.write_text(
        f"[databases]\n{to['dbname']} = {server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n"
        f"auth_type = any\npool_mode = {mode}\nunix_socket_dir =\n"
    )
    as_nobody = ["-u", "nobody"] if os.geteuid() == 0 else []
    dsn = conninfo.make_conninfo(settings.postgres.get_secret_value(), host="127.0.0.1", port=port)
    with subprocess.Popen([PGBOUNCER, "-q", *as_nobody, configuration], stderr=subprocess.DEVNULL) as program:
        try:
            wait_until(lambda: answers(port), "pgbouncer listens")
            yield settings.model_copy(update={"postgres": SecretStr(dsn)})
        finally:
            program.kill()


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.skipif(PGBOUNCER is None, reason="pgbouncer is not installed")
class TestPoolers:
    def test_one_that_changes_sessions_after_each_transaction_is_refused_before_anything_is_set(
        self, settings: Settings, tmp_path: Path
    ) -> None:
        migrate(settings)
        with pooled(settings, tmp_path, "transaction") as through:
            for role in ROLES:
                with pytest.raises(
                    ConfigurationError, match=r"pool_mode=transaction\): name the server itself"
                ):
                    postgres.connect(through, role)
            with pytest.raises(ConfigurationError, match="WALLET_POSTGRES leads to a pooler"):
                migrate(through)
            with psycopg.connect(through.postgres.get_secret_value(), autocommit=True) as another:
                found = another.execute("SELECT current_user = session_user, current_setting('lock_timeout')")
                assert found.fetchone() == (True, "0")

    def test_it_is_refused_while_others_use_it_too(self, settings: Settings, tmp_path: Path) -> None:
        migrate(settings)
        with pooled(settings, tmp_path, "transaction") as through:
            dsn = through.postgres.get_secret_value()
            busy = [psycopg.connect(dsn) for _ in range(3)]
            for connection in busy:
                connection.execute("SELECT 1")
            for connection in busy[1:]:
                connection.rollback()
            with pytest.raises(ConfigurationError, match="leads to a pooler"):
                postgres.connect(through, postgres.WRITER)
            for connection in busy:
                connection.close()

    def test_one_that_changes_them_after_each_statement_is_refused_in_one_line(
        self, settings: Settings, tmp_path: Path
    ) -> None:
        with (
            pooled(settings, tmp_path, "statement") as through,
            pytest.raises(
                ConfigurationError, match=r"refuses WALLET_POSTGRES: .*statement pooling mode"
            ) as told,
        ):
            postgres.connect(through)
        assert "\n" not in str(told.value)

    def test_one_that_keeps_sessions_is_used(self, settings: Settings, tmp_path: Path) -> None:
        with pooled(settings, tmp_path, "session") as through:
            migrate(through)
            with postgres.connect(through, postgres.WRITER) as writer:
                writer.execute("INSERT INTO wallets VALUES ('w', 'EUR', now())")
                assert writer.execute("SELECT current_user").fetchone() == ("wallet_writer",)
            assert questions.balance(through, "w") == ("w", "EUR", 0)
