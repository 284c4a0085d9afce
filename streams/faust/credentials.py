"""How aiokafka logs in to Kafka: librdkafka's settings as Faust's credentials."""

from faust.auth import SASLCredentials, SSLCredentials
from faust.types.auth import CredentialsT

from config.settings import Settings
from topics import security


def credentials(settings: Settings) -> CredentialsT | None:
    """TLS and SASL as aiokafka takes them; the same settings as librdkafka's."""
    protocol = settings.kafka_security_protocol
    if protocol == "PLAINTEXT":
        return None
    context = security.tls(settings)
    if protocol == "SSL":
        return SSLCredentials(context=context)
    password = settings.kafka_sasl_password
    return SASLCredentials(
        username=settings.kafka_sasl_username,
        password=password.get_secret_value() if password is not None else None,
        ssl_context=context,
        mechanism=settings.kafka_sasl_mechanism,
    )
