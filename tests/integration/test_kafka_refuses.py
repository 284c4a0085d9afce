"""A Kafka that does not let us in, or not do what we came for: one line says which of the many reasons it is."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)
from pydantic import SecretStr

from config.errors import ConfigurationError, NotReachable, Refused, WalletError
from config.settings import Settings
from tests import encrypted
from tests.certificates import Authority, locked
from tests.conftest import CACHE
from tests.effort import in_full
from tests.encrypted import EncryptedBroker
from tests.integration.pipelines import initialise_topics
from tests.integration.workers import Worker, done
from tests.secured import as_user
from topics import group_offsets
from topics.cluster import wait_for_kafka
from topics.names import Topics

pytestmark = pytest.mark.integration

PASSWORD = "not-to-be-told"  # noqa: S105 - it opens nothing


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EncryptedBroker]:
    with encrypted.running(
        tmp_path_factory.mktemp("broker") / "kafka", CACHE, ("reader", "nobody")
    ) as broker:
        yield broker


def test_who_is_right_is_let_in(broker: EncryptedBroker, plain_settings: Settings) -> None:
    client = broker.authority.sign("client")
    ours = {"kafka_ssl_certificate": client.certificate, "kafka_ssl_key": locked(client.key, PASSWORD)}
    wait_for_kafka(broker.at(plain_settings, "login"))
    wait_for_kafka(broker.at(plain_settings, "mutual", kafka_ssl_key_password=SecretStr(PASSWORD), **ours))


@pytest.mark.parametrize(
    ("listener", "changes", "kind", "told"),
    [
        ("login", {"kafka_sasl_password": SecretStr(PASSWORD)}, ConfigurationError,
         "refused the login of 'admin' .*Invalid username or password.*WALLET_KAFKA_SASL_PASSWORD"),
        ("login", {"kafka_sasl_mechanism": "SCRAM-SHA-512"}, ConfigurationError,
         "supported mechanisms: PLAIN.*WALLET_KAFKA_SASL_MECHANISM"),
        ("login", {"kafka_ssl_ca": None}, ConfigurationError, "is not trusted: .*WALLET_KAFKA_SSL_CA"),
        ("expired", {}, NotReachable, "is not valid: certificate has expired"),
        ("mutual", {}, ConfigurationError, "was shown no certificate and refused it"),
    ],
)  # fmt: skip
def test_what_waiting_does_not_mend_is_told_at_once(
    broker: EncryptedBroker,
    plain_settings: Settings,
    listener: str,
    changes: dict[str, object],
    kind: type[WalletError],
    told: str,
) -> None:
    # Whoever waited all this time would fail the test by its time-out.
    patient = plain_settings.model_copy(update={"startup_wait_s": 3_600.0})
    with pytest.raises(kind, match=told) as refused:
        wait_for_kafka(broker.at(patient, listener, **changes))
    assert PASSWORD not in str(refused.value)


def test_another_s_authority_and_another_s_certificate_are_told(
    broker: EncryptedBroker, plain_settings: Settings, tmp_path: Path
) -> None:
    other = Authority(tmp_path, "other")
    client = other.sign("client")
    with pytest.raises(ConfigurationError, match="is not trusted: unable to get local issuer certificate"):
        wait_for_kafka(broker.at(plain_settings, "login", kafka_ssl_ca=other.certificate))
    ours = {"kafka_ssl_certificate": client.certificate, "kafka_ssl_key": client.key}
    with pytest.raises(ConfigurationError, match=rf"was shown {client.certificate} and refused it"):
        wait_for_kafka(broker.at(plain_settings, "mutual", **ours))


def test_a_command_ends_with_the_code_of_a_wrong_setting(
    broker: EncryptedBroker, plain_settings: Settings, tmp_path: Path
) -> None:
    wrong = broker.at(plain_settings, "login", kafka_sasl_password=SecretStr(PASSWORD))
    command = Worker(wrong, tmp_path / "log", "inspect", "alice")
    assert command.failed(ConfigurationError).startswith("wallet: Kafka at ")
    assert len(command.text().splitlines()) == 1
    assert PASSWORD not in command.text()


def test_a_certificate_for_another_host_names_the_host(
    broker: EncryptedBroker, plain_settings: Settings
) -> None:
    there = broker.at(plain_settings, "elsewhere")
    with pytest.raises(ConfigurationError, match=r"is for another host: .*not valid for '127\.0\.0\.1'"):
        wait_for_kafka(there)


def test_another_protocol_and_an_empty_port_are_told_in_the_end(
    broker: EncryptedBroker, plain_settings: Settings
) -> None:
    hasty = plain_settings.model_copy(update={"startup_wait_s": 1.0})
    with pytest.raises(NotReachable, match="something listens there: check that it speaks SASL_PLAINTEXT"):
        wait_for_kafka(broker.at(hasty, "login", kafka_security_protocol="SASL_PLAINTEXT"))
    with pytest.raises(NotReachable, match=r"Connection refused.*start it, or set WALLET_KAFKA"):
        wait_for_kafka(hasty.model_copy(update={"kafka": "127.0.0.1:1"}))
    with pytest.raises(NotReachable, match=r"not known.*start it, or set WALLET_KAFKA"):
        wait_for_kafka(hasty.model_copy(update={"kafka": "no.such.host.invalid:9092"}))


@pytest.fixture(scope="module")
def pipeline(broker: EncryptedBroker, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A pipeline whose topics `reader` may read and nothing else, and `nobody` may not even see."""
    settings = Settings(
        _env_file=None,
        prefix="refused",
        kafka=broker.address,
        state_dir=tmp_path_factory.mktemp("state"),
        partitions=4,
        startup_wait_s=20.0,
    )
    initialise_topics(as_user(settings, "admin"))
    allowed = [
        AclBinding(kind, settings.prefix, ResourcePatternType.PREFIXED, "User:reader", "*", operation,
                   AclPermissionType.ALLOW)
        for kind, operation in (
            (ResourceType.TOPIC, AclOperation.READ),
            (ResourceType.TOPIC, AclOperation.DESCRIBE_CONFIGS),
            (ResourceType.GROUP, AclOperation.READ),
        )
    ]  # fmt: skip
    admin = broker.admin()
    for answer in admin.create_acls(allowed).values():
        answer.result(30)
    return settings


