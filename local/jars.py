"""What Maven fetches or builds, once, into a cache that every checkout on this machine shares."""

import fcntl
import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from config.errors import ConfigurationError, NotReachable
from local.server import Progress

FETCH_PATIENCE_S = 900
LEAST_JAVA = 17
JAVA = f"Java {LEAST_JAVA} or newer"
MAVEN = "Maven (it fetches Kafka)"


@dataclass(frozen=True)
class Jars:
    """The jars of a pom.xml, which copies them to ${jars}, with the program in `src` beside it if there is one.

    `name` is for people and for the folder in the cache; `folders` are handed to the pom as properties.
    """

    name: str
    pom: Path
    folders: Mapping[str, Path] = field(default_factory=dict)

    def folder(self, cache: Path) -> Path:
        """Where they are once they were fetched: another content of the sources is another folder."""
        digest = hashlib.sha256()
        for file in self._sources():
            digest.update(file.read_bytes())
        return cache / f"{self.name.lower().replace(' ', '-')}-{digest.hexdigest()[:12]}"

    def fetched(self, cache: Path, progress: Progress, *, size_mb: int) -> Path:
        """The folder, filled by Maven if need be; raises NotReachable when Maven cannot, or is not there."""
        folder = self.folder(cache)
        if folder.exists():
            return folder
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                progress(f"fetching {self.name} with Maven, {size_mb} MB, once for this machine")
                self._fetch(folder)
        return folder

    def _sources(self) -> list[Path]:
        program = sorted(file for file in (self.pom.parent / "src").rglob("*") if file.is_file())
        handed = [file for folder in self.folders.values() for file in sorted(folder.rglob("*.avsc"))]
        return [self.pom, *program, *handed]

    def _fetch(self, folder: Path) -> None:
        mvn = maven()
        if mvn is None:
            raise NotReachable(f"{self.name} needs Maven: install it")
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix="fetching-") as scratch:
            jars = Path(scratch) / "jars"
            shutil.copy(self.pom, scratch)
            if (sources := self.pom.parent / "src").exists():
                shutil.copytree(sources, Path(scratch) / "src")
            handed = [f"-D{name}={path}" for name, path in self.folders.items()]
            # -C: a jar whose checksum is wrong is refused, where Maven 3 would only warn
            command = [str(mvn), "-q", "-B", "-ntp", "-C", f"-Djars={jars}", *handed, "package"]
            try:
                subprocess.run(
                    command, cwd=scratch, capture_output=True, text=True, check=True, timeout=FETCH_PATIENCE_S
                )
            except subprocess.TimeoutExpired:
                late = f"Maven did not fetch {self.name} within {FETCH_PATIENCE_S} s: try again"
                raise NotReachable(late) from None
            except subprocess.CalledProcessError as failed:
                why = next(
                    (line for line in failed.stdout.splitlines() if "ERROR" in line), f"{failed.returncode}"
                )
                raise NotReachable(f"Maven could not fetch {self.name}: {why}") from None
            jars.replace(
                folder
            )  # whole or not at all: a fetch that was cut off leaves nothing that looks done


def version_of(jars: Path, name: str) -> str:
    """The version in the name of the jar whose name begins so, up to and with what comes before its version."""
    found = sorted(jar.stem for jar in jars.glob(f"{name}*.jar"))
    return re.sub(r"^.*?-(?=\d)", "", found[0]) if found else "?"


def maven() -> Path | None:
    """The `mvn` of PATH."""
    found = shutil.which("mvn")
    return Path(found) if found else None


KAFKA = Jars("Kafka", Path(__file__).with_name("pom.xml"))


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
