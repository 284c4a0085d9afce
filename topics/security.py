"""Check the TLS and SASL settings before connecting, and make an `ssl` context of them."""

import ssl
from functools import lru_cache
from pathlib import Path

from config.errors import ConfigurationError
from config.settings import Settings


def check(settings: Settings) -> None:
    """Raise ConfigurationError, naming the variable, if no connection can work with these settings."""
    if settings.kafka_security_protocol.startswith("SASL"):
        needed = ("kafka_sasl_mechanism", "kafka_sasl_username", "kafka_sasl_password")
        if missing := [f"WALLET_{name.upper()}" for name in needed if getattr(settings, name) is None]:
            raise ConfigurationError(
                f"WALLET_KAFKA_SECURITY_PROTOCOL={settings.kafka_security_protocol} needs {' and '.join(missing)}"
            )
    tls(settings)


def tls(settings: Settings) -> ssl.SSLContext | None:
    """The context of TLS connections to Kafka; None if they are not encrypted. Raises like `check`."""
    if not settings.kafka_security_protocol.endswith("SSL"):
        return None
    password = settings.kafka_ssl_key_password
    return _context(
        settings.kafka_ssl_ca,
        settings.kafka_ssl_certificate,
        settings.kafka_ssl_key,
        password.get_secret_value() if password else None,
    )


@lru_cache(maxsize=8)
def _context(
    authorities: Path | None, certificate: Path | None, key: Path | None, password: str | None
) -> ssl.SSLContext:
    if authorities is not None:
        _readable("WALLET_KAFKA_SSL_CA", authorities)
    try:
        context = ssl.create_default_context(cafile=authorities)
    except ssl.SSLError:
        raise ConfigurationError(f"WALLET_KAFKA_SSL_CA: {authorities} holds no certificate in PEM") from None
    if (certificate is None) != (key is None):
        raise ConfigurationError(
            "WALLET_KAFKA_SSL_CERTIFICATE and WALLET_KAFKA_SSL_KEY go together: set both"
        )
    if certificate is not None and key is not None:
        _load_own(context, certificate, key, password)
    return context


def _load_own(context: ssl.SSLContext, certificate: Path, key: Path, password: str | None) -> None:
    _readable("WALLET_KAFKA_SSL_CERTIFICATE", certificate)
    _readable("WALLET_KAFKA_SSL_KEY", key)
    try:
        # Without a password, OpenSSL would ask for one on the terminal.
        context.load_cert_chain(certificate, key, password or "")
    except ssl.SSLError as error:
        if b"BEGIN CERTIFICATE" not in certificate.read_bytes():
            wrong = f"WALLET_KAFKA_SSL_CERTIFICATE: {certificate} holds no certificate in PEM"
        elif error.reason == "KEY_VALUES_MISMATCH":
            wrong = f"WALLET_KAFKA_SSL_KEY: {key} is not the key of {certificate}"
        elif b"ENCRYPTED" in key.read_bytes():
            wrong = f"WALLET_KAFKA_SSL_KEY_PASSWORD: {key} needs {'another' if password else 'one'}"
        else:
            wrong = f"WALLET_KAFKA_SSL_KEY: {key} holds no private key in PEM"
        raise ConfigurationError(wrong) from None


def _readable(variable: str, path: Path) -> None:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise ConfigurationError(f"{variable}: {path} cannot be read: {error.strerror}") from None
