"""Statements as files: CSV that any reader splits as it was written, journals of any currency that hledger checks."""

import csv
import io
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from operations.export.statement import write_csv, write_journal
from sinks.postgres.questions import StatementLine

AT = datetime(2026, 3, 1, tzinfo=UTC)
#: The largest balance, and then the smallest.
STEPS = [("CREDIT", 2**63 - 1, 2**63 - 1), ("DEBIT", 2**63 - 1, 0), ("DEBIT", 7, -7)]


def entry(number: int, kind: str, amount: int, balance: int, currency: str, group: str) -> StatementLine:
    return StatementLine(
        "alice",
        number,
        UUID(int=number),
        kind,
        amount,
        currency,
        AT,
        group,
        {},
        balance,
        AT,
        0,
        number,
        bytes(32),
    )


@pytest.mark.parametrize("group", ["a\rb", "a\nb", "a\r\nb", 'a"b', "a,b", " ", "\u2028", "\r"])
def test_a_cell_of_any_text_is_read_back(group: str) -> None:
    out = io.StringIO()
    assert write_csv(out, [entry(1, "CREDIT", 5, 5, "EUR", group)]) == 1
    [row] = csv.DictReader(io.StringIO(out.getvalue(), newline=""), strict=True)
    assert (row["group_id"], row["hash"]) == (group, "00" * 32)
    assert out.getvalue().count("\r\n") == group.count("\r\n")


@pytest.mark.parametrize("currency", ["EUR", "JPY", "BHD", "CLF", "XXX"])
def test_hledger_checks_a_journal_in_any_currency(currency: str, tmp_path: Path) -> None:
    if shutil.which("hledger") is None:
        pytest.skip("hledger is not installed")
    path = tmp_path / "one.journal"
    with path.open("w") as out:
        write_journal(out, [entry(n, *step, currency, "g") for n, step in enumerate(STEPS, 1)])
    subprocess.run(["hledger", "--file", str(path), "check"], check=True)
