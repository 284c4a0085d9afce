"""Settings for librdkafka clients: one place where addresses and security become configuration."""

from confluent_kafka import Consumer

from config.settings import Settings
from topics import security

Value = str | int | float | bool

#: After a broker was away, sending offsets may wait for it for ever, whatever its time-out says, until the state
#: of any connection changes (librdkafka issue 5511). One that is closed for idleness is such a change.
IDLE_CONNECTION_MS = 3_000

#: A request that got no answer is sent again after so long, a fifth more or less, and each time after twice as long.
RETRY_BACKOFF_MS = 300


def librdkafka(settings: Settings, **more: Value) -> dict[str, Value]:
    """Configuration of a librdkafka client for these settings; `more` has underscores for dots.

    Consumers are read-committed and never start from a guess, producers use Java's murmur2. Raises
    ConfigurationError where the settings of TLS or SASL can be no connection's.
    """
    security.check(settings)
    conf: dict[str, Value] = {
        "bootstrap.servers": settings.kafka,
        "security.protocol": settings.kafka_security_protocol,
        "client.id": settings.prefix,
        # By default 10 s and half as much again, so long after a broker is back nobody would have noticed.
        "reconnect.backoff.max.ms": 1_000,
        "log_level": 2,  # what is worse than a lost connection: those are retried, and told by our own logs
    }
    if "group_id" in more:
        # A consumer whose queue was full looks again after a second by default; who reads fast has it empty by then.
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
    """Configuration of a consumer that is assigned what it reads, commits nothing, and hears where partitions end."""
    conf: dict[str, Value] = {
        "isolation_level": "read_committed",
        "auto_offset_reset": "error",
        "enable_auto_commit": False,
        "enable_auto_offset_store": False,
        "enable_partition_eof": True,
    }
    return librdkafka(settings, group_id=group_id, **conf | more)


def of_group(settings: Settings, group: str) -> Consumer:
    """A consumer that never joins: it says which group the offsets in a transaction are of."""
    return Consumer(looking(settings, group))
