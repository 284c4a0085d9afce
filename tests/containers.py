"""Kafka and PostgreSQL in containers, in place of the local stack: `WALLET_TEST_WITH=testcontainers`."""

import contextlib
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import psycopg
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from config.errors import NotReachable
from local.broker import HERE, LAPTOP
from local.database import CONFIGURATION
from local.stack import Addresses, Name
from local.state import free_port

KAFKA_IMAGE = "apache/kafka:4.1.1"
POSTGRES_IMAGE = "postgres:17"
PATIENCE_S = 120.0
#: What clears away after testcontainers is an image of its own, with the rights of the engine; these tests clear away
#: themselves, but for a run that is killed.
testcontainers_config.ryuk_disabled = True

#: The settings of the local stack's broker, as the image wants them.
LOCAL = dict(
    line.split("=", 1)
    for line in (HERE / "kafka.properties").read_text().splitlines()
    if line[:1] not in ("", "#")
)
#: Tests are outside, on a port of the host, where the broker itself is not: it writes the ends of transactions to
#: the address that its own listener advertises, and would wait for ever to reach the host's port from inside.
LISTENERS = {
    "controller.quorum.voters": "1@localhost:9093",
    "listeners": "INSIDE://:9092,CONTROLLER://:9093,OUTSIDE://:9094",
    "advertised.listeners": "INSIDE://localhost:9092,OUTSIDE://{outside}",
    "listener.security.protocol.map": "INSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT,OUTSIDE:PLAINTEXT",
    "inter.broker.listener.name": "INSIDE",
}


def has_engine() -> bool:
    """Whether a Docker engine answers here."""
    try:
        return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


class Containers:
    """What the tests use of a local Stack, served by two containers on fixed ports of loopback."""

    def __init__(self) -> None:
        # Fixed, not given out by Docker: a restarted container must be found where it was.
        kafka_port = free_port(without=[])
        postgres_port = free_port(without=[kafka_port])
        self._addresses = Addresses(
            f"127.0.0.1:{kafka_port}", f"postgresql://wallet:wallet@127.0.0.1:{postgres_port}/wallet"
        )
        kafka = DockerContainer(KAFKA_IMAGE).with_envs(
            **_kafka_environment(self._addresses.kafka),
            KAFKA_HEAP_OPTS=" ".join(LAPTOP[:2]),
            KAFKA_JVM_PERFORMANCE_OPTS=" ".join(LAPTOP[2:]),
        )
        postgres = DockerContainer(POSTGRES_IMAGE).with_envs(
            POSTGRES_USER="wallet",
            POSTGRES_PASSWORD="wallet",  # noqa: S106 - a container on loopback that lives for one test run
            POSTGRES_INITDB_ARGS="--encoding=UTF8 --locale=C",
            TZ="UTC",
        )
        postgres.with_command(["postgres", *_postgres_options()])
        # loopback only; docker-py takes (interface, port), which testcontainers' types do not know
        kafka.ports = {"9094/tcp": ("127.0.0.1", kafka_port)}  # type: ignore[dict-item]
        postgres.ports = {"5432/tcp": ("127.0.0.1", postgres_port)}  # type: ignore[dict-item]
        self._created: set[Name] = set()
        self._containers: dict[Name, DockerContainer] = {"kafka": kafka, "postgres": postgres}

    def up(self) -> Addresses:
        """Start what is not running and return when both answer."""
        for name, container in self._containers.items():
            if name not in self._created:
                container.start()
                self._created.add(name)
            else:
                self._docker(name).start()  # does nothing to one that runs
        self._wait("kafka")
        self._wait("postgres")
        return self._addresses

    def down(self) -> None:
        """Remove both."""
        for container in self._containers.values():
            container.stop()

    def addresses_if_up(self) -> Addresses:
        """Where they are."""
        return self._addresses

    def start(self, name: Name) -> None:
        """Start one again and return when it answers."""
        self._docker(name).start()
        self._wait(name)

    def stop(self, name: Name) -> None:
        """Stop one in its orderly way."""
        self._docker(name).stop(timeout=30)

    def kill(self, name: Name) -> None:
        """End one by SIGKILL."""
        self._docker(name).kill()

    @contextlib.contextmanager
    def suspended(self, name: Name) -> Iterator[None]:
        """Pause one; its connections stay open."""
        self._docker(name).pause()
        try:
            yield
        finally:
            self._docker(name).unpause()

    def restart(self, name: Name) -> None:
        """Stop one and start it again."""
        self.stop(name)
        self.start(name)

    def _docker(self, name: Name) -> Any:  # docker-py has no types
        return self._containers[name].get_wrapped_container()

    def _wait(self, name: Name) -> None:
        answers = self._kafka_answers if name == "kafka" else self._postgres_answers
        container, deadline = self._docker(name), time.monotonic() + PATIENCE_S
        while not answers():
            container.reload()
            if container.status == "exited" or time.monotonic() > deadline:
                log = container.logs(tail=10).decode()
                raise NotReachable(
                    f"the container of {name} does not answer, it is {container.status}: {log}"
                )
            time.sleep(0.2)

    def _kafka_answers(self) -> bool:
        try:
            AdminClient({"bootstrap.servers": self._addresses.kafka, "log_level": 0}).list_topics(timeout=5)
        except KafkaException:
            return False
        return True

    def _postgres_answers(self) -> bool:
        try:
            # over TCP: the server that the image runs while it sets itself up listens on its socket only
            with psycopg.connect(self._addresses.postgres, connect_timeout=5):
                return True
        except psycopg.OperationalError:
            return False


def _kafka_environment(outside: str) -> dict[str, str]:
    settings = LOCAL | LISTENERS
    return {
        f"KAFKA_{name.upper().replace('.', '_')}": value.format(outside=outside)
        for name, value in settings.items()
    }


def _postgres_options() -> list[str]:
    """Those of the local stack, by which plans are the same, but where to listen: that is the image's."""
    at = ("listen_addresses", "unix_socket_directories")
    return [
        word for name, value in CONFIGURATION.items() if name not in at for word in ("-c", f"{name}={value}")
    ]
