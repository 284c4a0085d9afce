"""Settings: documented, bounded, discreet."""

import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from config.errors import ConfigurationError
from config.settings import Settings, from_environment
from operations.cli import context

DOCS = Path(__file__).parents[2] / "docs" / "settings.md"
ROW = re.compile(r"^\| `(WALLET_[A-Z0-9_]+)` \| (.*?) \| (.*?) \| (.*?) \|$", re.MULTILINE)


@pytest.fixture
def documented() -> dict[str, str]:
    """Each documented variable with what the docs say its default is."""
    return {name: default for name, default, _, _ in ROW.findall(DOCS.read_text("utf-8"))}


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith("WALLET_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_every_setting_is_documented_and_nothing_else_is(documented: dict[str, str]) -> None:
    assert set(documented) == {f"WALLET_{name.upper()}" for name in Settings.model_fields}


@pytest.mark.parametrize("name", Settings.model_fields)
def test_the_documented_default_is_the_default(name: str, documented: dict[str, str]) -> None:
    default: Any = getattr(Settings(), name)
    shown = default.get_secret_value() if isinstance(default, SecretStr) else default
    wanted = "none" if shown is None else f"`{shown}`"
    assert documented[f"WALLET_{name.upper()}"].startswith(wanted)


def test_secrets_are_not_in_the_text_of_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WALLET_POSTGRES", "postgresql://me:hush@db/wallet")
    monkeypatch.setenv("WALLET_KAFKA_SASL_PASSWORD", "hush")
    monkeypatch.setenv("WALLET_REGISTRY_AUTH", "me:hush")
    assert "hush" not in repr(Settings())


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WALLET_ID_WINDOW_DAYS", "")
    monkeypatch.setenv("WALLET_REGISTRY", "")
    assert Settings().id_window_days is None
    assert Settings().registry is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WALLET_PARTITIONS", "0"),
        ("WALLET_PARTITIONS", "many"),
        ("WALLET_OVERDRAFT", "perhaps"),
        ("WALLET_SESSION_TIMEOUT_S", "1"),
        ("WALLET_PREFIX", "two words"),
        ("WALLET_INPUT", "two words"),
        ("WALLET_SNAPSHOT_EVERY", "-1"),
        ("WALLET_MAX_CLOCK_AHEAD_S", "249000000001"),
    ],
)
def test_a_wrong_value_is_told_in_one_line_that_names_the_variable(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        from_environment()
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_record_that_a_worker_accepts_is_later_than_the_tables_take() -> None:
    farthest_s = Settings(max_clock_ahead_s=249_000_000_000.0).max_clock_ahead_s
    assert (datetime.now(UTC) + timedelta(seconds=farthest_s)).year <= 9998


def test_a_childs_environment_gives_it_the_same_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ours = Settings(
        kafka="127.0.0.1:1",
        postgres=SecretStr("postgresql://me:hush@db/wallet"),
        state_dir=tmp_path / "state",
        local_cache=tmp_path / "cache",
        id_window_days=7,
        overdraft="reject",
    )
    for name, value in context.environment(ours).items():
        monkeypatch.setenv(name, value)
    assert Settings() == ours
