"""Write the ledger to `wallets` and `transactions`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from schemas import native
from sinks.archive.entries import source_offset
from sinks.postgres import WRITER
from sinks.rows import EntryRow, entry_row
from sinks.sink import Record, Rows, body_of, made
from sinks.tables import Table

WALLETS = Table(
    name="wallets",
    columns=("wallet_id", "currency", "opened_at"),
    identity=("wallet_id",),
    index=("wallet_id",),
)

TRANSACTIONS = Table(
    name="transactions",
    columns=(
        "wallet_id",
        "sequence",
        "transaction_id",
        "type",
        "amount",
        "currency",
        "occurred_at",
        "group_id",
        "metadata",
        "balance",
        "recorded_at",
        "source_partition",
        "source_offset",
        "hash",
        "entry",
    ),
    identity=("wallet_id", "sequence"),
    index=("wallet_id", "sequence", "recorded_at"),
    archive="transaction_archive",
    refers_to="wallets",
)


@dataclass(frozen=True)
class LedgerSink:
    """Every entry becomes a row of `transactions`; a wallet's first one also becomes a row of `wallets`."""

    topic: str
    name: ClassVar = "ledger"
    role: ClassVar = WRITER

    def rows(self, records: Sequence[Record]) -> Rows:
        """Wallets first: the transactions refer to them."""
        entries = _entries(records)
        wallets = [entry.wallet for entry in entries if entry.wallet]
        transactions = [entry.row for entry in entries]
        return Rows(
            ((WALLETS, wallets), (TRANSACTIONS, transactions)), frozenset(entry.day for entry in entries)
        )

    def source_offset(self, record: Record) -> int:
        """The entry's source."""
        return source_offset(record.value() or b"")


def _entries(records: Sequence[Record]) -> list[EntryRow]:
    """The rows of each entry, from the compiled loop where it knows it; raises Stopped for one that does not decode."""
    if native.entry_rows is None:
        return made(records, _in_python)
    found: list[EntryRow | None] = native.entry_rows([record.value() for record in records], EntryRow)
    careful = iter(
        made([record for record, row in zip(records, found, strict=True) if row is None], _in_python)
    )
    return [row or next(careful) for row in found]


def _in_python(record: Record) -> EntryRow:
    return entry_row(body_of(record))
