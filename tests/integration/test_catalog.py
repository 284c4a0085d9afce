"""What `audit/catalog.json` says must be there is what the migrations make, and whatever is done to it is told."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from audit import catalog
from config.settings import Settings
from sinks import postgres
from sinks.postgres import Connection
from sinks.postgres.one_state import audited
from tests.integration.archives import (
    FIRST,
    PARTITIONS,
    SECOND,
    archiving,
    pipeline_with,
    table,
    two_months,
    work,
)
from tests.integration.tables import rows

pytestmark = pytest.mark.integration


@pytest.fixture
def pipeline(settings: Settings) -> Settings:
    """Its months are archived, sealed, and open."""
    one = pipeline_with(settings, *(two_months(at) for at in range(PARTITIONS)))
    work(one, FIRST)
    with archiving(one) as archive:
        (month,) = (month for month in archive.months() if month.first == SECOND)
        archive.seal(month, archive.completeness(month), lambda _: None)
    return one


def made(settings: Settings) -> dict[str, list[str]]:
    """What the migrations and the archive made, by kind."""
    tables = rows(
        settings,
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v')"
        " AND NOT relispartition",
    )
    functions = rows(
        settings,
        "SELECT format('%s(%s)', proname, pg_get_function_identity_arguments(oid))"
        " FROM pg_proc WHERE pronamespace = 'public'::regnamespace",
    )
    with audited(settings) as connection:
        there = catalog.there(connection, dict.fromkeys(name for (name,) in [*tables, *functions]))
        return {thing.kind: sorted(thing.lines) for thing in sorted(there)}


def test_what_is_shipped_is_what_the_migrations_make(pipeline: Settings, tmp_path: Path) -> None:
    found = made(pipeline)
    (tmp_path / "catalog.json").write_text(json.dumps(found, indent=1) + "\n")
    assert {kind: frozenset(lines) for kind, lines in found.items()} == catalog.shipped(), (
        f"where that is what a migration is for, {tmp_path}/catalog.json is the new audit/catalog.json"
    )


@pytest.fixture
def owner(pipeline: Settings) -> Iterator[Connection]:
    with postgres.connect(pipeline) as connection:
        yield connection


#: What is done to a parent is done to its months.
MONTHS = 8
#: What an owner does, and the object that must be told, and how.
DONE: dict[str, tuple[str, str, str]] = {
    "a guard that is off": ("ALTER TABLE wallets DISABLE TRIGGER append_only", "wallets", "unprotected"),
    "a guard that is not always on": (
        "ALTER TABLE rejections ENABLE TRIGGER append_only",
        "rejections",
        "unprotected",
    ),
    "a guard that is gone": ("DROP TRIGGER append_only ON {open}", "{open}", "unprotected"),
    "a seal's guard that is gone": ("DROP TRIGGER sealed ON {sealed}", "{sealed}", "unprotected"),
    "a guard of the archive": ("ALTER TABLE {archived} DISABLE TRIGGER sealed", "{archived}", "unprotected"),
    "another trigger": (
        "CREATE TRIGGER other BEFORE INSERT ON transactions FOR EACH ROW EXECUTE FUNCTION refuse_insert()",
        "transactions",
        "unprotected",
    ),
    "a rule": ("CREATE RULE nothing AS ON UPDATE TO wallets DO INSTEAD NOTHING", "wallets", "unprotected"),
    "a right": ("GRANT UPDATE ON transactions TO wallet_reader", "transactions", "unprotected"),
    "a right on a column": ("GRANT UPDATE (balance) ON {open} TO PUBLIC", "{open}", "unprotected"),
    "a right on a function": (
        "GRANT EXECUTE ON FUNCTION archive_month TO wallet_writer",
        "archive_month",
        "altered",
    ),
    "a key that is gone": (
        "ALTER TABLE rejections DROP CONSTRAINT rejections_pkey",
        "rejections",
        "unprotected",
    ),
    "a column that may be null": (
        "ALTER TABLE wallets ALTER currency DROP NOT NULL",
        "wallets",
        "unprotected",
    ),
    "a month's bounds": ("ALTER TABLE {open} DROP CONSTRAINT month_bounds", "{open}", "unprotected"),
    "foreign keys that are not checked": ("ALTER TABLE {open} DISABLE TRIGGER ALL", "{open}", "unprotected"),
    "a table that is not durable": ("ALTER TABLE rejections SET UNLOGGED", "rejections", "unprotected"),
    "row security": ("ALTER TABLE rejections ENABLE ROW LEVEL SECURITY", "rejections", "unprotected"),
    "a policy": ("CREATE POLICY seen ON wallets USING (true)", "wallets", "unprotected"),
    "a month that is detached": (
        "ALTER TABLE transactions DETACH PARTITION {sealed}",
        "{sealed}",
        "unprotected",
    ),
    "a partition that is no month": (
        "CREATE TABLE other PARTITION OF transactions DEFAULT",
        "other",
        "unprotected",
    ),
    "a view": (
        "CREATE OR REPLACE VIEW wallet_entries AS SELECT * FROM transactions",
        "wallet_entries",
        "unprotected",
    ),
    "a function": (
        (
            "CREATE OR REPLACE FUNCTION wallet_balance(wallet_id text) RETURNS bigint LANGUAGE sql STABLE STRICT"
            " AS 'SELECT 1::bigint'"
        ),
        "wallet_balance",
        "altered",
    ),
    "a guard's function": (
        (
            "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql"
            " SET search_path = pg_catalog, pg_temp AS 'BEGIN RETURN NULL; END'"
        ),
        "refuse_change",
        "altered",
    ),
    "a function that comes before ours": (
        "CREATE FUNCTION wallet_balance(wallet_id varchar) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint'",
        "wallet_balance(wallet_id character varying)",
        "extra",
    ),
    "a function that is gone": ("DROP FUNCTION wallet_statement", "wallet_statement", "missing"),
    "a comment that swallows the line behind it": (
        (
            "DO $$ BEGIN EXECUTE replace(pg_get_functiondef('seal_month'::regproc), E'who are at it.\\n', 'at it.');"
            " END $$"
        ),
        "seal_month",
        "altered",
    ),
    "an operator that comes before PostgreSQL's": (
        (
            "CREATE FUNCTION never(snapshot_reason, snapshot_reason) RETURNS bool LANGUAGE sql AS 'SELECT false';"
            " CREATE OPERATOR public.= (LEFTARG = snapshot_reason, RIGHTARG = snapshot_reason, FUNCTION = never)"
        ),
        "public",
        "unprotected",
    ),
    "a child": ("CREATE TABLE child () INHERITS (rejections)", "rejections", "unprotected"),
    "another owner": (
        (
            "CREATE ROLE wallet_mallory; GRANT CREATE ON SCHEMA public TO wallet_mallory;"
            " ALTER TABLE rejections OWNER TO wallet_mallory"
        ),
        "rejections",
        "unprotected",
    ),
    "a function's other owner": (
        (
            "CREATE ROLE wallet_mallory; GRANT CREATE ON SCHEMA public TO wallet_mallory;"
            " ALTER FUNCTION make_month OWNER TO wallet_mallory"
        ),
        "make_month",
        "altered",
    ),
    "the schema is open": ("GRANT CREATE ON SCHEMA public TO PUBLIC", "public", "unprotected"),
    "a right that may be handed on": (
        "GRANT INSERT ON rejections TO wallet_writer WITH GRANT OPTION",
        "rejections",
        "unprotected",
    ),
    "a default": ("ALTER TABLE rejections ALTER detail SET DEFAULT ''", "rejections", "unprotected"),
    "an index that stops a sink": (
        "CREATE UNIQUE INDEX ON rejections (source_partition, (length(detail) * 0 + source_offset))",
        "rejections",
        "unprotected",
    ),
    "a table that is gone": ("DROP TABLE rejections", "rejections", "missing"),
    "seals that are gone": ("DROP TABLE archive_seals CASCADE", "archive_seals", "missing"),
}


def test_whatever_is_done_to_what_guards_the_tables_is_told(pipeline: Settings, owner: Connection) -> None:
    months = {"archived": table(FIRST), "sealed": table(SECOND)}
    (months["open"],) = owner.execute(
        "SELECT max(inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = 'transactions'::regclass"
    ).fetchone() or ("",)
    assert [*catalog.differences(owner)] == []
    for done, (statement, name, what) in DONE.items():
        with owner.transaction(force_rollback=True):
            owner.execute(statement.format(**months).encode())
            told = [(one.where, one.what) for one in catalog.differences(owner)]
            assert (name.format(**months), what) in told, (done, told)
            assert len(told) <= MONTHS, (done, told)
    assert [*catalog.differences(owner)] == []
