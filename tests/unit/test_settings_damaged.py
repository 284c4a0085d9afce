"""Damaged values of every setting, at every command: one line that names the variable, and exit code 2."""

import os
from pathlib import Path
from unittest import mock

import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings
from pydantic import SecretStr

from config.errors import ConfigurationError
from config.settings import Settings, from_environment
from tests.effort import examples
from tests.unit.conftest import Wallet

#: One command line of each command that asks for settings; `file` is an empty one.
COMMANDS = (
    "init",
    "generate --count 1",
    "send file",
    "import file",
    "worker",
    "sink all",
    "sink archive",
    "status",
    "balance w",
    "statement w",
    "rejections list",
    "rejections show 0 0",
    "rejections resubmit --offsets file",
    "rebuild start",
    "rebuild status",
    "rebuild diff",
    "rebuild switch",
    "rebuild discard",
    "verify",
    "inspect w",
    "replay ledger",
    "archive status",
    "archive run",
    "archive verify",
    "export topics out",
    "export statement w",
    "demo",
    "local status",
)
#: Those that only look, and so end soon where nobody answers.
LOOKING = ("status", "balance w", "rejections list", "archive status")

DAMAGED = (
    "0", "-1", "-0", "1e400", "1e3", "nan", "inf", "-inf", "1_000", "0x10", "1.5", "१२", str(10**30), "true", "None",
    " ", "\t", "a b", "a\nb", "a;b", "'a'", '"a"', "$HOME", "~nobody-here/x", "/dev/null", "/proc/1/mem", "..", ".",
    "\udcff", "ünï", "\x7f", "a" * 5_000, "{}", "[]", "http://", "http://[::1", "host:99999999", ":", ",", "a,,b", "@",
    "postgresql://", "postgresql://u:p w@h:x/d", "dbname='", "host=a host", "SSL", "ssl", "PLAIN",
)  # fmt: skip

values = st.one_of(
    st.sampled_from(DAMAGED), st.text(st.characters(blacklist_characters="\0"), min_size=1, max_size=30)
)


def refused() -> bool:
    try:
        from_environment()
    except ConfigurationError:
        return True
    return False


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_names_a_setting_that_is_wrong(
    command: str, wallet_here: Wallet, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("file").touch()
    monkeypatch.setenv("WALLET_PARTITIONS", "several")
    told = wallet_here(*command.split())
    assert (told.returncode, told.stdout) == (2, "")
    [line] = told.stderr.splitlines()
    assert line.startswith("wallet: settings are wrong: WALLET_PARTITIONS: ")


def fits(value: str) -> bool:
    """Whether an environment can hold it: of the surrogates those that stand for bytes."""
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        return False
    return True


@settings(max_examples=examples(25))
@example(name="kafka", value="\udcff", command="status")
@example(name="kafka", value="\r", command="status")
@given(
    name=st.sampled_from([*Settings.model_fields]),
    value=values.filter(fits),
    command=st.sampled_from(LOOKING),
)
def test_no_value_of_a_setting_ends_in_a_traceback(
    wallet_here: Wallet, name: str, value: str, command: str
) -> None:
    variable = f"WALLET_{name.upper()}"
    secret = Settings.model_fields[name].annotation in (SecretStr, SecretStr | None)
    if secret:
        value += "hush"
    with mock.patch.dict(os.environ, {variable: value}):
        wrong = refused()
        told = wallet_here(*command.split())
    said = told.stdout + told.stderr
    assert told.returncode in ({2} if wrong else {2, 3}), said
    assert said.rstrip("\n").count("\n") == 0 or told.returncode == 3, said
    assert said.splitlines()[-1].startswith("wallet: "), said
    assert "Traceback" not in said
    if wrong:
        assert variable in said
    if secret:
        assert "hush" not in said
