"""`wallet export statement`: a wallet's entries as CSV, or as a journal that hledger reads and checks."""

import csv
import json
import sys
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from datetime import datetime
from decimal import Decimal
from functools import partial
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Literal

from config.errors import ConfigurationError, WalletError
from config.folders import written_whole
from config.settings import Settings
from config.times import rfc3339
from operations.sending.files.values import MINOR_DIGITS
from sinks.postgres import questions
from sinks.postgres.questions import StatementLine, WalletBalance

Form = Literal["csv", "journal"]
#: By the file's extension.
FORMS: dict[str, Form] = {".csv": "csv", ".journal": "journal", ".hledger": "journal", ".ledger": "journal"}
STANDARD_OUTPUT = Path("-")
OPENING, UPSTREAM = "equity:opening balances", "equity:upstream"


def export(
    settings: Settings,
    wallet_id: str,
    path: Path,
    form: Form | None,
    begin: datetime | None,
    end: datetime | None,
) -> int:
    """Write the entries recorded from `begin` (included) to `end` (excluded); returns how many.

    The file appears when it is complete. Raises WalletError if the wallet has no entry, ConfigurationError if neither
    `form` nor the file's name gives the format.
    """
    form = form or form_of(path)
    entries = questions.statement(settings, wallet_id, begin, end)
    first = next(entries, None)
    before = None if first else questions.balance_before(settings, wallet_id, begin)
    if first is None and before is None:
        raise WalletError(f"wallet {wallet_id!r} has no entry")
    with nullcontext(sys.stdout) if path == STANDARD_OUTPUT else written_whole(path) as out:
        if before is not None and form == "journal":
            write_opening(out, before, begin)
        return FORMATS[form](out, chain([first] if first else [], entries))


def form_of(path: Path) -> Form:
    """The format for a file of this name; raises ConfigurationError if the name does not tell."""
    if path == STANDARD_OUTPUT:
        return "csv"
    try:
        return FORMS[path.suffix.lower()]
    except KeyError:
        raise ConfigurationError(
            f"{path} has no known format: name it .csv or .journal, or add --format"
        ) from None


def decimal(minor: int, currency: str) -> Decimal:
    """An amount in units of its currency; in minor units if the currency has no known decimals."""
    return Decimal(minor).scaleb(-MINOR_DIGITS.get(currency, 0))


def signed(entry: StatementLine) -> int:
    """What an entry adds to its wallet, in minor units."""
    return -entry.amount if entry.type == "DEBIT" else entry.amount


COLUMNS: dict[str, Callable[[StatementLine], object]] = {
    "sequence": lambda one: one.sequence,
    "recorded_at": lambda one: rfc3339(one.recorded_at),
    "occurred_at": lambda one: rfc3339(one.occurred_at),
    "transaction_id": lambda one: one.transaction_id,
    "type": lambda one: one.type,
    "amount": lambda one: one.amount,
    "currency": lambda one: one.currency,
    "balance": lambda one: one.balance,
    "change_in_units": lambda one: decimal(signed(one), one.currency),
    "balance_in_units": lambda one: decimal(one.balance, one.currency),
    "group_id": lambda one: one.group_id,
    "metadata": lambda one: json.dumps(one.metadata, ensure_ascii=False, sort_keys=True),
    "source_partition": lambda one: one.source_partition,
    "source_offset": lambda one: one.source_offset,
    "hash": lambda one: one.hash.hex(),
}


def write_csv(out: IO[str], entries: Iterable[StatementLine]) -> int:
    """A header, then one row per entry; amounts in minor units, and in units of the currency."""
    # Before Python 3.13 a CR in a cell is quoted only if the end of a row has one.
    rows = csv.writer(SimpleNamespace(write=lambda row: out.write(row.removesuffix("\r\n") + "\n")))
    rows.writerow(COLUMNS)
    count = 0
    for entry in entries:
        rows.writerow([column(entry) for column in COLUMNS.values()])
        count += 1
    return count


def write_journal(out: IO[str], entries: Iterable[StatementLine]) -> int:
    """Double-entry transactions, each with the balance after it, which hledger asserts.

    What came before the first is an opening balance. The other side is always the same account, since the ledger does
    not know whose it is.
    """
    count = 0
    for count, entry in enumerate(entries, 1):
        amount = partial(_amount, entry.currency)
        account = _account(entry.wallet_id)
        day = entry.recorded_at.date()
        if count == 1:
            before = WalletBalance(entry.wallet_id, entry.currency, entry.balance - signed(entry))
            write_opening(out, before, entry.recorded_at)
        metadata = json.dumps(entry.metadata, ensure_ascii=True, sort_keys=True)
        out.write(
            f"\n{day} ({entry.sequence}) {entry.type.lower()}\n"
            f"    ; transaction {entry.transaction_id}, recorded {rfc3339(entry.recorded_at)}, "
            f"occurred {rfc3339(entry.occurred_at)}\n"
            f"    ; source {entry.source_partition}:{entry.source_offset}, hash {entry.hash.hex()}\n"
        )
        if entry.group_id is not None:
            out.write(f"    ; group {json.dumps(entry.group_id)}\n")
        if entry.metadata:
            out.write(f"    ; metadata {metadata}\n")
        out.write(f"    {account}  {amount(signed(entry))} = {amount(entry.balance)}\n    {UPSTREAM}\n")
    return count


FORMATS: dict[Form, Callable[[IO[str], Iterable[StatementLine]], int]] = {
    "csv": write_csv,
    "journal": write_journal,
}


def write_opening(out: IO[str], before: WalletBalance, at: datetime | None) -> None:
    """How amounts are written, and what the wallet held before `at`; None for the beginning, when that was nothing."""
    currency = before.currency
    if currency not in MINOR_DIGITS:
        out.write(f"; {currency} has no known decimals: amounts are minor units\n")
    # hledger wants a decimal mark here, also where no digit follows it.
    mark = "" if MINOR_DIGITS.get(currency) else "."
    out.write(f"commodity {decimal(1000, currency)}{mark} {currency}\n")
    if at is not None and before.balance:
        account, amount = _account(before.wallet_id), _amount(currency, before.balance)
        out.write(f"\n{at.date()} opening balance\n    {account}  {amount}\n    {OPENING}\n")


def _amount(currency: str, minor: int) -> str:
    return f"{decimal(minor, currency):f} {currency}"


def _account(wallet_id: str) -> str:
    """The wallet's account name; characters that would end it or start a sub-account are percent-encoded."""
    encoded = "".join(
        character
        if character.isprintable() and character not in '%;:"' and not character.isspace()
        else "".join(f"%{byte:02X}" for byte in character.encode())
        for character in wallet_id
    )
    return f"assets:wallets:{encoded}"
