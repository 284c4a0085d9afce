"""What commands print: on a terminal of 80 columns, and into a file."""

import json
import os
import pty
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from config.times import rfc3339
from operations.cli.output import as_line, lag_cell, show_table, table

ID = "5f0c6c3e-0000-4000-8000-000000000001"
TIME = "2026-11-22T10:00:00.000000Z"
#: A statement's line, as wide as they come.
TABLE = f"""
from operations.cli.output import show_table, table
columns = ("sequence", "recorded at", "amount", "balance", "currency", "transaction", "group")
show_table(table(columns, [(1, "{TIME}", "+1250", 9223372036854775807, "EUR", "{ID}", "")]))
"""
BAR = """
import logging
from config import logs
from operations.cli.output import progress
logs.configure()
with progress("sending", 5045) as advance:
    for done in range(0, 5038, 100):
        advance(done)
    logging.getLogger("test").warning("something happened")
"""


def on_a_terminal(code: str, columns: int = 80) -> str:
    """What this code shows on a real terminal."""
    main, other = pty.openpty()
    environment = os.environ | {
        "COLUMNS": str(columns),
        "TERM": "xterm",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=other, stdout=other, stderr=other, env=environment
    ) as process:
        os.close(other)
        shown = b""
        while True:
            try:
                got = os.read(main, 65_536)
            except OSError:  # Linux's end of a terminal
                got = b""
            if not got:
                break
            shown += got
        assert process.wait() == 0, shown.decode()
    os.close(main)
    return shown.decode()


def test_ids_and_times_are_whole_on_80_columns_and_in_a_file() -> None:
    lines = on_a_terminal(TABLE).splitlines()
    assert all(len(line) <= 100 for line in lines)  # 80 and what makes names bold
    assert any(line.endswith(f"  {ID}") for line in lines)
    assert any(line.endswith(f"  {TIME}") for line in lines)
    piped = subprocess.run([sys.executable, "-c", TABLE], capture_output=True, text=True, check=True).stdout
    [_, row] = piped.splitlines()
    assert row.split() == ["1", TIME, "+1250", "9223372036854775807", "EUR", ID]
    wide = on_a_terminal(TABLE, columns=200).splitlines()
    assert sum(ID in line and TIME in line for line in wide) == 1


def test_a_bar_that_ends_shows_its_total_and_log_lines_have_lines_of_their_own() -> None:
    shown = on_a_terminal(BAR)
    assert "5045/5045" in shown
    [line] = [line for line in shown.replace("\r", "\n").splitlines() if "something happened" in line]
    assert "5000/5045" not in line
    assert line.rstrip().endswith("warning test something happened")


def test_every_time_is_rfc_3339_in_utc_with_microseconds() -> None:
    at = datetime(2026, 11, 22, 10, tzinfo=UTC)
    assert rfc3339(at) == TIME
    assert rfc3339(at.astimezone(timezone(timedelta(hours=1)))) == TIME
    assert rfc3339(datetime(1, 1, 1, tzinfo=UTC)) == "0001-01-01T00:00:00.000000Z"
    assert json.loads(as_line({"at": at})) == {"at": TIME}


def test_json_and_tables_write_times_bytes_and_nothing_alike(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"at": datetime(2026, 11, 22, 10, tzinfo=UTC), "hash": b"\x00\xff", "none": None}
    assert json.loads(as_line(row)) == {"at": TIME, "hash": "00ff", "none": None}
    show_table(table([*row], [[*row.values()]]))
    assert capsys.readouterr().out.splitlines()[1].split() == [TIME, "00ff"]


def test_a_cell_is_shown_as_it_is_and_only_a_text_is_styled(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [("[red]id[/red]", lag_cell(7, "7")), ("plain", lag_cell(0, "0"))]
    show_table(table(("transaction", "lag"), rows, numbers=("lag",), title="[b]title"))
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["[b]title"],
        ["transaction", "lag"],
        ["[red]id[/red]", "7"],
        ["plain", "0"],
    ]
