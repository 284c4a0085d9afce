"""The pipeline with every version that is promised: `python -m tests.matrix`, or `make matrix`.

Each row starts its own Kafka and PostgreSQL and plays `wallet demo` with its Python: mixed input, a worker killed
half-way, and an audit of every record. A version that this machine cannot have is skipped, with the reason; where
that leaves no row, it has failed.
"""

import os
import platform
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from config.errors import NotReachable, WalletError
from config.settings import Settings
from local.broker import Broker
from local.database import Database
from local.jars import Jars, maven
from local.state import free_port
from tests.secured import spawned

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".local" / "matrix"
POM = ROOT / "local" / "pom.xml"
#: The newest of each line; the last one is what everything else is tested with (local/pom.xml).
KAFKA = ("3.9.2", "4.1.2", "4.3.1")
POSTGRES = ("15.19.0", "16.15.0", "17.11.0", "18.6.0")
PYTHON = ("3.11", "3.12", "3.13", "3.14")
COUNT = 20_000
PATIENCE_S = 600

#: PostgreSQL as Maven has it, by what Python calls this machine.
POSTGRES_FOR = {"x86_64": "amd64", "aarch64": "arm64v8"}
COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"


class Skipped(Exception):  # noqa: N818 - the name is the message
    """This machine cannot have that version."""


@dataclass(frozen=True)
class Row:
    """What runs together."""

    kafka: str
    postgres: str
    python: str


def rows() -> Iterator[Row]:
    """Each version once beside the newest of the others, and the oldest of all together."""
    newest = Row(KAFKA[-1], POSTGRES[-1], f"{sys.version_info.major}.{sys.version_info.minor}")
    yield newest
    yield from (replace(newest, kafka=version) for version in KAFKA[:-1])
    yield from (replace(newest, postgres=version) for version in POSTGRES[:-1])
    yield from (replace(newest, python=version) for version in PYTHON if version != newest.python)
    yield Row(KAFKA[0], POSTGRES[0], PYTHON[0])


@dataclass(frozen=True, kw_only=True)
class VersionOfKafka(Broker):
    """The local broker with other jars."""

    jars: Path

    @property
    def _jars(self) -> Path:
        return self.jars


@dataclass(frozen=True, kw_only=True)
class VersionOfPostgres(Database):
    """The local PostgreSQL with other programs."""

    programs: Path

    @property
    def _programs(self) -> Path:
        return self.programs


def kafka(version: str, cache: Path) -> Path:
    """The jars of this version."""
    text = POM.read_text()
    own = f"<version>{KAFKA[-1]}</version>"
    assert own in text, f"{POM} has another Kafka than the newest here: change KAFKA"
    folder = FOLDER / f"kafka-{version}"
    folder.mkdir(parents=True, exist_ok=True)
    pom = folder / "pom.xml"
    pom.write_text(text.replace(own, f"<version>{version}</version>"))
    try:
        return Jars("Kafka", pom).fetched(cache, print, size_mb=45)
    except NotReachable as failure:
        raise Skipped(str(failure)) from None


def postgres(version: str, cache: Path) -> Path:
    """The programs of this version."""
    machine = POSTGRES_FOR.get(platform.machine())
    mvn = maven()
    if machine is None or sys.platform != "linux" or mvn is None:
        raise Skipped("PostgreSQL of every version comes by Maven for Linux on amd64 or arm64")
    folder = cache / f"postgres-{version}"
    if not folder.exists():
        scratch = cache / f"postgres-{version}.new"
        shutil.rmtree(scratch, ignore_errors=True)
        artifact = f"io.zonky.test.postgres:embedded-postgres-binaries-linux-{machine}:{version}"
        words = [COPY, f"-Dartifact={artifact}", f"-DoutputDirectory={scratch}"]
        done = subprocess.run(
            [str(mvn), "-q", "-B", "-ntp", "-C", *words], cwd=cache, capture_output=True, check=False
        )
        if done.returncode != 0:
            raise Skipped(f"Maven could not fetch PostgreSQL {version}")
        with zipfile.ZipFile(next(scratch.glob("*.jar"))) as jar:
            [inner] = [name for name in jar.namelist() if name.endswith(".txz")]
            with tarfile.open(fileobj=jar.open(inner), mode="r:xz") as files:
                files.extractall(scratch, filter="data")
        scratch.replace(folder)
    return folder / "bin"


