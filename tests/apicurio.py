"""A real registry, Apicurio, through its face for Confluent's API; fetched by Maven."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest

ARTIFACT = "io.apicurio:apicurio-registry-app:2.6.13.Final:tar.gz:all"
MAVEN_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"
CACHE = Path(__file__).parents[1] / ".local" / "apicurio"
PATIENCE_S = 120


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """Its address, until the block ends. Skips where there is no Maven."""
    archive = next(CACHE.glob("*.tar.gz"), None) or fetched()
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
    """Its archive, in the cache."""
    maven = shutil.which("mvn")
    if maven is None:
        pytest.skip("needs Maven")
    CACHE.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [maven, "-q", "-B", "-ntp", MAVEN_COPY, f"-Dartifact={ARTIFACT}", f"-DoutputDirectory={CACHE}"],
        check=True,
        cwd=CACHE.parent,
    )
    return next(CACHE.glob("*.tar.gz"))


def wait_for(address: str) -> None:
    """Return when it answers."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            with urlopen(address, timeout=5):  # noqa: S310 - our own address
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
