"""Servers that speak TLS: a broker to users and to clients with a certificate, and what stands before a PostgreSQL."""

import socket
import socketserver
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from select import select
from threading import Thread

from confluent_kafka.admin import ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr

from config.settings import Settings
from local.state import free_port
from tests.certificates import Authority, Signed
from tests.secured import SecuredBroker, spawned

#: What a client of PostgreSQL says first to speak TLS (manual, "SSL Session Encryption").
SSL_REQUEST = bytes.fromhex("0000000804d2162f")
READ_BYTES = 65_536
SCRAM_MODULE = "org.apache.kafka.common.security.scram.ScramLoginModule"
#: Listeners that ask for something else than PLAIN.
APART = ("mutual", "scram")


@dataclass(frozen=True, kw_only=True)
class EncryptedBroker(SecuredBroker):
    """Beside the listener of `SecuredBroker`: `login`, `scram`, `expired`, `elsewhere` (SASL_SSL), `mutual` (SSL)."""

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
            mechanism = "SCRAM-SHA-512" if listener == "scram" else "PLAIN"
            right |= {"kafka_sasl_mechanism": mechanism, "kafka_sasl_username": "admin"}
            right |= {"kafka_sasl_password": SecretStr("admin")}
        return settings.model_copy(update=right | changes)

    def scram(self, settings: Settings, password: str) -> Settings:
        """Settings that log in by SCRAM, with this password, which becomes that of `admin`."""
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 8_192)
        user = UserScramCredentialUpsertion("admin", info, password.encode())
        admin = self.admin()  # what it was asked is given up when it goes
        for answer in admin.alter_user_scram_credentials([user]).values():
            answer.result(30)
        return self.at(settings, "scram", kafka_sasl_password=SecretStr(password))

    def _own_settings(self) -> list[str]:
        signed = {
            "login": self.authority.sign("broker"),
            "scram": self.authority.sign("broker"),
            "mutual": self.authority.sign("broker"),
            "expired": self.authority.sign("expired", over=True),
            "elsewhere": self.authority.sign("elsewhere", "DNS:elsewhere.example"),
        }
        own, client = super()._own_settings(), f"CLIENT://{self.address}"
        listeners = ",".join(f"{name.upper()}://127.0.0.1:{port}" for name, port in self.ports.items())
        own = [line.replace(client, f"{client},{listeners}") for line in own]
        protocols = "LOGIN:SASL_SSL,SCRAM:SASL_SSL,MUTUAL:SSL,EXPIRED:SASL_SSL,ELSEWHERE:SASL_SSL"
        own = [line.replace("CLIENT:SASL_PLAINTEXT", f"CLIENT:SASL_PLAINTEXT,{protocols}") for line in own]
        (login,) = [line.partition("=")[2] for line in own if "jaas" in line]
        return [
            *own,
            *(f"listener.name.{name}.plain.sasl.jaas.config={login}" for name in signed if name not in APART),
            "listener.name.scram.sasl.enabled.mechanisms=SCRAM-SHA-512",
            f"listener.name.scram.scram-sha-512.sasl.jaas.config={SCRAM_MODULE} required;",
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


class _Front(socketserver.ThreadingTCPServer):
    """Speaks TLS to clients of PostgreSQL, as the server does where it is built with it, and plainly to the server."""

    allow_reuse_address = daemon_threads = True

    def __init__(self, dsn: str, signed: Signed) -> None:
        super().__init__(("127.0.0.1", 0), _Through)
        behind = conninfo_to_dict(dsn)
        self.behind = str(behind["host"]), int(behind["port"] or 0)
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(signed.certificate, signed.key)


class _Through(socketserver.BaseRequestHandler):
    """One session: whoever does not ask for TLS first is hung up on."""

    server: _Front

    def handle(self) -> None:
        """Pass bytes on in both directions until one side ends."""
        if self.request.recv(len(SSL_REQUEST)) != SSL_REQUEST:
            return
        self.request.sendall(b"S")
        with (
            suppress(OSError),
            self.server.tls.wrap_socket(self.request, server_side=True) as client,
            socket.create_connection(self.server.behind) as behind,
        ):
            # One thread for both directions: what TLS reads and writes by is one object.
            while True:
                readable = [client] if client.pending() else select([client, behind], [], [])[0]
                for one in readable:
                    some = one.recv(READ_BYTES)
                    if not some:
                        return
                    (behind if one is client else client).sendall(some)


@contextmanager
def database(dsn: str, authority: Authority) -> Iterator[str]:
    """The same PostgreSQL behind TLS, until the block ends: a DSN that trusts the authority alone.

    The PostgreSQL that a wheel carries is built without TLS, so something stands in front of it.
    """
    with _Front(dsn, authority.sign("database")) as front:
        Thread(target=front.serve_forever, name="tls", daemon=True).start()
        try:
            there = {
                "port": front.server_address[1],
                "sslmode": "verify-full",
                "sslrootcert": authority.certificate,
            }
            yield make_conninfo(dsn, host="127.0.0.1", **{name: str(value) for name, value in there.items()})
        finally:
            front.shutdown()


@contextmanager
def running(folder: Path, cache: Path, users: tuple[str, ...] = ()) -> Iterator[EncryptedBroker]:
    """Such a broker, which ends with the block."""
    ports: list[int] = []
    for _ in range(7):
        ports.append(free_port(without=ports))
    broker = EncryptedBroker(
        folder,
        cache.expanduser(),
        ports[0],
        ports[1],
        users=users,
        authority=Authority(folder.parent / "certificates", "ours"),
        ports=dict(zip(("login", "scram", "mutual", "expired", "elsewhere"), ports[2:], strict=True)),
    )
    with spawned(broker):
        yield broker
