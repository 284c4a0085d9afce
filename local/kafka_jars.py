"""Kafka's jars, and the Java that runs them."""

import functools
import os
import re
import shutil
import subprocess
from pathlib import Path

from config.errors import ConfigurationError
from local.maven import Jars, maven
from local.progress import Progress

KAFKA = Jars("Kafka", Path(__file__).with_name("pom.xml"))
LEAST_JAVA = 17
JAVA = f"Java {LEAST_JAVA} or newer"
MAVEN = "Maven (it fetches Kafka)"


def check_programs(cache: Path) -> None:
    """Raise ConfigurationError, naming everything missing, unless there is Java and, if needed, Maven."""
    fetched = KAFKA.folder(cache)
    there = {JAVA: _java(), MAVEN: fetched if fetched.exists() else maven()}
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
    if not KAFKA.folder(cache).exists() and maven() is None:
        raise _lack([MAVEN])
    return KAFKA.fetched(cache, progress, size_mb=45)


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


def _lack(what: list[str]) -> ConfigurationError:
    return ConfigurationError(
        f"the local stack needs {' and '.join(what)}: install it, or run everything in containers "
        "with `docker compose up`"
    )
