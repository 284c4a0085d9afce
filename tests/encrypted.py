"""A broker that speaks TLS: to users, to clients with a certificate, and with certificates that are not right."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from config.settings import Settings
from local.state import free_port
from tests.certificates import Authority, Signed
from tests.secured import SecuredBroker, spawned


@dataclass(frozen=True, kw_only=True)
class EncryptedBroker(SecuredBroker):
    """Beside the listener of `SecuredBroker`: `login`, `expired` and `elsewhere` (SASL_SSL), and `mutual` (SSL)."""

    authority: Authority
    ports: dict[str, int]

    def at(self, settings: Settings, listener: str, **changes: object) -> Settings:
        """Settings that are right for a listener, but for the changes."""
        right: dict[str, object] = {
            "kafka": f"127.0.0.1:{self.ports[listener]}",
            "kafka_security_protocol": "SSL" if listener == "mutual" else "SASL_SSL",
            "kafka_ssl_ca": self.authority.certificate,
        }
        if listener != "mutual":
            right |= {"kafka_sasl_mechanism": "PLAIN", "kafka_sasl_username": "admin"}
            right |= {"kafka_sasl_password": SecretStr("admin")}
        return settings.model_copy(update=right | changes)

    def _own_settings(self) -> list[str]:
        signed = {
            "login": self.authority.sign("broker"),
            "mutual": self.authority.sign("broker"),
            "expired": self.authority.sign("expired", over=True),
            "elsewhere": self.authority.sign("elsewhere", "DNS:elsewhere.example"),
        }
        own, client = super()._own_settings(), f"CLIENT://{self.address}"
        listeners = ",".join(f"{name.upper()}://127.0.0.1:{port}" for name, port in self.ports.items())
        own = [line.replace(client, f"{client},{listeners}") for line in own]
        protocols = "LOGIN:SASL_SSL,MUTUAL:SSL,EXPIRED:SASL_SSL,ELSEWHERE:SASL_SSL"
        own = [line.replace("CLIENT:SASL_PLAINTEXT", f"CLIENT:SASL_PLAINTEXT,{protocols}") for line in own]
        (login,) = [line.partition("=")[2] for line in own if "jaas" in line]
        return [
            *own,
            *(f"listener.name.{name}.plain.sasl.jaas.config={login}" for name in signed if name != "mutual"),
            *(line for name, one in signed.items() for line in _keys(name, one, self.authority)),
            "listener.name.mutual.ssl.client.auth=required",
            "super.users=User:admin;User:ANONYMOUS;User:CN=client",
        ]


def _keys(listener: str, signed: Signed, authority: Authority) -> list[str]:
    one = f"listener.name.{listener}.ssl"
    return [
        f"{one}.keystore.type=PEM",
        f"{one}.keystore.location={signed.both}",
        f"{one}.truststore.type=PEM",
        f"{one}.truststore.location={authority.certificate}",
    ]


@contextmanager
def running(folder: Path, cache: Path, users: tuple[str, ...] = ()) -> Iterator[EncryptedBroker]:
    """Such a broker, which ends with the block."""
    ports: list[int] = []
    for _ in range(6):
        ports.append(free_port(without=ports))
    broker = EncryptedBroker(
        folder,
        cache.expanduser(),
        ports[0],
        ports[1],
        users=users,
        authority=Authority(folder.parent / "certificates", "ours"),
        ports=dict(zip(("login", "mutual", "expired", "elsewhere"), ports[2:], strict=True)),
    )
    with spawned(broker):
        yield broker