@pytest.mark.parametrize(
    ("words", "lacking"),
    [
        (("init",), "ALTER_CONFIGS on topic {0}.ledger"),
        in_full(("worker",), "WRITE on topic {0}.ledger"),
        in_full(("generate", "--count", "1"), "WRITE on topic {0}.transactions"),
        (("rejections", "resubmit", "--reason", "INVALID", "--execute"), "WRITE on topic {0}.transactions"),
    ],
)
def test_a_login_that_may_not_do_the_work_names_the_right_that_it_lacks(
    pipeline: Settings, tmp_path: Path, words: tuple[str, ...], lacking: str
) -> None:
    command = Worker(as_user(pipeline, "reader"), tmp_path / "log", *words)
    assert lacking.format(pipeline.prefix) in command.failed(Refused)


def test_a_dry_run_of_resubmitting_needs_no_right_to_write(pipeline: Settings, tmp_path: Path) -> None:
    words = ("rejections", "resubmit", "--reason", "INVALID")
    assert "0 would be resubmitted" in done(as_user(pipeline, "reader"), tmp_path, *words)


@pytest.mark.parametrize(
    "words",
    [
        ("init",),
        ("worker",),
        *(in_full(words) for words in (("sink",), ("verify",), ("status",))),
    ],
)
def test_a_login_that_may_see_nothing_is_refused_by_every_command_alike(
    pipeline: Settings, tmp_path: Path, words: tuple[str, ...]
) -> None:
    command = Worker(as_user(pipeline, "nobody"), tmp_path / "log", *words)
    told = command.failed(Refused)
    assert "authorization failed" in told
    assert "docs/operations/acls.md" in told


def test_who_may_not_see_a_group_is_told_that(pipeline: Settings) -> None:
    topic = Topics.of(pipeline).transactions
    with pytest.raises(Refused, match="DESCRIBE on group somebody-elses"):
        group_offsets.committed(as_user(pipeline, "reader"), topic, [0], "somebody-elses", wait=False)
