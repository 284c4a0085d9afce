"""Kafka's jars, fetched once with Maven into a cache that all checkouts on this machine share."""

import fcntl
import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from config.errors import ConfigurationError, NotReachable
from local.progress import Progress

POM = Path(__file__).with_name("pom.xml")
LEAST_JAVA = 17
JAVA = f"Java {LEAST_JAVA} or newer"
MAVEN = "Maven (it fetches Kafka)"
FETCH_PATIENCE_S = 900


def check_programs(cache: Path) -> None:
    """Raise ConfigurationError, naming everything missing, unless there is Java and, if needed, Maven."""
    there = {JAVA: _java(), MAVEN: _folder(cache) if _folder(cache).exists() else _maven()}
    if lacking := [name for name, path in there.items() if path is None]:
        raise _lack(lacking)


def java() -> Path:
    """The `java` of JAVA_HOME or PATH; raises ConfigurationError unless one is new enough."""
    found = _java()
    if found is None:
        raise _lack([JAVA])
    return found


def kafka_jars(cache: Path, progress: Progress) -> Path:
    """The folder with the jars of pom.xml; fetches them if they are not in the cache."""
    folder = _folder(cache)
    if folder.exists():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _fetch(folder, progress)
    return folder


def _folder(cache: Path) -> Path:
    # named after the content of pom.xml: another version gets another folder
    return cache / f"kafka-{hashlib.sha256(POM.read_bytes()).hexdigest()[:12]}"


def _fetch(folder: Path, progress: Progress) -> None:
    mvn = _maven()
    if mvn is None:
        raise _lack([MAVEN])
    progress("fetching Kafka with Maven, 45 MB, once for this machine")
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="fetching-") as scratch:
        jars = Path(scratch) / "jars"
        shutil.copy(POM, scratch)
        # -C: refuse a jar with a wrong checksum; Maven 3 would only warn
        command = [str(mvn), "-q", "-B", "-ntp", "-C", f"-Djars={jars}", "package"]
        try:
            subprocess.run(
                command, cwd=scratch, capture_output=True, text=True, check=True, timeout=FETCH_PATIENCE_S
            )
        except subprocess.TimeoutExpired:
            raise NotReachable(f"Maven did not fetch Kafka within {FETCH_PATIENCE_S} s: try again") from None
        except subprocess.CalledProcessError as failed:
            why = next(
                (line for line in failed.stdout.splitlines() if "ERROR" in line), f"{failed.returncode}"
            )
            raise NotReachable(f"Maven could not fetch Kafka: {why}") from None
        jars.replace(folder)  # atomically: an interrupted fetch must not look complete


def _java() -> Path | None:
    home = os.environ.get("JAVA_HOME")
    found = (shutil.which("java", path=str(Path(home) / "bin")) if home else None) or shutil.which("java")
    if found is None:
        return None
    return Path(found) if _java_version(found) >= LEAST_JAVA else None


@functools.cache
def _java_version(java: str) -> int:
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', said)
    return int(version[1]) if version else 0


def _maven() -> Path | None:
    found = shutil.which("mvn")
    return Path(found) if found else None


def _lack(what: list[str]) -> ConfigurationError:
    return ConfigurationError(
        f"the local stack needs {' and '.join(what)}: install it, or run everything in containers "
        "with `docker compose up`"
    )
