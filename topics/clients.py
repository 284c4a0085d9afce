"""Configuration of librdkafka clients: the one place that turns addresses and security into settings."""

from confluent_kafka import Consumer

from config.settings import Settings
from topics import security

Value = str | int | float | bool

#: After a broker outage, sending offsets may wait forever, despite its time-out, until any connection changes its
#: state (librdkafka issue 5511). Closing an idle connection is such a change.
IDLE_CONNECTION_MS = 3_000

#: Pause before an unanswered request is sent again, plus or minus a fifth; it doubles each time.
RETRY_BACKOFF_MS = 300


def librdkafka(settings: Settings, **more: Value) -> dict[str, Value]:
    """Configuration of a librdkafka client for these settings; `more` has underscores for dots.

    Consumers are read-committed and never start from a guess, producers use Java's murmur2. Raises
    ConfigurationError if the TLS or SASL settings cannot work.
    """
    security.check(settings)
    conf: dict[str, Value] = {
        "bootstrap.servers": settings.kafka,
        "security.protocol": settings.kafka_security_protocol,
        "client.id": settings.prefix,
        # The default of 10 s, plus half of it, would delay noticing that a broker is back.
        "reconnect.backoff.max.ms": 1_000,
        "log_level": 2,  # only worse than a lost connection: those are retried and logged by us
    }
    if "group_id" in more:
        # By default a consumer with a full queue waits a second; a fast reader has emptied it sooner.
        conf["fetch.queue.backoff.ms"] = 10
    optional = {
        "sasl.mechanism": settings.kafka_sasl_mechanism,
        "sasl.username": settings.kafka_sasl_username,
        "sasl.password": settings.kafka_sasl_password,
        "ssl.ca.location": settings.kafka_ssl_ca,
        "ssl.certificate.location": settings.kafka_ssl_certificate,
        "ssl.key.location": settings.kafka_ssl_key,
        "ssl.key.password": settings.kafka_ssl_key_password,
    }
    for name, value in optional.items():
        if value is not None:
            conf[name] = value.get_secret_value() if hasattr(value, "get_secret_value") else str(value)
    return conf | {name.replace("_", "."): value for name, value in more.items()}


def transactional(settings: Settings, transactional_id: str, **more: Value) -> dict[str, Value]:
    """Configuration of a producer of large transactions. After an abort, make a new one (docs/reliability.md)."""
    conf: dict[str, Value] = {
        "transaction_timeout_ms": int(settings.transaction_timeout_s * 1_000),
        "acks": "all",
        "compression_type": "lz4",
        "connections_max_idle_ms": IDLE_CONNECTION_MS,
        "retry_backoff_ms": RETRY_BACKOFF_MS,
        "queue_buffering_max_kbytes": 1_048_576,
    }
    return librdkafka(settings, transactional_id=transactional_id, **conf | more)


def looking(settings: Settings, group_id: str, **more: Value) -> dict[str, Value]:
    """Configuration of a consumer with assigned partitions that commits nothing and is told where partitions end."""
    conf: dict[str, Value] = {
        "isolation_level": "read_committed",
        "auto_offset_reset": "error",
        "enable_auto_commit": False,
        "enable_auto_offset_store": False,
        "enable_partition_eof": True,
    }
    return librdkafka(settings, group_id=group_id, **conf | more)


def of_group(settings: Settings, group: str) -> Consumer:
    """A consumer that never joins; it names the group of the offsets in a transaction."""
    return Consumer(looking(settings, group))
