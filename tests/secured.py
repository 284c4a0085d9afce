"""A broker that knows its users and lets them do what their ACLs say, with the local broker's jars."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from pydantic import SecretStr

from config.settings import Settings
from local import server
from local.broker import Broker
from local.server import Running, Server
from local.state import free_port

ADMIN = "admin"


def credentials(user: str) -> dict[str, str]:
    """What a librdkafka client needs to log in; passwords here are the user's name."""
    return {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": user,
        "sasl.password": user,
    }


def as_user(settings: Settings, user: str) -> Settings:
    """The same settings with this user's login."""
    login: Mapping[str, object] = {
        "kafka_security_protocol": "SASL_PLAINTEXT",
        "kafka_sasl_mechanism": "PLAIN",
        "kafka_sasl_username": user,
        "kafka_sasl_password": SecretStr(user),
    }
    return settings.model_copy(update=login)


@dataclass(frozen=True, kw_only=True)
class SecuredBroker(Broker):
    """A broker with SASL and Kafka's own authorizer; who has no ACL may do nothing, `admin` everything."""

    users: tuple[str, ...]

    def is_ready(self, _running: Running) -> bool:
        """Whether it says that it started, and then answers its admin."""
        if not self.log.exists() or "Kafka Server started" not in self.log.read_text(errors="replace"):
            return False
        try:
            self.admin().list_topics(timeout=5)
        except KafkaException:
            return False
        return True

    def admin(self) -> AdminClient:
        """A client of the super user."""
        return AdminClient({"bootstrap.servers": self.address, "log_level": 0, **credentials(ADMIN)})

    def _own_settings(self) -> list[str]:
        known = " ".join(f'user_{user}="{user}"' for user in (ADMIN, *self.users))
        login = f'username="{ADMIN}" password="{ADMIN}"'
        module = "org.apache.kafka.common.security.plain.PlainLoginModule"
        return [
            *super()._own_settings(),
            f"listeners=CLIENT://{self.address},CONTROLLER://127.0.0.1:{self.controller_port}",
            f"advertised.listeners=CLIENT://{self.address}",
            "listener.security.protocol.map=CLIENT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name=CLIENT",
            "sasl.enabled.mechanisms=PLAIN",
            "sasl.mechanism.inter.broker.protocol=PLAIN",
            f"listener.name.client.plain.sasl.jaas.config={module} required {login} {known};",
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            # ANONYMOUS is who asks the controller, on a listener of its own
            f"super.users=User:{ADMIN};User:ANONYMOUS",
            "allow.everyone.if.no.acl.found=false",
        ]


@contextmanager
def spawned(one: Server) -> Iterator[None]:
    """A server of a test's own kind: ready when the block begins, killed when it ends."""
    one.prepare(lambda _line: None)
    started = server.spawn(one)
    try:
        server.wait_until_ready(one, started)
        yield
    finally:
        server.kill(started)


@contextmanager
def running(folder: Path, cache: Path, users: tuple[str, ...]) -> Iterator[SecuredBroker]:
    """A secured broker of its own, which ends with the block."""
    port = free_port(without=[])
    broker = SecuredBroker(folder, cache.expanduser(), port, free_port(without=[port]), users=users)
    with spawned(broker):
        yield broker
