"""Settings of TLS and SASL that can be no connection's: one line that names the variable, before anybody is asked."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from config.errors import ConfigurationError
from config.settings import Settings
from tests.certificates import Authority, locked
from topics.clients import librdkafka


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("certificates")
    ours = Authority(folder, "ours")
    client, other = ours.sign("client"), ours.sign("other")
    (folder / "text").write_text("no certificate\n")
    return {
        "ca": ours.certificate,
        "certificate": client.certificate,
        "key": client.key,
        "other key": other.key,
        "locked key": locked(client.key, "right"),
        "text": folder / "text",
        "folder": folder,
        "nowhere": folder / "nowhere",
    }


def tls(files: dict[str, Path], plain: Settings, password: str | None = None, **names: str) -> Settings:
    changes: dict[str, object] = {f"kafka_ssl_{name}": files[file] for name, file in names.items()}
    changes["kafka_ssl_key_password"] = password and SecretStr(password)
    return plain.model_copy(update={"kafka_security_protocol": "SSL", **changes})


@pytest.mark.parametrize("names", [{}, {"ca": "ca"}, {"certificate": "certificate", "key": "key"}])
def test_what_can_be_a_connection_s_is_taken(
    files: dict[str, Path], plain_settings: Settings, names: dict[str, str]
) -> None:
    assert librdkafka(tls(files, plain_settings, **names))["security.protocol"] == "SSL"
    with_lock = tls(files, plain_settings, "right", certificate="certificate", key="locked key")
    assert librdkafka(with_lock)["ssl.key.password"] == "right"


@pytest.mark.parametrize(
    ("names", "password", "told"),
    [
        ({"ca": "nowhere"}, None, r"^WALLET_KAFKA_SSL_CA: \S+/nowhere cannot be read: No such file"),
        ({"ca": "folder"}, None, r"^WALLET_KAFKA_SSL_CA: \S+ cannot be read: Is a directory$"),
        ({"ca": "text"}, None, r"^WALLET_KAFKA_SSL_CA: \S+/text holds no certificate in PEM$"),
        ({"ca": "key"}, None, r"^WALLET_KAFKA_SSL_CA: \S+ holds no certificate in PEM$"),
        ({"certificate": "certificate"}, None, "go together: set both$"),
        ({"key": "key"}, None, "go together: set both$"),
        ({"certificate": "nowhere", "key": "key"}, None, "^WALLET_KAFKA_SSL_CERTIFICATE: .* cannot be read"),
        ({"certificate": "key", "key": "key"}, None, r"^WALLET_KAFKA_SSL_CERTIFICATE: \S+ holds no certificate"),
        ({"certificate": "text", "key": "key"}, None, r"^WALLET_KAFKA_SSL_CERTIFICATE: \S+ holds no certificate"),
        ({"certificate": "certificate", "key": "nowhere"}, None, "^WALLET_KAFKA_SSL_KEY: .* cannot be read"),
        ({"certificate": "certificate", "key": "text"}, None, "^WALLET_KAFKA_SSL_KEY: .* holds no private key"),
        ({"certificate": "certificate", "key": "other key"}, None, "^WALLET_KAFKA_SSL_KEY: .* is not the key of"),
        ({"certificate": "certificate", "key": "locked key"}, None, "^WALLET_KAFKA_SSL_KEY_PASSWORD: .* needs one$"),
        ({"certificate": "certificate", "key": "locked key"}, "wrong", "_KEY_PASSWORD: .* needs another$"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_named(
    files: dict[str, Path], plain_settings: Settings, names: dict[str, str], password: str | None, told: str
) -> None:
    with pytest.raises(ConfigurationError, match=told):
        librdkafka(tls(files, plain_settings, password, **names))


def test_a_login_that_is_not_whole_names_what_it_lacks(plain_settings: Settings) -> None:
    halfway = {"kafka_security_protocol": "SASL_PLAINTEXT", "kafka_sasl_username": "worker"}
    with pytest.raises(ConfigurationError) as refused:
        librdkafka(plain_settings.model_copy(update=halfway))
    assert str(refused.value) == (
        "WALLET_KAFKA_SECURITY_PROTOCOL=SASL_PLAINTEXT needs WALLET_KAFKA_SASL_MECHANISM and "
        "WALLET_KAFKA_SASL_PASSWORD"
    )
