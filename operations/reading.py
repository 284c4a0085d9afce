"""`wallet balance` and `wallet statement`: what PostgreSQL knows of one wallet."""

from datetime import UTC, datetime

import typer
from rich.table import Table

from config.errors import WalletError
from config.settings import Settings
from operations.output import as_line, console
from sinks import postgres
from sinks.postgres import StatementLine

#: A statement is shown in tables of so many lines, so that a long one starts at once.
PAGE_LINES = 500


def show_balance(settings: Settings, wallet_id: str, at: datetime | None, *, as_json: bool) -> None:
    """Print a wallet's balance in minor units; raises WalletError for a wallet without any entry."""
    found = postgres.balance(settings, wallet_id, at)
    if found is None:
        raise WalletError(f"wallet {wallet_id!r} has no entry")
    if as_json:
        typer.echo(as_line(found._asdict() | {"at": at and _iso(at)}))
    else:
        typer.echo(f"{found.balance} {found.currency} (minor units)")


def show_statement(
    settings: Settings, wallet_id: str, begin: datetime | None, end: datetime | None, *, as_json: bool
) -> None:
    """Print a wallet's entries by sequence; one JSON object a line for programs."""
    entries = postgres.statement(settings, wallet_id, begin, end)
    if as_json:
        for entry in entries:
            typer.echo(as_line(_fields(entry)))
        return
    page: list[StatementLine] = []
    shown = False
    for entry in entries:
        page.append(entry)
        if len(page) == PAGE_LINES:
            _print(page)
            page, shown = [], True
    if page or not shown:
        _print(page)


def _fields(entry: StatementLine) -> dict[str, object]:
    return entry._asdict() | {
        "occurred_at": _iso(entry.occurred_at),
        "recorded_at": _iso(entry.recorded_at),
        "hash": entry.hash.hex(),
    }


def _print(page: list[StatementLine]) -> None:
    if not page:
        typer.echo("no entries")
        return
    table = Table(box=None, header_style="bold")
    for name in ("sequence", "recorded at", "amount", "balance", "currency", "transaction", "group"):
        number = name in {"sequence", "amount", "balance"}
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    for entry in page:
        sign = "-" if entry.type == "DEBIT" else "+"
        table.add_row(
            str(entry.sequence),
            _iso(entry.recorded_at),
            f"{sign}{entry.amount}",
            str(entry.balance),
            entry.currency,
            str(entry.transaction_id),
            entry.group_id or "",
        )
    console().print(table)


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
