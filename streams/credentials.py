"""How aiokafka logs in to Kafka: the settings of librdkafka, in the words of Faust."""

import ssl

from faust.auth import SASLCredentials, SSLCredentials
from faust.types.auth import CredentialsT

from config.settings import Settings


def credentials(settings: Settings) -> CredentialsT | None:
    """TLS and SASL as aiokafka takes them; the same settings as librdkafka's."""
    protocol = settings.kafka_security_protocol
    if protocol == "PLAINTEXT":
        return None
    context = None
    if protocol.endswith("SSL"):
        context = ssl.create_default_context(cafile=settings.kafka_ssl_ca and str(settings.kafka_ssl_ca))
        if settings.kafka_ssl_certificate is not None:
            password = settings.kafka_ssl_key_password
            context.load_cert_chain(
                settings.kafka_ssl_certificate,
                settings.kafka_ssl_key,
                password.get_secret_value() if password is not None else None,
            )
    if protocol == "SSL":
        return SSLCredentials(context=context)
    password = settings.kafka_sasl_password
    return SASLCredentials(
        username=settings.kafka_sasl_username,
        password=password.get_secret_value() if password is not None else None,
        ssl_context=context,
        mechanism=settings.kafka_sasl_mechanism,
    )