def python(version: str) -> Path:
    """The `wallet` of this Python: ours, or that of a copy of the project set up with it."""
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return Path(sys.executable).with_name("wallet")
    found = interpreter(version)
    copy = FOLDER / f"python-{version}"
    told = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    names = [*filter(None, told.stdout.split("\0"))]
    for old in copy.rglob("*.py"):  # what was moved here since must not be found there
        if (name := old.relative_to(copy)).parts[0] != ".venv" and str(name) not in names:
            old.unlink()
    for listed in names:
        target = copy / listed
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / listed, target)
    done = subprocess.run(
        ["make", "setup", f"PYTHON={found}"], cwd=copy, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise NotReachable(f"make setup with Python {version}: {(done.stderr or done.stdout).strip()[-300:]}")
    return copy / ".venv" / "bin" / "wallet"


def interpreter(version: str) -> Path:
    """A Python of this version: of the PATH, or where pyenv and uv put theirs."""
    on_path = shutil.which(f"python{version}")
    homes = (Path(os.environ.get("PYENV_ROOT", "~/.pyenv")), Path("~/.local/share/uv/python"))
    patterns = (f"versions/{version}.*/bin/python3", f"cpython-{version}.*/bin/python3")
    installed = [
        file
        for home, pattern in zip(homes, patterns, strict=True)
        for file in sorted(home.expanduser().glob(pattern))
    ]
    for candidate in [*([Path(on_path)] if on_path else []), *installed]:
        says = subprocess.run([candidate, "--version"], capture_output=True, text=True, check=False)
        if says.stdout.startswith(f"Python {version}."):
            return candidate
    raise Skipped(f"Python {version} is not installed")


def play(row: Row, cache: Path) -> None:
    """Play the demo with these versions; raises WalletError where not everything is exact."""
    jars, programs, wallet = kafka(row.kafka, cache), postgres(row.postgres, cache), python(row.python)
    folder = FOLDER / "servers"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    ports: list[int] = []
    for _ in range(3):
        ports.append(free_port(without=ports))
    broker = VersionOfKafka(folder, cache, ports[0], ports[1], jars=jars)
    database = VersionOfPostgres(folder, ports[2], "matrix", programs=programs)
    with ExitStack() as servers:
        for server in (broker, database):
            servers.enter_context(spawned(server))
        env = {name: value for name, value in os.environ.items() if not name.startswith("WALLET_")}
        env |= {"WALLET_KAFKA": broker.address, "WALLET_POSTGRES": database.address, "WALLET_PARTITIONS": "4"}
        done = subprocess.run(
            [str(wallet), "demo", "--count", str(COUNT)],
            cwd=folder,
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
    if done.returncode != 0 or "everything is exact" not in done.stdout:
        log = FOLDER / f"failed-{row.kafka}-{row.postgres}-{row.python}.log"
        log.write_text(done.stdout + done.stderr)
        raise NotReachable(f"see {log.relative_to(ROOT)}")


def main() -> int:
    """Play every row and print the table; 1 if one has failed, or none could be played."""
    cache = Settings(_env_file=None).local_cache.expanduser()
    table = Table("Kafka", "PostgreSQL", "Python", "wallet demo", "seconds")
    played, failed = 0, False
    for row in rows():
        began = time.monotonic()
        try:
            play(row, cache)
            played, result = played + 1, "exact"
        except Skipped as reason:
            result = f"skipped: {reason}"
        except (WalletError, subprocess.TimeoutExpired) as failure:
            result, failed = f"FAILED: {failure}", True
        print(f"Kafka {row.kafka}, PostgreSQL {row.postgres}, Python {row.python}: {result}", flush=True)  # noqa: T201
        table.add_row(row.kafka, row.postgres, row.python, result, f"{time.monotonic() - began:.0f}")
    Console().print(table)
    if not (played or failed):
        Console(stderr=True).print("no row could be played here: the table says what is lacking")
    return int(failed or not played)


if __name__ == "__main__":
    sys.exit(main())
