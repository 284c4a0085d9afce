"""The ledger cannot be changed: not by the owner, not in a partition, not as a replica."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from config.settings import Settings
from sinks import postgres
from sinks.postgres import Connection
from sinks.postgres.migrations import migrate

pytestmark = pytest.mark.integration

TABLES = (
    "wallets",
    "transactions",
    "transactions_2031_01",
    "transaction_archive",
    "transactions_2020_01",
    "transaction_snapshots",
    "rejections",
)
CHANGES = {
    "wallets": "opened_at = now()",
    "transaction_snapshots": "balance = 1",
    "rejections": "reason = ''",
}


@pytest.fixture
def owner(settings: Settings) -> Iterator[Connection]:
    """The owner, a superuser besides, of a database with rows, one of them in an archived month."""
    migrate(settings)
    with postgres.connect(settings) as connection:
        connection.execute(
            """
            SELECT make_month('2031-01-01'), make_month('2020-01-01');
            INSERT INTO wallets VALUES ('w', 'EUR', now());
            INSERT INTO transactions
            SELECT 'w', n, gen_random_uuid(), 'CREDIT', 1, 'EUR', now(), null, '{}', 1, at, 0, n, '', ''
            FROM (VALUES (1, timestamptz '2020-01-15'), (2, '2031-01-15')) AS rows (n, at);
            ALTER TABLE transactions DETACH PARTITION transactions_2020_01;
            ALTER TABLE transactions_2020_01 DROP CONSTRAINT transactions_wallet_id_fkey;
            ALTER TABLE transaction_archive
                ATTACH PARTITION transactions_2020_01 FOR VALUES FROM ('2020-01-01') TO ('2020-02-01');
            INSERT INTO transaction_snapshots VALUES ('w', 'EUR', 1, 1, now(), 0, 0, '', 'INTERVAL');
            INSERT INTO rejections VALUES (0, 0, 'INVALID', '', now(), null, null, '[]');
            """
        )
        yield connection


def statements(table: str) -> list[sql.Composed]:
    name, change = sql.Identifier(table), sql.SQL(CHANGES.get(table, "amount = 2"))
    return [
        sql.SQL("UPDATE {} SET {}").format(name, change),
        sql.SQL("UPDATE {} SET {} WHERE false").format(name, change),
        sql.SQL("DELETE FROM {}").format(name),
        sql.SQL("TRUNCATE {} CASCADE").format(name),
    ]


def refuse(connection: Connection, refusal: type[psycopg.Error]) -> None:
    for table in TABLES:
        for statement in statements(table):
            with pytest.raises(refusal):
                connection.execute(statement)


def test_the_owner_can_change_nothing(owner: Connection) -> None:
    refuse(owner, psycopg.errors.RestrictViolation)


def test_a_session_that_replicates_can_change_nothing(owner: Connection) -> None:
    owner.execute("SET session_replication_role = replica")
    refuse(owner, psycopg.errors.RestrictViolation)


def test_an_upsert_can_change_nothing(owner: Connection) -> None:
    upsert = """
        INSERT INTO wallets VALUES ('w', 'USD', now()) ON CONFLICT (wallet_id) DO UPDATE SET currency = 'USD'
    """
    with pytest.raises(psycopg.errors.RestrictViolation):
        owner.execute(upsert)


def test_the_roles_may_not_even_try(owner: Connection, settings: Settings) -> None:
    for role in (postgres.WRITER, postgres.READER):
        with postgres.connect(settings, role) as connection:
            refuse(connection, psycopg.errors.InsufficientPrivilege)


def test_readers_can_read_and_write_nothing(owner: Connection, settings: Settings) -> None:
    with postgres.connect(settings, postgres.READER) as reader:
        assert reader.execute("SELECT count(*) FROM transactions").fetchone() == (1,)
        assert reader.execute("SELECT wallet_balance('w')").fetchone() == (2,)
        for refused in (
            "INSERT INTO wallets VALUES ('x', 'EUR', now())",
            "UPDATE sink_positions SET next_offset = 0",
            "SELECT make_month('2032-01-01')",
            "CREATE TABLE mine ()",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute(refused.encode())
