"""Which servers a command asks: those that were set, this folder's local stack, and never a stranger's."""

import os
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from config.errors import ConfigurationError
from config.folders import private
from config.settings import Settings
from local.stack import Addresses, Stack
from local.state import MOST, State, had_address, remember_addresses
from operations.cli import context
from operations.cli.children import COMMAND
from streams.folder import numbered_folder
from tests.unit.conftest import Wallet


@pytest.fixture
def unplaced(wallet_here: Wallet, monkeypatch: pytest.MonkeyPatch) -> Wallet:
    """Commands in a folder of their own where nobody has set a server."""
    monkeypatch.delenv("WALLET_KAFKA")
    monkeypatch.delenv("WALLET_POSTGRES")
    return wallet_here


def stack_that_is_down() -> Stack:
    """What `wallet local up` and `down` leave behind in this folder."""
    stack = Stack()
    stack.folder.mkdir(parents=True)
    state = State(kafka_port=20_001, controller_port=20_002, postgres_port=20_003)
    state.save(stack.folder / "stack.json")
    return stack


def addresses(stack: Stack) -> Addresses:
    """Where the stack is, or would be."""
    there = stack.addresses
    assert there
    return there


@pytest.mark.parametrize(
    "command", ["status", "balance w", "statement w", "inspect w", "init", "worker", "sink", "verify"]
)
def test_a_local_stack_that_is_down_is_told_and_nobody_else_is_asked(command: str, unplaced: Wallet) -> None:
    stack = stack_that_is_down()
    told = unplaced(*command.split())
    assert told.returncode == 3
    [line] = told.stderr.splitlines()
    assert line.startswith(f"wallet: the local stack of {stack.folder} is down: run `wallet local up`")


def test_what_asks_no_server_works_while_the_local_stack_is_down(unplaced: Wallet) -> None:
    stack_that_is_down()
    Path("in.jsonl").write_text("", encoding="utf-8")
    assert unplaced("send", "--dry-run", "in.jsonl").returncode == 0


def test_who_has_no_server_is_told_how_one_is_started(unplaced: Wallet) -> None:
    for command in ("status", "balance w"):
        told = unplaced(*command.split())
        assert told.returncode == 3
        hint = f"; `wallet local up` starts both for commands run in {Path.cwd()}"
        assert told.stderr.splitlines()[-1].endswith(hint)


def test_servers_that_somebody_chose_are_not_taken_for_local_ones(wallet_here: Wallet) -> None:
    told = wallet_here("status")
    assert told.returncode == 3
    assert "local" not in told.stderr


