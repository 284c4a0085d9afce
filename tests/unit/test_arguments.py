"""Arguments of every kind: one line and an exit code of docs/commands.md, never a traceback."""

import subprocess
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.effort import examples
from tests.unit.conftest import QUICK, Wallet

#: An argument as a terminal may hand it over: any text, and bytes that are no text, which Python shows as surrogates.
ARGUMENTS = st.text(st.characters(exclude_characters="\0"), max_size=20) | st.binary(max_size=12).filter(
    lambda raw: b"\0" not in raw
).map(lambda raw: raw.decode("utf-8", "surrogateescape"))

#: Commands that look or read, with a hole in the place of an argument. Those that start servers are left out.
COMMANDS = [
    "balance {}",
    "balance alice --at {}",
    "statement {}",
    "statement alice --from {}",
    "inspect {}",
    "inspect alice --effective-at {}",
    "rejections list --key {}",
    "rejections list --reason {}",
    "rejections show {} 1",
    "rejections resubmit --offsets {}",
    "replay ledger --from {}",
    "archive status {}",
    "archive verify --month {}",
    "rebuild status --prefix {}",
    "verify --to {}",
    "verify --since {}",
    "send --dry-run {}",
    "send --format {} x.csv",
    "import --dry-run {}",
    "import --opening {}",
    "import --check {}",
    "{}",
]


@pytest.mark.parametrize("command", COMMANDS)
@example(argument="M\udcfcller")
@example(argument="9999-12-31T23:59:59Z")
@given(argument=ARGUMENTS)
@settings(max_examples=examples(3))
def test_an_argument_of_any_kind_ends_in_an_exit_code_and_one_line(
    command: str, argument: str, wallet_here: Wallet
) -> None:
    told = wallet_here(*[argument if word == "{}" else word for word in command.split()])
    assert told.returncode in {0, 1, 2, 3, 4, 6}
    assert "Traceback" not in told.stderr


#: Commands with a hole in the place of every argument that is a time.
TIMES = [
    "balance alice --at {}",
    "balance alice --effective-at {}",
    "statement alice --from {}",
    "statement alice --to {}",
    "inspect alice --at {}",
    "inspect alice --effective-at {}",
    "verify --to {}",
    "replay ledger --from {}",
    "replay ledger --from-beginning --to {}",
    "rejections list --from {}",
    "rejections list --to {}",
]


@pytest.mark.parametrize("command", TIMES)
def test_a_time_at_the_end_of_the_calendar_is_told_in_one_line(command: str, wallet_here: Wallet) -> None:
    for beyond in ("9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+00:01"):
        told = wallet_here(*command.format(beyond).split())
        assert told.returncode == 2
        [line] = told.stderr.splitlines()
        assert "is not within the years 1 to 9999 in UTC" in line
    for last in ("9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00Z"):
        told = wallet_here(*command.format(last).split())
        # What may not be in the future says so; the others find that nobody answers.
        assert told.returncode in {2, 3}
        assert "Traceback" not in told.stderr


@pytest.mark.parametrize(
    "arguments",
    [["balance", b"M\xfcller"], ["inspect", b"M\xfcller"], ["rejections", "list", "--key", b"\xff"]],
)
def test_bytes_that_are_no_text_are_told_in_one_line(arguments: list[str | bytes]) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "operations", *arguments], env=QUICK, capture_output=True, check=False
    )
    assert told.returncode == 2
    assert told.stderr.count(b"\n") == 1
    assert told.stderr.startswith(b"wallet: argument '")
    assert b"is not UTF-8" in told.stderr
