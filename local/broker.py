"""The local Kafka: one real broker in KRaft mode that is its own controller."""

import base64
import signal
import uuid
from dataclasses import dataclass
from pathlib import Path

from local.jars import check_programs, java, kafka_jars
from local.server import Progress, Running, Server, silent
from topics.clients import answers

HERE = Path(__file__).parent
#: Small and quick to start, for a laptop with an IDE open. 210 MiB in all.
LAPTOP = ("-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
#: For measurements: memory, and the optimizing compiler.
FULL_SPEED = ("-Xms1g", "-Xmx1g")


@dataclass(frozen=True)
class Broker(Server):
    """A broker whose files are in `folder`, reached on 127.0.0.1:`port`."""

    folder: Path
    cache: Path
    port: int
    controller_port: int
    full_speed: bool = False

    name, program = "Kafka", "kafka"
    stop_signal = signal.SIGTERM

    @property
    def address(self) -> str:
        """For `bootstrap.servers`."""
        return f"127.0.0.1:{self.port}"

    def prepare(self, progress: Progress) -> None:
        """Fetch it if needed, write its settings, and format its disk the first time."""
        check_programs(self.cache)
        kafka_jars(self.cache, progress)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._settings.write_text(
            (HERE / "kafka.properties").read_text() + "\n".join(self._own_settings()) + "\n"
        )
        if (self._disk / "meta.properties").exists():
            return
        progress("formatting Kafka's disk")
        # with "=": an id that begins with a minus would be taken for an option
        words = ["format", f"--cluster-id={self._cluster_id()}", f"--config={self._settings}"]
        self.made("Kafka's disk could not be formatted", [*self._java(), "kafka.tools.StorageTool", *words])

    def command(self) -> list[str]:
        """The broker's command line, which also writes an archive of its classes if there is none yet."""
        archive = [] if self._classes.exists() else [f"-XX:ArchiveClassesAtExit={self._new_classes}"]
        return [*self._java(*archive), "kafka.Kafka", str(self._settings)]

    def is_ready(self, _running: Running) -> bool:
        """Whether its log says that it started and it answers a request."""
        said = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "Kafka Server started" in said and answers(self.address)

    def stopped(self) -> None:
        """Keep the class archive that the broker wrote on exit: it halves the time of the next start."""
        if self._new_classes.exists():
            self._new_classes.replace(self._classes)

    def _java(self, *options: str) -> list[str]:
        archive = [f"-XX:SharedArchiveFile={self._classes}"] if self._classes.exists() else []
        return [
            str(java()),
            *(FULL_SPEED if self.full_speed else LAPTOP),
            *archive,
            *options,
            f"-Dlog4j2.configurationFile={HERE / 'log4j2.properties'}",
            # no wildcard: the class archive is valid only for an identically spelled class path
            "-cp",
            ":".join(str(jar) for jar in sorted(self._jars.glob("*.jar"))),
        ]

    def _cluster_id(self) -> str:
        """The id of the cluster that this broker's disk is formatted for: its own, new one."""
        return new_cluster_id()

    def _own_settings(self) -> list[str]:
        return [
            f"listeners=PLAINTEXT://{self.address},CONTROLLER://127.0.0.1:{self.controller_port}",
            f"advertised.listeners=PLAINTEXT://{self.address}",
            f"controller.quorum.voters=1@127.0.0.1:{self.controller_port}",
            f"log.dirs={self._disk}",
        ]

    @property
    def _jars(self) -> Path:
        return kafka_jars(self.cache, silent)

    @property
    def _settings(self) -> Path:
        return self.folder / "kafka.properties"

    @property
    def _classes(self) -> Path:
        return self._jars / "classes.jsa"

    @property
    def _new_classes(self) -> Path:
        # next to its final place, to move it in one step; the port tells brokers of one machine apart
        return self._jars / f"classes-{self.port}.new"


def new_cluster_id() -> str:
    """A cluster id as Kafka makes them: 16 random bytes in base64, without padding."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
