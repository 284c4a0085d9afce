"""Tables that tests fill and change by hand: rows as a sink writes them, and what only an owner can do to them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from config.settings import Settings
from sinks import postgres
from sinks.ledger import TRANSACTIONS, WALLETS
from sinks.postgres import Connection
from sinks.postgres.months import make_months, months_of
from sinks.rows import entry_row, snapshot_row
from sinks.snapshots import SNAPSHOTS
from sinks.tables import copy
from tests.ledgers import Ledger

_GUARDS = """
    DO $$ DECLARE one record; BEGIN
        FOR one IN SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE tgname IN ('append_only', 'sealed') LOOP
            EXECUTE format('ALTER TABLE %s {} TRIGGER %I', one.tgrelid, one.tgname);
        END LOOP;
    END $$
"""


def rows(settings: Settings, query: Any, *values: object) -> list[tuple[Any, ...]]:
    """What the owner sees."""
    with postgres.connect(settings) as owner:
        return owner.execute(query, values or None).fetchall()


def write(settings: Settings, *ledgers: Ledger, snapshot_every: int | None = None) -> None:
    """Bring ledgers into the tables as the sinks do, without their positions."""
    entries = [entry_row(written.body) for ledger in ledgers for written in ledger.written]
    with postgres.connect(settings, postgres.WRITER) as writer:
        make_months(writer, months_of({entry.day for entry in entries}), settings)
        with writer.transaction():
            copy(writer, WALLETS, [entry.wallet for entry in entries if entry.wallet])
            copy(writer, TRANSACTIONS, [entry.row for entry in entries])
            for ledger in ledgers if snapshot_every else ():
                bodies = [body for _, body in ledger.snapshots(snapshot_every or 0)]
                copy(writer, SNAPSHOTS, [snapshot_row(body) for body in bodies])


@contextmanager
def unguarded(owner: Connection) -> Iterator[None]:
    """An owner has taken off what keeps rows as they are, and puts it on again."""
    owner.execute(_GUARDS.format("DISABLE").encode())
    yield
    owner.execute(_GUARDS.format("ENABLE ALWAYS").encode())


def change(settings: Settings, statement: Any, *values: object) -> None:
    """What only an owner who takes the protection off can do."""
    with postgres.connect(settings) as owner, unguarded(owner):
        owner.execute(statement, values or None)


def archive_november(settings: Settings, *, sealed: bool = True) -> None:
    """Move a month to the archive and seal it, without looking at it."""
    with postgres.connect(settings) as owner, owner.transaction():
        owner.execute(
            """
            ALTER TABLE transactions DETACH PARTITION transactions_2026_11;
            ALTER TABLE transactions_2026_11 DROP CONSTRAINT transactions_wallet_id_fkey;
            ALTER TABLE transaction_archive ATTACH PARTITION transactions_2026_11
                FOR VALUES FROM ('2026-11-01 00:00Z') TO ('2026-12-01 00:00Z')
            """
        )
        if sealed:
            owner.execute(
                "INSERT INTO archive_seals (month, ranges, entries, amount, hash, seal)"
                " VALUES ('2026-11-01', '[]', 0, 0, '', '')"
            )
