"""The same calls to a real registry: Apicurio, through its face for Confluent's API, fetched by Maven."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from config.errors import Refused
from config.settings import Settings
from schemas.accepted import AcceptedIds
from schemas.codec import Decoded, TransactionCodec, encode_transaction, frame
from schemas.records import Reason, Rejected, Transaction
from schemas.registry import register, schema_ids, subjects, writers
from schemas.registry_api import Declined, Registry
from schemas.versions import FIXED_IDS, schema_text
from tests.unit.transactions import UUID

pytestmark = [pytest.mark.integration, pytest.mark.full, pytest.mark.timeout(900)]

ARTIFACT = "io.apicurio:apicurio-registry-app:2.6.13.Final:tar.gz:all"
MAVEN_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"
CACHE = Path(__file__).parents[2] / ".local" / "apicurio"
PATIENCE_S = 120


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    archive = next(CACHE.glob("*.tar.gz"), None) or fetched()
    folder = tmp_path_factory.mktemp("apicurio")
    shutil.unpack_archive(archive, folder, filter="data")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-Dquarkus.http.host=127.0.0.1"]
    command += [f"-Dquarkus.http.port={port}", "-jar", str(next(folder.glob("*runner.jar")))]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, cwd=folder, stdout=log, stderr=log) as server,
    ):
        try:
            address = f"http://127.0.0.1:{port}/apis/ccompat/v7"
            wait_for(f"{address}/subjects")
            yield address
        finally:
            server.terminate()


def fetched() -> Path:
    maven = shutil.which("mvn")
    if maven is None:
        pytest.skip("needs Maven")
    subprocess.run(
        [maven, "-q", "-B", "-ntp", MAVEN_COPY, f"-Dartifact={ARTIFACT}", f"-DoutputDirectory={CACHE}"],
        check=True,
        cwd=CACHE.parent,
    )
    return next(CACHE.glob("*.tar.gz"))


def wait_for(address: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            with urlopen(address, timeout=5):  # noqa: S310 - our own address
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


@pytest.fixture
def settings(plain_settings: Settings, url: str) -> Settings:
    return plain_settings.model_copy(update={"registry": url})


def test_init_registers_once_and_workers_find_the_ids(settings: Settings) -> None:
    with pytest.raises(Refused, match="run `wallet init`"):
        schema_ids(settings)
    ids = register(settings)
    assert ids == register(settings) == schema_ids(settings)
    assert len(set(ids)) == len(FIXED_IDS)


def test_a_producers_own_version_is_read_and_other_ids_are_not(settings: Settings) -> None:
    ids = register(settings)
    registry = Registry.of(settings)
    assert registry
    theirs = registry.register(
        subjects(settings)["transaction"], schema_text("transaction").replace('"doc"', '"was"')
    )
    codec = TransactionCodec(ids.transaction, AcceptedIds(0, ask=writers(settings)))
    body = encode_transaction(Transaction(UUID, "alice", 0, 1_250, "EUR", 1_790_000_000_000_000))

    assert theirs != ids.transaction
    assert isinstance(codec.decode(frame(theirs) + body), Decoded)
    for schema_id in (ids.balance, 2**31 - 1, 2**32 - 1):
        expected = Rejected(Reason.UNDECODABLE, f"schema id {schema_id} is not a Transaction's")
        assert codec.decode(frame(schema_id) + body) == expected


def test_an_incompatible_version_is_declined_from_the_first_init_on(settings: Settings) -> None:
    register(settings)
    registry = Registry.of(settings)
    assert registry
    incompatible = schema_text("transaction").replace('"name": "amount"', '"name": "cents"')
    with pytest.raises(Declined, match="409"):
        registry.register(subjects(settings)["transaction"], incompatible)
