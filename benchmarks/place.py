"""Where measurements happen: a stack of their own, and a new pipeline for each of them."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from benchmarks.rivals.rival import Ready
from config import logs
from config.logs import EventLog
from config.settings import Settings, from_environment
from local.jars import KAFKA, version_of
from local.server import Progress
from local.stack import Stack
from operations.cli import context
from operations.cli.children import Children
from operations.setup import init
from sinks import postgres
from sinks.postgres import databases

log = EventLog("benchmarks")


@dataclass(frozen=True)
class Place:
    """A running stack: `settings` lead to its servers, `folder` takes what the measurements write."""

    settings: Settings
    folder: Path
    stack: Stack

    def pipeline(self, prefix: str, **changes: object) -> Settings:
        """Settings of a new pipeline, initialised, with a database of its own."""
        log.info("initialising", prefix=prefix)
        own = databases.create(self.settings, prefix.replace("-", "_"))
        settings = own.model_copy(
            update={"prefix": prefix, "state_dir": self.folder / prefix / "state", **changes}
        )
        (self.folder / prefix).mkdir()
        init.initialise(settings)
        return settings

    def children(self, settings: Settings) -> Children:
        """Processes for this pipeline; the `with` block that they are used in ends them."""
        return Children(context.environment(settings), self.folder / settings.prefix)

    def prepared(self, prepare: Callable[[Path, Progress], Ready]) -> Ready:
        """A rival, fetched and built into the cache of this machine."""
        cache = self.settings.local_cache.expanduser()
        return prepare(cache, lambda line: log.info("preparing", step=line))

    def versions(self) -> dict[str, str]:
        """Of Kafka, by its jar, and of PostgreSQL, by its own word."""
        jars = KAFKA.folder(self.settings.local_cache.expanduser())
        with postgres.connect(self.settings) as connection:
            row = connection.execute("SHOW server_version").fetchone()
        return {"Kafka": version_of(jars, "kafka_2"), "PostgreSQL": str(row[0]) if row else "?"}

    def server_pids(self) -> dict[str, int]:
        """The processes of Kafka and Postgres."""
        return {one.name: one.pid for one in self.stack.status() if one.pid is not None}


@contextlib.contextmanager
def own_stack(partitions: int) -> Iterator[Place]:
    """A Kafka at full speed and a Postgres in a temporary folder, gone afterwards."""
    settings = from_environment()
    logs.configure(settings.log_level)
    with tempfile.TemporaryDirectory(prefix="wallet-benchmark-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # Postgres runs as another user where we are root
        stack = Stack(Path(folder) / "stack")
        try:
            found = stack.up(lambda line: log.info("own_stack", step=line), full_speed=True)
            places = {
                "kafka": found.kafka,
                "postgres": SecretStr(found.postgres),
                "partitions": partitions,
                "input": None,
                "registry": None,
                "session_timeout_s": 6.0,
            }
            yield Place(settings.model_copy(update=places), Path(folder), stack)
        finally:
            stack.delete()
