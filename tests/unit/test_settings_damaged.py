"""Damaged values of every setting, at every command: one line that names the variable, and exit code 2."""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import hypothesis.strategies as st
import pytest
from hypothesis import example, given
from hypothesis import settings as effort
from pydantic import SecretStr

from config.errors import ConfigurationError
from config.settings import Settings, from_environment
from config.settings import settings as cached
from operations import main
from tests.effort import examples
from tests.unit.conftest import QUICK

#: One command line of each command that asks for settings; {file} is an empty file.
COMMANDS = (
    "init",
    "generate --count 1",
    "send {file}",
    "import {file}",
    "worker",
    "sink all",
    "sink archive",
    "status",
    "balance w",
    "statement w",
    "rejections list",
    "rejections show 0 0",
    "rejections resubmit --offsets {file}",
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


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder without a .env file and without a stack, with an empty file."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "file").touch()
    with contextlib.chdir(folder):
        yield folder


def told(line: str, variables: dict[str, str]) -> tuple[int, str]:
    """The exit code of a command line, and all that it said; any other exception is a fault."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WALLET_")}
    said = io.StringIO()
    cached.cache_clear()
    arguments = ["wallet", *line.format(file="file").split()]
    with (
        mock.patch.dict(os.environ, kept | QUICK | variables, clear=True),
        mock.patch.object(sys, "argv", arguments),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
        pytest.raises(SystemExit) as ended,
    ):
        main.main()
    return int(ended.value.code or 0), said.getvalue()


def refused(variables: dict[str, str]) -> bool:
    with mock.patch.dict(os.environ, QUICK | variables):
        try:
            from_environment()
        except ConfigurationError:
            return True
    return False


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_names_a_setting_that_is_wrong(line: str, elsewhere: Path) -> None:
    code, said = told(line, {"WALLET_PARTITIONS": "several"})
    assert (code, said.count("\n")) == (2, 1), said
    assert said.startswith("wallet: settings are wrong: WALLET_PARTITIONS: ")


def fits(value: str) -> bool:
    """Whether an environment can hold it: of the surrogates those that stand for bytes."""
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        return False
    return True


@effort(max_examples=examples(40))
@example(name="kafka", value="\udcff", line="status")
@example(name="kafka", value="\r", line="status")
@given(
    name=st.sampled_from([*Settings.model_fields]), value=values.filter(fits), line=st.sampled_from(LOOKING)
)
def test_no_value_of_a_setting_ends_in_a_traceback(elsewhere: Path, name: str, value: str, line: str) -> None:
    variable = f"WALLET_{name.upper()}"
    secret = Settings.model_fields[name].annotation in (SecretStr, SecretStr | None)
    if secret:
        value += "hush"
    variables = {variable: value}
    code, said = told(line, variables)
    assert code in ({2} if refused(variables) else {2, 3}), said
    assert said.rstrip("\n").count("\n") == 0 or code == 3, said
    assert said.splitlines()[-1].startswith("wallet: "), said
    assert "Traceback" not in said
    if refused(variables):
        assert variable in said
    if secret:
        assert "hush" not in said
