"""Write the ledger to `wallets` and `transactions`."""

from collections.abc import Sequence

from sinks.archive.entries import source_offset
from sinks.postgres import WRITER
from sinks.rows import entry_row
from sinks.sink import Record, Rows, body_of, damaged
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


class LedgerSink:
    """Every entry becomes a row of `transactions`; a wallet's first one also becomes a row of `wallets`."""

    name = "ledger"
    role = WRITER

    def __init__(self, topic: str) -> None:
        self.topic = topic

    def rows(self, records: Sequence[Record]) -> Rows:
        """Wallets first: the transactions refer to them."""
        wallets, transactions, days = [], [], set()
        for record in records:
            try:
                entry = entry_row(body_of(record))
            except ValueError as error:
                raise damaged(record, error) from error
            transactions.append(entry.row)
            days.add(entry.day)
            if entry.wallet:
                wallets.append(entry.wallet)
        return Rows(((WALLETS, wallets), (TRANSACTIONS, transactions)), frozenset(days))

    def source_offset(self, record: Record) -> int:
        """The entry's source."""
        return source_offset(record.value() or b"")
