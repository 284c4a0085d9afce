"""The command line by itself: exit codes, one-line errors, help, and what it writes without any server."""

import json
import os
import re
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from config import errors
from operations import main
from operations.cli.arguments import FORMERLY
from operations.cli.children import COMMAND
from tests.forked import completed
from tests.unit.conftest import QUICK, Wallet


def wallet(
    *arguments: str, cwd: Path, text: str | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does, away from any .env file and with these WALLET_* variables only."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WALLET_")}
    return completed(*arguments, env=kept | QUICK | environment, cwd=cwd, text=text, timeout_s=120)


def last_line(text: str) -> str:
    return text.splitlines()[-1]


def test_help_shows_every_command_in_its_panel(tmp_path: Path) -> None:
    told = wallet("--help", cwd=tmp_path)
    assert told.returncode == 0
    shown = re.findall(r"^╭─ (.+?) ─|^│ ([a-z]+)  ", told.stdout, re.MULTILINE)
    assert shown[shown.index(("Options", "")) + 1 :] == [
        one for panel, names in main.PANELS.items() for one in [(panel, ""), *(("", name) for name in names)]
    ]


def test_the_command_line_starts_without_the_libraries_of_its_commands() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, operations.main; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    heavy = {"faust", "confluent_kafka", "psycopg", "fastavro", "rocksdict", "pydantic", "numpy"}
    assert heavy & set(loaded) == set()


@pytest.mark.parametrize("command", ["init", "worker", "sink", "status", "generate"])
def test_a_kafka_that_is_away_is_one_line_and_exit_code_3(command: str, wallet_here: Wallet) -> None:
    told = wallet_here(command)
    assert told.returncode == 3
    assert last_line(told.stderr).startswith("wallet: Kafka at 127.0.0.1:1 did not answer within 0 s")
    assert "Traceback" not in told.stderr


def test_a_postgres_that_is_away_is_one_line_without_the_password(wallet_here: Wallet) -> None:
    told = wallet_here("balance", "wallet-1")
    assert told.returncode == 3
    assert last_line(told.stderr).startswith("wallet: PostgreSQL did not answer")
    assert "hush" not in told.stdout + told.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("status --wat", "no such option: --wat"),
        (
            "sink foo",
            "invalid value for 'name': 'foo' is not one of 'ledger', 'snapshots', 'rejections', 'archive', 'all'",
        ),
        ("send --format xml in.xml", "invalid value for '--format': 'xml' is not one of 'jsonl', 'csv'"),
        ("generate --skew 9", "invalid value for '--skew': "),
        ("generate --out", "option '--out' requires an argument"),
        ("wat", "no such command 'wat'"),
        ("local wat", "no such command 'wat'"),
        ("local up --wat", "no such option: --wat"),
        ("rejections show 1", "missing argument 'offset'"),
        ("rejections list --partition x", "invalid value for '--partition': "),
        ("rejections list --reason NO", "--reason NO is not one of "),
        ("rejections list --from-offset 2 --to-offset 1", "--from-offset 2 is after --to-offset 1"),
        (
            "rejections list --from 2026-02-01T00:00:00Z --to 2026-01-01T00:00:00Z",
            "--from 2026-02-01T00:00:00.000000Z is later than --to 2026-01-01T00:00:00.000000Z",
        ),
        ("balance wallet-1 --at yesterday", "--at 'yesterday' is not a time"),
        ("balance wallet-1 --at 2026-11-22T10:00:00", "--at '2026-11-22T10:00:00' has no zone"),
        ("verify --to 2999-01-01T00:00:00Z", "--to 2999-01-01T00:00:00.000000Z is in the future"),
        (
            "inspect wallet-1 --at 2026-01-01T00:00:00Z --at-offset 1",
            "use either --at or --at-offset, not both",
        ),
    ],
)
def test_a_command_line_that_is_not_understood_is_one_line_and_exit_code_2(
    arguments: str, told: str, wallet_here: Wallet
) -> None:
    answer = wallet_here(*arguments.split())
    assert answer.returncode == 2
    [line] = answer.stderr.splitlines()
    assert line.lower().startswith(f"wallet: {told}".lower())
    assert not answer.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("verify --to-time 2999-01-01T00:00:00Z", "--to 2999-01-01T00:00:00.000000Z is in the future"),
        (
            "verify --from nowhere --show=1 --jobs 2",
            "--folder can be combined only with --partition, --limit",
        ),
        ("replay --from-time 2026-01-01", "--from '2026-01-01' has no zone"),
        ("replay --to-time=2026-01-01", "--to '2026-01-01' has no zone"),
        ("replay --from-time", "option '--from' requires an argument"),
        ("rebuild diff --show x", "invalid value for '--limit': "),
        ("demo --stop --run-on", "no demo's pipeline is running"),
    ],
)
def test_a_former_spelling_works_and_is_told_by_its_present_name(
    arguments: str, told: str, wallet_here: Wallet
) -> None:
    answer = wallet_here(*arguments.split())
    assert told.lower() in (answer.stdout + answer.stderr).lower()


