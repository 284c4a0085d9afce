"""Rows in a real Postgres: what COPY writes, and how a replay is compared with what is there."""

from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest

from config.settings import Settings
from schemas.codec import NO_HASH
from sinks import postgres
from sinks.ledger import TRANSACTIONS, WALLETS
from sinks.postgres import Connection
from sinks.postgres.migrations import migrate
from sinks.postgres.months import make_months
from sinks.rows import entry_row
from sinks.tables import Differs, reconcile
from tests.integration.tables import change, unguarded, write
from tests.ledgers import Ledger

pytestmark = pytest.mark.integration


@pytest.fixture
def owner(settings: Settings) -> Iterator[Connection]:
    migrate(settings)
    with postgres.connect(settings) as connection:
        yield connection


@pytest.fixture
def writer(settings: Settings, owner: Connection) -> Iterator[Connection]:
    with postgres.connect(settings, postgres.WRITER) as connection:
        yield connection


def compare(connection: Connection, ledger: Ledger) -> tuple[int, int]:
    """Wallets and transactions that were missing."""
    entries = [entry_row(written.body) for written in ledger.written]
    with connection.transaction():
        wallets = reconcile(connection, WALLETS, [entry.wallet for entry in entries if entry.wallet])
        return wallets, reconcile(connection, TRANSACTIONS, [entry.row for entry in entries])


def everything(connection: Connection) -> list[tuple[Any, ...]]:
    return connection.execute("SELECT * FROM wallet_entries ORDER BY wallet_id, sequence").fetchall()


def test_the_hash_chain_can_be_checked_in_sql(writer: Connection, settings: Settings) -> None:
    write(settings, Ledger(0).post_many(200))
    chain = """
        SELECT count(*), count(*) FILTER (WHERE sha256(coalesce(previous, %s) || entry) = hash) FROM (
            SELECT hash, entry, lag(hash) OVER (PARTITION BY wallet_id ORDER BY sequence) AS previous
            FROM transactions
        ) AS chain
    """
    assert writer.execute(chain, [NO_HASH]).fetchall() == [(200, 200)]


def test_extreme_values_are_written_as_they_are(writer: Connection, settings: Settings) -> None:
    ledger = Ledger(2**31 - 1)
    longest = "\U0001f600" * 128
    year_1_ms, year_9999_ms = -62_135_596_800_000, 253_402_300_799_999
    large = (("k" * 5_000, "v" * 70_000), ("\x01\x7f\u2028", '"\\/\b\f\n\r\t'))
    ledger.post(longest, 2**63 - 1, occurred_ms=year_1_ms, group_id=longest, metadata=large)
    ledger.post(longest, 2**63 - 1, kind=1, occurred_ms=year_9999_ms)
    ledger.post(longest, 2**63 - 1, kind=1)
    write(settings, ledger)
    query = """
        SELECT wallet_id, group_id, metadata, balance, extract(year FROM occurred_at)::int, entry
        FROM transactions ORDER BY sequence
    """
    assert writer.execute(query).fetchall() == [
        (longest, longest, dict(large), 2**63 - 1, 1, ledger.written[0].body[:-32]),
        (longest, None, {}, 0, 9999, ledger.written[1].body[:-32]),
        (longest, None, {}, 1 - 2**63, 2026, ledger.written[2].body[:-32]),
    ]


def test_equal_rows_are_not_touched(writer: Connection, settings: Settings) -> None:
    ledger = Ledger(0).post_many(100)
    write(settings, ledger)
    versions = "SELECT xmin::text, xmax::text, ctid::text FROM transactions ORDER BY source_offset"
    before = writer.execute(versions).fetchall()
    assert compare(writer, ledger) == (0, 0)
    assert writer.execute(versions).fetchall() == before


def test_missing_rows_are_added(writer: Connection, owner: Connection, settings: Settings) -> None:
    ledger = Ledger(0).post_many(100)
    write(settings, ledger)
    before = everything(writer)
    change(
        settings,
        "DELETE FROM transactions WHERE source_offset IN (0, 7, 99)",
    )
    assert compare(writer, ledger) == (0, 3)
    assert everything(writer) == before


