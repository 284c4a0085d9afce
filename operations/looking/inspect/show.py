"""What `wallet inspect` prints."""

from collections.abc import Sequence
from datetime import datetime

import typer
from rich.table import Table

from config.times import rfc3339
from operations.cli.output import as_line, show_table, table
from operations.looking.inspect.look import Found, Place
from schemas.records import DEBIT, TYPES, LedgerEntry


def show(found: Found, place: Place, entries: int, *, as_json: bool) -> None:
    """Print a wallet's state, and as many of its newest entries as were asked for."""
    if as_json:
        typer.echo(as_line(_fields(found, place, entries)))
        return
    if place.effective_at:
        typer.echo(f"{found.balance} {found.currency} (minor units), by occurred_at")
        typer.echo(f"sum of {found.counted} entries up to {rfc3339(place.effective_at)}")
    elif not found.entries:
        typer.echo(f"0 {found.currency} (minor units): before the wallet's first entry")
    else:
        newest = found.entries[0]
        typer.echo(f"{found.balance} {found.currency} (minor units)")
        typer.echo(f"sequence     {newest.sequence}")
        typer.echo(f"recorded at  {rfc3339(newest.recorded_at)}")
        typer.echo(f"source       partition {newest.source_partition}, offset {newest.source_offset}")
        typer.echo(f"hash         {newest.hash.hex()}")
    if found.undecided:
        typer.echo(
            f"note: {found.undecided} offsets of the input are not handled yet and not included", err=True
        )
    if entries and found.entries:
        show_table(_table(found.entries))


def _table(entries: Sequence[LedgerEntry]) -> Table:
    rows = (
        (
            entry.sequence,
            rfc3339(entry.recorded_at),
            rfc3339(entry.transaction.occurred_at),
            f"{'-' if entry.transaction.type == DEBIT else '+'}{entry.transaction.amount}",
            entry.balance,
            entry.transaction.transaction_id,
            entry.transaction.group_id or "",
        )
        for entry in entries
    )
    columns = ("sequence", "recorded at", "occurred at", "amount", "balance", "transaction", "group")
    return table(columns, rows, numbers=("sequence", "amount", "balance"))


def _fields(found: Found, place: Place, entries: int) -> dict[str, object]:
    newest = found.entries[0] if found.entries and not place.effective_at else None
    return {
        "wallet_id": found.wallet_id,
        "partition": found.partition,
        "currency": found.currency,
        "balance": found.balance,
        "at": _time(place.at),
        "at_offset": place.at_offset,
        "effective_at": _time(place.effective_at),
        "counted": found.counted,
        "sequence": newest.sequence if newest else None,
        "recorded_at": _time(newest.recorded_at) if newest else None,
        "source_partition": newest.source_partition if newest else None,
        "source_offset": newest.source_offset if newest else None,
        "hash": newest.hash.hex() if newest else None,
        "undecided": found.undecided,
        "entries": [_entry(entry) for entry in found.entries] if entries else [],
    }


def _entry(entry: LedgerEntry) -> dict[str, object]:
    transaction = entry.transaction
    return {
        "transaction_id": transaction.transaction_id,
        "type": TYPES[transaction.type],
        "amount": transaction.amount,
        "occurred_at": rfc3339(transaction.occurred_at),
        "group_id": transaction.group_id,
        "metadata": dict(transaction.metadata),
        "sequence": entry.sequence,
        "balance": entry.balance,
        "recorded_at": rfc3339(entry.recorded_at),
        "source_partition": entry.source_partition,
        "source_offset": entry.source_offset,
        "hash": entry.hash.hex(),
    }


def _time(at: datetime | None) -> str | None:
    return None if at is None else rfc3339(at)
