"""The whole pipeline, secured: Kafka by SASL_SSL and SCRAM, PostgreSQL by TLS, the registry by HTTPS."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from config.errors import ConfigurationError
from config.settings import Settings
from tests import encrypted
from tests.certificates import Authority
from tests.conftest import CACHE
from tests.integration.exactness import assert_exact
from tests.integration.pipelines import Worker, wait_until
from tests.integration.verify_copies import decided, written
from tests.integration.workers import done
from tests.unit import registry_server

pytestmark = pytest.mark.integration

PASSWORD = "a password that no log may show"  # noqa: S105 - it opens nothing but the test's own broker
FIRST_ID, COUNT = 100, 2_000


@pytest.fixture
def secured(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """Settings of a pipeline whose servers let in who knows the authority and the passwords, and nobody else."""
    with encrypted.running(tmp_path / "broker" / "kafka", CACHE) as broker:
        authority = broker.authority
        signed = authority.sign("registry")
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(signed.certificate, signed.key)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
        with (
            encrypted.database(settings.postgres.get_secret_value(), authority) as dsn,
            registry_server.running(FIRST_ID, tls) as registry,
        ):
            changes: dict[str, object] = {"postgres": SecretStr(dsn), "registry": registry.url}
            changes |= {"state_dir": tmp_path / "state", "partitions": 2}
            changes |= {"overdraft": "reject", "max_record_bytes": 2_048}
            yield broker.scram(settings, PASSWORD).model_copy(update=changes)


def who_is_not_right_is_not_let_in(secured: Settings, tmp_path: Path) -> None:
    """Another authority, for Kafka or PostgreSQL, and a wrong password: one line each, and the right code."""
    other = Authority(tmp_path / "elsewhere", "other")
    dsn = secured.postgres.get_secret_value()
    for changes, told in (
        ({"kafka_ssl_ca": other.certificate}, "is not trusted"),
        ({"kafka_sasl_password": SecretStr("wrong")}, "refused the login of 'admin'"),
        (
            {"postgres": SecretStr(dsn.replace(str(secured.kafka_ssl_ca), str(other.certificate)))},
            "certificate verify",
        ),
    ):
        wrong = secured.model_copy(update=changes)
        command = Worker(wrong, tmp_path / "wrong.log", "init")
        assert told in command.failed(ConfigurationError)
        assert len(command.text().splitlines()) == 1
        command.log.unlink()


def test_everything_is_exact_behind_tls_and_no_secret_is_told(secured: Settings, tmp_path: Path) -> None:
    who_is_not_right_is_not_let_in(secured, tmp_path)
    told = [
        done(secured, tmp_path, *command.split())
        for command in ("init", f"generate --count {COUNT} --wallets 60 --bad 0.05")
    ]
    with (
        Worker(secured, tmp_path / "sink.log", "sink") as sink,
        Worker(secured, tmp_path / "worker.log") as worker,
    ):
        wait_until(lambda: decided(secured) == COUNT, "all input is decided", worker.check_runs)
        wait_until(lambda: written(secured), "all rows are written", sink.check_runs)
        worker.stop()
        sink.stop()
    exact = assert_exact(secured)
    assert exact.records == COUNT
    assert len(exact.reasons) > 5
    told += [done(secured, tmp_path, "verify"), worker.text(), sink.text()]
    assert "everything is as the input says" in told[2]
    for secret in (PASSWORD, conninfo_to_dict(secured.postgres.get_secret_value())["password"]):
        assert secret
        assert not any(str(secret) in one for one in told)