#: What is done to a column of a row, and what is shown of it.
CHANGES = [
    ("transaction_id = 'c0000000-0000-0000-0000-000000000000'", "transaction_id is"),
    ("type = 'CREDIT'", 'type is "CREDIT" in the table and "DEBIT" in the topic'),
    ("amount = amount + 1", "amount is 9 in the table and 8 in the topic"),
    ("currency = 'USD'", 'currency is "USD" in the table and "EUR" in the topic'),
    ("occurred_at = occurred_at + interval '1 microsecond'", "occurred_at is"),
    ('metadata = \'{"a": "b"}\'', 'metadata is {"a": "b"} in the table and {} in the topic'),
    ("group_id = 'other'", 'group_id is "other" in the table and null in the topic'),
    ("balance = 0", "balance is 0 in the table and -8 in the topic"),
    ("recorded_at = recorded_at + interval '1 day'", "recorded_at is"),
    ("source_partition = 1", "source_partition is 1 in the table and 0 in the topic"),
    ("source_offset = 8", "source_offset is 8 in the table and 7 in the topic"),
    ("hash = '\\x00'", "hash is"),
    ("entry = entry || '\\x00'", "entry is"),
]


def test_every_column_is_compared(writer: Connection, owner: Connection, settings: Settings) -> None:
    ledger = Ledger(0).post_many(10)
    write(settings, ledger)
    compared = {change.split()[0] for change, _ in CHANGES}
    assert compared == {*TRANSACTIONS.columns} - {"wallet_id", "sequence"}
    for changed, shown in CHANGES:
        with owner.transaction(force_rollback=True):
            with unguarded(owner):
                owner.execute(f"UPDATE transactions SET {changed} WHERE source_offset = 7".encode())  # noqa: S608 - one of these
            with pytest.raises(Differs) as stopped:
                compare(owner, ledger)
        assert shown in stopped.value.versions
        assert shown.partition(" is")[0] in str(stopped.value)
        assert "wallet_id='wallet-0-7', sequence=1" in str(stopped.value)
        assert "\n" not in str(stopped.value)
    assert compare(writer, ledger) == (0, 0)


def test_an_entry_whose_row_has_another_identity_is_missing(
    writer: Connection, owner: Connection, settings: Settings
) -> None:
    ledger = Ledger(0).post_many(10)
    write(settings, ledger)
    change(settings, "UPDATE transactions SET sequence = 99 WHERE source_offset = 7")
    assert compare(writer, ledger) == (0, 1)


def test_a_row_in_another_month_than_its_entry_differs(
    writer: Connection, owner: Connection, settings: Settings
) -> None:
    ledger = Ledger(0).post_many(10)
    write(settings, ledger)
    make_months(writer, [date(2026, 12, 1)], settings)
    change(
        settings,
        "UPDATE transactions SET recorded_at = recorded_at + interval '31 days' WHERE source_offset = 7",
    )
    with pytest.raises(Differs, match="in recorded_at"):
        compare(writer, ledger)


def test_a_wallet_that_differs_is_found(writer: Connection, owner: Connection, settings: Settings) -> None:
    ledger = Ledger(0).post_many(10)
    write(settings, ledger)
    change(settings, "UPDATE wallets SET currency = 'USD' WHERE wallet_id = 'wallet-0-3'")
    with pytest.raises(Differs, match="in currency") as differs:
        compare(writer, ledger)
    assert differs.value.versions == 'currency is "USD" in the table and "EUR" in the topic'


def test_a_long_value_is_shown_in_part(writer: Connection, owner: Connection, settings: Settings) -> None:
    ledger = Ledger(0)
    ledger.post("wallet", metadata=(("note", "x" * 100_000),))
    write(settings, ledger)
    change(settings, "UPDATE transactions SET metadata = jsonb_build_object('note', repeat('y', 100000))")
    with pytest.raises(Differs) as differs:
        compare(writer, ledger)
    assert len(differs.value.versions) < 1_000