def test_the_set_address_of_a_stack_that_is_down_is_known(
    unplaced: Wallet, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = stack_that_is_down()
    monkeypatch.setenv("WALLET_KAFKA", addresses(stack).kafka)
    told = unplaced("status")
    assert told.returncode == 3
    assert f"the local stack of {stack.folder} is down: run `wallet local up`" in told.stderr


@pytest.mark.parametrize("again", [True, False], ids=["made again", "deleted"])
def test_the_address_of_an_earlier_stack_is_told_at_once(
    again: bool,
    unplaced: Wallet,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stack = stack_that_is_down()
    before = addresses(stack)
    remember_addresses(stack.folder.with_suffix(".earlier"), [*before.environment.values()])
    for name, address in before.environment.items():
        monkeypatch.setenv(name, address)
    assert "earlier stack" not in unplaced("status").stderr
    state_file = stack.folder / "stack.json"
    state_file.unlink()
    if again:  # the same ports, and another password
        State(kafka_port=20_001, controller_port=20_002, postgres_port=20_003).save(state_file)
    stale = "WALLET_POSTGRES" if again else "WALLET_KAFKA and WALLET_POSTGRES"
    for command in ("status", "init"):
        told = unplaced(command)
        assert told.returncode == 2
        [line] = told.stderr.splitlines()
        assert line.startswith(f"wallet: {stale} point to an earlier stack of {stack.folder}: ")
        assert before.postgres not in line


def test_no_password_is_kept_with_the_earlier_addresses(tmp_path: Path) -> None:
    kept = tmp_path / "stack.earlier"
    for number in range(MOST + 5):
        remember_addresses(kept, [f"postgresql://wallet:secret@127.0.0.1:{number}/wallet"])
    assert "secret" not in kept.read_text()
    assert len(kept.read_text().splitlines()) == MOST
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    newest = f"postgresql://wallet:secret@127.0.0.1:{MOST + 4}/wallet"
    assert had_address(kept, newest)
    assert not had_address(kept, newest.replace("secret", "other"))


def test_commands_that_look_wait_briefly_and_the_others_as_they_are_told(
    unplaced: Wallet, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert unplaced("local", "status").returncode == 1  # the environment is this test's
    for set_s, look_s, brief_s in (("60", "5", 5.0), ("60", "7", 7.0), ("2", "5", 2.0)):
        monkeypatch.setenv("WALLET_STARTUP_WAIT_S", set_s)
        monkeypatch.setenv("WALLET_LOOK_WAIT_S", look_s)
        assert context.briefly().startup_wait_s == brief_s
        assert context.current().startup_wait_s == float(set_s)


def test_the_local_stacks_number_of_partitions_is_a_default_that_a_pipeline_may_differ_from() -> None:
    places = Addresses("127.0.0.1:1", "postgresql://127.0.0.1:1/w")
    silent = context.at_stack(Settings(_env_file=None), places)
    assert (silent.partitions, "partitions" in silent.model_fields_set) == (4, False)
    said = context.at_stack(Settings(_env_file=None, partitions=7), places)
    assert (said.partitions, "partitions" in said.model_fields_set) == (7, True)


def test_what_holds_balances_is_closed_to_others(tmp_path: Path) -> None:
    (tmp_path / "state" / "0").mkdir(parents=True)  # as an earlier release made it
    with numbered_folder(tmp_path / "state") as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    with numbered_folder(tmp_path / "new") as folder:
        for path in (folder, folder.parent):
            assert stat.S_IMODE(path.stat().st_mode) == 0o700
    stack = Stack(tmp_path / "local" / "stack")
    with stack._locked(print):
        assert stat.S_IMODE(stack.folder.stat().st_mode) == 0o700


def test_a_folder_that_cannot_be_made_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=f"the folder {tmp_path}/file/below cannot be used"):
        private(tmp_path / "file" / "below", "the folder")


@pytest.mark.skipif(os.geteuid() != 0, reason="no file system can be mounted")
@pytest.mark.parametrize("command", ["local up", "local down --delete", "demo"])
def test_a_read_only_file_system_is_told_in_one_line(command: str, tmp_path: Path) -> None:
    script = f'mount -t tmpfs -o ro none "{tmp_path}" && cd "{tmp_path}" && exec "$@"'
    kept = {name: text for name, text in os.environ.items() if not name.startswith("WALLET_")}
    inside = ["unshare", "--mount", "sh", "-c", script, "-", *COMMAND]
    told = subprocess.run([*inside, *command.split()], env=kept, capture_output=True, text=True, check=False)
    if "unshare" in told.stderr or "mount:" in told.stderr:
        pytest.skip("no file system can be mounted")
    assert told.returncode == 2
    [line] = told.stderr.splitlines()
    assert "Read-only file system" in line


def test_a_stack_file_of_another_user_is_no_traceback(unplaced: Wallet) -> None:
    stack = stack_that_is_down()
    (stack.folder / "stack.json").unlink()
    (stack.folder / "stack.json").mkdir()
    told = unplaced("status")
    assert told.returncode == 2
    assert "Traceback" not in told.stderr


def test_ports_that_changed_are_remembered(tmp_path: Path) -> None:
    state = State(kafka_port=20_001, controller_port=20_002, postgres_port=20_003)
    stack = Stack(tmp_path / "stack")
    remember_addresses(tmp_path / "stack.earlier", [*stack._addresses(state).environment.values()])
    stack.folder.mkdir()
    replace(state, kafka_port=20_004).save(stack.folder / "stack.json")
    assert stack.had_before("127.0.0.1:20001")
    assert not stack.had_before("127.0.0.1:20004")
    assert not stack.had_before("127.0.0.1:9092")
