"""Clients in other languages, as far as it can be told without their tools."""

from pathlib import Path
from urllib.error import HTTPError

import pytest
from wallet_client import registered_id

from schemas.versions import schema_text
from tests.unit.registry_server import running

FOLDER = Path(__file__).parents[2] / "clients"
LANGUAGES = ("go", "java", "node", "rust")


@pytest.mark.parametrize(
    ("language", "name"),
    [
        ("python", "transaction"),
        *((language, name) for language in LANGUAGES for name in ("transaction", "ledger_entry")),
    ],
)
def test_a_client_has_the_schemas_to_the_byte(language: str, name: str) -> None:
    [copy] = found(language, f"{name}.avsc")
    assert copy.read_text("utf-8") == schema_text(name, 1)


def test_the_client_in_python_sends_the_id_of_the_schema_that_it_writes() -> None:
    with running(first_id=100) as registry:
        registry.add("wallet.transactions-value", schema_text("transaction", 1))
        registry.add("wallet.transactions-value", '{"type": "string"}')
        assert registered_id(f"{registry.url}/", "wallet.transactions") == 100
        with pytest.raises(HTTPError, match="404"):
            registered_id(registry.url, "other.transactions")
    with pytest.raises(ValueError, match="http"):
        registered_id("registry:8081", "wallet.transactions")


def found(language: str, name: str) -> list[Path]:
    """The files of a client with this name, without what its tools have made."""
    made = {"target", "node_modules", "build"}
    return [path for path in (FOLDER / language).rglob(name) if not made & set(path.parts)]


@pytest.mark.parametrize("lock", ["go/go.sum", "node/package-lock.json"])
def test_a_lock_names_no_index(lock: str) -> None:
    text = (FOLDER / lock).read_text("utf-8")
    assert "sha512-" in text or "h1:" in text
    assert "://" not in text


def test_every_dependency_of_the_client_in_rust_is_pinned() -> None:
    lines = (FOLDER / "rust/Cargo.toml").read_text("utf-8").partition("[dependencies]\n")[2].splitlines()
    dependencies = [line for line in lines if line and not line.startswith("#")]
    assert dependencies
    assert all('"=' in line for line in dependencies)


def test_the_client_in_java_asks_no_repository_of_its_own() -> None:
    text = (FOLDER / "java/pom.xml").read_text("utf-8")
    assert "repositor" not in text.lower()
    assert "LATEST" not in text
    assert "RELEASE" not in text
