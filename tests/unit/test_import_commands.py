"""`wallet import` as a command line: what it says and ends with, without any server."""

import json
from pathlib import Path

import pytest

from tests.unit.conftest import Wallet

LINE = {
    "transaction_id": "5f0c6c3e-0000-4000-8000-000000000001",
    "wallet_id": "alice",
    "type": "CREDIT",
    "amount": 1250,
    "currency": "EUR",
    "occurred_at": "2026-07-01T10:00:00Z",
    "recorded_at": "2026-07-01T10:00:01Z",
}


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ("", 2, "wallet: nothing to import: name files, --opening or --check"),
        ("-", 2, "wallet: an import reads its files twice: name a file, not -"),
        ("none.csv", 2, "wallet: none.csv cannot be read: No such file or directory"),
        ("--dry-run good.jsonl", 0, "1 transactions would be sent, 0 bad lines"),
        ("--dry-run good.jsonl good.jsonl", 0, "2 transactions would be sent, 0 bad lines"),
        ("--dry-run back.jsonl", 6, "1 transactions would be sent, 1 bad lines"),
        ("good.jsonl", 3, "wallet: Kafka at 127.0.0.1:1 did not answer within 0 s"),
        ("--check known.csv", 3, "wallet: Kafka at 127.0.0.1:1 did not answer within 0 s"),
        (
            "--check wrong.csv",
            2,
            "wallet: wrong.csv: line 2: balance '1.5' is not a whole number of minor units",
        ),
        # Before anything is sent: with a server that answers, the good file would be in by then.
        ("good.jsonl --check none.csv", 2, "wallet: none.csv cannot be read: No such file or directory"),
        (
            "good.jsonl --check headless.csv",
            2,
            "wallet: headless.csv: columns do not fit: wallet_id, balance missing",
        ),
    ],
)
def test_what_it_says_and_ends_with(
    arguments: str, code: int, told: str, tmp_path: Path, wallet_here: Wallet
) -> None:
    earlier = LINE | {"recorded_at": "2026-06-30T00:00:00Z"}
    (tmp_path / "good.jsonl").write_text(json.dumps(LINE))
    (tmp_path / "back.jsonl").write_text(f"{json.dumps(LINE)}\n{json.dumps(earlier)}\n")
    (tmp_path / "known.csv").write_text("wallet_id,balance\nalice,1250\n")
    (tmp_path / "headless.csv").write_text("alice,1250\n")
    (tmp_path / "wrong.csv").write_text("wallet_id,balance\nalice,1.5\n")
    answer = wallet_here("import", *arguments.split())
    assert (answer.returncode, answer.stderr.splitlines()[-1][: len(told)]) == (code, told)
    assert "Traceback" not in answer.stderr


def test_a_program_reads_one_object(tmp_path: Path, wallet_here: Wallet) -> None:
    early = LINE | {"recorded_at": "2026-06-30T00:00:00Z"}
    (tmp_path / "back.jsonl").write_text(f"{json.dumps(LINE)}\n{json.dumps(early)}\n")
    (tmp_path / "opening.csv").write_text("wallet_id,currency,balance,at\nbob,EUR,0,2026-06-01T00:00:00Z\n")
    answer = wallet_here("import", "--json", "--dry-run", "--opening", "opening.csv", "back.jsonl")
    recorded_at = {
        name: f"2026-07-01T10:00:0{second}.000000Z"
        for name, second in (("occurred_at", 0), ("recorded_at", 1))
    }
    assert answer.returncode == 6
    assert json.loads(answer.stdout) == {
        "dry_run": True,
        "balances": None,
        "good": 1,
        "bad": 1,
        "zeros": 1,
        "done_before": 0,
        "first": [LINE | recorded_at],
    }
