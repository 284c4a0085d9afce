"""Lines of `wallet send`: good ones become transactions, bad ones a reason."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest

from config.errors import ConfigurationError
from operations.sending.files.file import Form, found
from operations.sending.files.shape import BadLine
from operations.sending.generator import Mix, records
from operations.sending.lines import TRANSACTION, to_json, to_transaction
from schemas.records import DEBIT, Transaction

GOOD = {
    "transaction_id": "5f0c6c3e-0000-4000-8000-000000000001",
    "wallet_id": "wallet-1",
    "type": "DEBIT",
    "amount": 1250,
    "currency": "EUR",
    "occurred_at": "2026-11-22T10:00:00Z",
    "group_id": "g",
    "metadata": {"channel": "app"},
}
HEADINGS = "transaction_id,wallet_id,type,amount,currency,occurred_at"
ID = GOOD["transaction_id"]


class Line(NamedTuple):
    number: int
    read: Transaction | str


Read = Callable[..., list[Line]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def lines(text: str | bytes, form: Form = "jsonl") -> list[Line]:
        path = tmp_path / "lines"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        [file] = found([path], form, TRANSACTION)
        return [Line(number, judged(row)) for number, row in file.rows()]

    return lines


def judged(row: dict[str, object] | str) -> Transaction | str:
    try:
        return row if isinstance(row, str) else to_transaction(row)
    except BadLine as bad:
        return str(bad)


def test_a_json_line_becomes_a_transaction(read: Read) -> None:
    [line] = read(json.dumps(GOOD))
    occurred_us = int(datetime(2026, 11, 22, 10, tzinfo=UTC).timestamp()) * 1_000_000
    assert line == Line(
        1, Transaction(str(ID), "wallet-1", DEBIT, 1250, "EUR", occurred_us, "g", (("channel", "app"),))
    )


def test_a_csv_row_becomes_the_same_transaction(read: Read) -> None:
    row = f"{HEADINGS},group_id,metadata.channel\n{ID},wallet-1,DEBIT,1250,EUR,2026-11-22T10:00:00Z,g,app\n"
    [from_csv] = read(row, "csv")
    [from_json] = read(json.dumps(GOOD))
    assert from_csv == from_json._replace(number=2)


def test_what_generate_writes_send_reads(read: Read) -> None:
    made = [record.transaction for record in records(500, Mix(seed=3)) if record.transaction]
    lines = read("\n".join(json.dumps(to_json(transaction)) for transaction in made))
    assert [line.read for line in lines] == made


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"amount": 12.5}, "amount"),
        ({"amount": True}, "amount"),
        ({"amount": 0}, "amount"),
        ({"amount": 2**63}, "amount"),
        ({"amount": None}, "amount"),
        ({"type": "GIFT"}, "type"),
        ({"currency": "eur"}, "currency"),
        ({"currency": 978}, "currency"),
        ({"occurred_at": "2026-11-22T10:00:00"}, "zone"),
        ({"occurred_at": "yesterday"}, "occurred_at"),
        ({"transaction_id": "1"}, "transaction_id"),
        ({"wallet_id": ""}, "wallet_id"),
        ({"wallet_id": "\ud800"}, "wallet_id"),
        ({"group_id": 7}, "group_id"),
        ({"metadata": {"n": 1}}, "metadata"),
        ({"metadata": ["n"]}, "metadata"),
        ({"metadata": {"n": "a\0"}}, "metadata"),
        ({"amuont": 1}, "amuont"),
    ],
)
def test_a_bad_field_is_told_by_its_name(change: dict[str, object], reason: str, read: Read) -> None:
    [line] = read(json.dumps(GOOD | change))
    assert isinstance(line.read, str)
    assert reason in line.read


def test_a_missing_field_is_told_by_its_name(read: Read) -> None:
    [line] = read(json.dumps({name: value for name, value in GOOD.items() if name != "amount"}))
    assert line.read == "amount missing"


def test_bad_lines_keep_their_numbers_and_good_ones_pass(read: Read) -> None:
    good = json.dumps(GOOD).encode()
    lines = read(b"\n".join([good, b"{", b"", b"x", b"[]", b'{"a": 1, "a": 2}', good]))
    assert [line.number for line in lines] == [1, 2, 4, 5, 6, 7]
    assert [isinstance(line.read, Transaction) for line in lines] == [True, False, False, False, False, True]


def test_bad_csv_rows_keep_their_numbers(read: Read) -> None:
    good = f"{ID},wallet-1,CREDIT,1,EUR,2026-11-22T10:00:00Z"
    lines = read(f"{HEADINGS}\n{good}\n{good},more\n\n{good.replace(',1,', ',1.5,')}\n{good}\n", "csv")
    assert [(line.number, isinstance(line.read, Transaction)) for line in lines] == [
        (2, True),
        (3, False),
        (5, False),
        (6, True),
    ]


@pytest.mark.parametrize("heading", ["amuont", "metadata", "wallet_id"])
def test_a_csv_heading_that_is_unknown_or_comes_twice_is_an_error(heading: str, read: Read) -> None:
    with pytest.raises(ConfigurationError):
        read(f"{HEADINGS},{heading}\n", "csv")
