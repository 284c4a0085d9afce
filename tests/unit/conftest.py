"""How hard properties are tried here, and the command line within the test's own process."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import hypothesis
import pytest

from config import logs
from config.settings import settings
from operations.main import main
from tests.effort import examples

# What a test gets from a fixture (a folder, a command line) its examples may share.
hypothesis.settings.register_profile(
    "unit",
    hypothesis.settings.get_profile("any machine"),
    max_examples=examples(50),
    suppress_health_check=[
        hypothesis.HealthCheck.too_slow,
        hypothesis.HealthCheck.function_scoped_fixture,
    ],
)
hypothesis.settings.load_profile("unit")

#: Nobody answers there, and nobody is waited for.
QUICK = {
    "WALLET_KAFKA": "127.0.0.1:1",
    "WALLET_POSTGRES": "postgresql://me:hush@127.0.0.1:1/w",
    "WALLET_STARTUP_WAIT_S": "0",
}


class Told(NamedTuple):
    """What a command line that needs no server said."""

    returncode: int
    stdout: str
    stderr: str


#: Runs `wallet` with these words.
Wallet = Callable[..., Told]


@pytest.fixture
def wallet_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Wallet:
    """Run `wallet` as a user does, in this process: for the many whose start would take longer than they do."""
    for name in [name for name in os.environ if name.startswith("WALLET_")]:
        monkeypatch.delenv(name)
    for name, text in QUICK.items():
        monkeypatch.setenv(name, text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logs, "configure", lambda *_: None)

    def run(*arguments: str) -> Told:
        settings.cache_clear()  # those of the command before
        monkeypatch.setattr(sys, "argv", ["wallet", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code, int)
        return Told(ended.value.code, *capsys.readouterr())

    return run
