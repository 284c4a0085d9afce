"""`wallet balance` and `wallet statement`: what PostgreSQL knows of one wallet."""

from datetime import datetime
from itertools import islice

import typer

from config.errors import ConfigurationError, WalletError
from config.settings import Settings
from operations.cli.output import as_line, show_table, table
from sinks.postgres import questions
from sinks.postgres.questions import StatementLine

#: Lines in one table, so that a long statement starts printing at once.
PAGE_LINES = 500


def show_balance(
    settings: Settings,
    wallet_id: str,
    at: datetime | None,
    effective_at: datetime | None = None,
    *,
    as_json: bool,
) -> None:
    """Print a wallet's balance in minor units, at a recorded_at or an occurred_at.

    Raises WalletError if the wallet has no entry.
    """
    if at and effective_at:
        raise ConfigurationError("use either --at or --effective-at, not both")
    if effective_at:
        found = questions.effective_balance(settings, wallet_id, effective_at)
    else:
        found = questions.balance(settings, wallet_id, at)
    if found is None:
        raise WalletError(f"wallet {wallet_id!r} has no entry")
    if as_json:
        typer.echo(as_line(found._asdict() | {"at": at, "effective_at": effective_at}))
    else:
        typer.echo(f"{found.balance} {found.currency} (minor units)")


def show_statement(
    settings: Settings, wallet_id: str, begin: datetime | None, end: datetime | None, *, as_json: bool
) -> None:
    """Print a wallet's entries by sequence, or as JSON Lines.

    Raises WalletError if the wallet has no entry.
    """
    entries = questions.statement(settings, wallet_id, begin, end)
    shown = 0
    while page := [*islice(entries, PAGE_LINES)]:
        shown += len(page)
        if as_json:
            typer.echo("\n".join(as_line(entry._asdict()) for entry in page))
        else:
            _print(page)
    if shown:
        return
    if questions.balance(settings, wallet_id) is None:
        raise WalletError(f"wallet {wallet_id!r} has no entry")
    if not as_json:
        typer.echo("no entries")


def _print(page: list[StatementLine]) -> None:
    rows = (
        (
            entry.sequence,
            entry.recorded_at,
            f"{'-' if entry.type == 'DEBIT' else '+'}{entry.amount}",
            entry.balance,
            entry.currency,
            entry.transaction_id,
            entry.group_id,
        )
        for entry in page
    )
    columns = ("sequence", "recorded at", "amount", "balance", "currency", "transaction", "group")
    show_table(table(columns, rows, numbers=("sequence", "amount", "balance")))