@pytest.mark.parametrize("command", FORMERLY)
def test_no_help_shows_a_former_spelling(command: str, wallet_here: Wallet) -> None:
    shown = set(re.findall(r"--[\w-]+", wallet_here(*command.split()[1:], "--help").stdout))
    assert shown >= set(FORMERLY[command].values())
    assert not shown & set(FORMERLY[command])


@pytest.mark.parametrize("name", ["", "local", "rejections", "local status", "rejections show"])
def test_help_comes_with_exit_code_0(name: str, wallet_here: Wallet) -> None:
    for arguments in [[*name.split(), "--help"]] + ([] if " " in name else [name.split()]):
        answer = wallet_here(*arguments)
        assert (answer.returncode, answer.stderr) == (0, "")
        assert f"Usage: wallet {name}".strip() in answer.stdout


def test_the_address_of_a_stack_that_is_down_is_exit_code_1(wallet_here: Wallet) -> None:
    assert wallet_here("local", "status").returncode == 1
    told = wallet_here("local", "env")
    assert told.returncode == 1
    assert told.stderr == "wallet: the local stack in .local/stack is down: run `wallet local up`\n"


def test_of_what_is_generated_the_bad_ones_are_left_out(wallet_here: Wallet) -> None:
    made = wallet_here("generate", "--count", "200", "--seed", "4", "--bad", "0.1", "--out", "-")
    assert made.returncode == 0
    written = len(made.stdout.splitlines())
    assert 150 < written < 200
    assert f"{written} transactions written with --seed 4, {200 - written} bad ones left out" in made.stderr


def test_what_was_generated_is_one_object_that_never_mixes_with_the_lines(
    tmp_path: Path, wallet_here: Wallet
) -> None:
    generate = ("generate", "--count", "50", "--seed", "4", "--bad", "0.5", "--json", "--out")
    made = wallet_here(*generate, "made.jsonl")
    told = json.loads(made.stdout)
    lines = (tmp_path / "made.jsonl").read_text(encoding="utf-8").splitlines()
    assert told.pop("took_s") >= 0
    assert told == {"records": len(lines), "left_out": 50 - len(lines), "seed": 4, "out": "made.jsonl"}
    assert not made.stderr
    for mixed in ((*generate, "-"), ("export", "statement", "alice", "--json")):
        refused = wallet_here(*mixed)
        assert refused.returncode == 2
        assert "standard output cannot take" in refused.stderr
        assert not refused.stdout


def test_what_ended_is_one_object(wallet_here: Wallet) -> None:
    assert json.loads(wallet_here("local", "down", "--json").stdout) == {"stopped": [], "deleted": False}
    servers = json.loads(wallet_here("local", "status", "--json").stdout)["servers"]
    assert [(one["name"], one["pid"]) for one in servers] == [("kafka", None), ("postgres", None)]
    assert json.loads(wallet_here("demo", "--stop", "--json").stdout) == {"stopped": 0}


def test_the_version_is_told(wallet_here: Wallet) -> None:
    told = wallet_here("--version")
    assert (told.returncode, told.stdout) == (0, f"wallet {version('wallet-ledger')}\n")


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("st", ["statement", "status"]),
        ("rejections ", ["list", "resubmit", "show"]),
        ("rebuild start --over", ["--overdraft"]),
        ("verify --to", ["--to", "--to-offset"]),
    ],
)
def test_shells_complete_commands_groups_and_options(
    words: str, completed: list[str], tmp_path: Path
) -> None:
    told = wallet(
        cwd=tmp_path,
        _WALLET_COMPLETE="complete_bash",
        COMP_WORDS=f"wallet {words}",
        COMP_CWORD=str(len(words.split(" "))),
    )
    assert sorted(told.stdout.split()) == completed


@pytest.mark.parametrize(
    "arguments",
    [
        "--help",
        "local status",
        "generate --count 1 --out -",
        "generate --count 20000 --out -",
        "send in.jsonl --dry-run",
    ],
)
def test_output_that_nobody_reads_ends_as_unix_tools_do(
    arguments: str, tmp_path: Path, wallet_here: Wallet
) -> None:
    wallet_here("generate", "--count", "1", "--out", "in.jsonl")
    read, write = os.pipe()
    os.close(read)
    told = writing_to(write, arguments, tmp_path)
    os.close(write)
    assert told.returncode == 128 + signal.SIGPIPE
    assert not re.search("Traceback|Exception|Broken pipe", told.stderr)


def writing_to(out: int, arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command whose standard output is this file."""
    words = [*COMMAND, *arguments.split()]
    environment = os.environ | QUICK
    return subprocess.run(
        words, cwd=cwd, stdout=out, stderr=subprocess.PIPE, text=True, check=False, env=environment
    )


def test_a_bug_is_a_traceback_and_no_answer(wallet_here: Wallet, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: object, **__: object) -> None:
        raise KeyError("nobody expected this")

    monkeypatch.setattr("operations.setup.local.status", wrong)
    told = wallet_here("local", "status")
    assert told.returncode == errors.BUG
    assert last_line(told.stderr) == "KeyError: 'nobody expected this'"


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        told = writing_to(full.fileno(), "generate --count 9 --out -", tmp_path)
    assert told.returncode == 2
    assert "Traceback" not in told.stderr
    assert "No space left on device" in last_line(told.stderr)
