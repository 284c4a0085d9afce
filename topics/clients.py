"""Clients of librdkafka: the one place that makes them, and that turns addresses and security into settings."""

from collections.abc import Callable
from logging import Logger
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from config.settings import Settings
from topics import security

Value = str | int | float | bool

#: What librdkafka logs: only what is worse than a lost connection; those are retried, and logged by us.
LOG_LEVEL = 2


#: After a broker outage, sending offsets may wait forever, despite its time-out, until any connection changes its
#: state (librdkafka issue 5511). Closing an idle connection is such a change.
IDLE_CONNECTION_MS = 3_000

#: Pause before an unanswered request is sent again, plus or minus a fifth; it doubles each time.
RETRY_BACKOFF_MS = 300


def librdkafka(settings: Settings, **more: Value) -> dict[str, Value]:
    """Configuration of a librdkafka client for these settings; `more` has underscores for dots.
    With `log_level=0` the client does not log: whoever asks it reports that nobody answers.

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
        "log_level": LOG_LEVEL,
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
    return conf | {
        name if name == "log_level" else name.replace("_", "."): value for name, value in more.items()
    }


def producer(settings: Settings, logger: Logger | None = None, **more: Value) -> Producer:
    """A producer, which logs to this logger or to stderr."""
    conf: dict[str, Any] = {**librdkafka(settings, **more)}
    return Producer(conf | {"logger": logger} if logger else conf)


def transactional(settings: Settings, transactional_id: str, **more: Value) -> Producer:
    """A producer of large transactions. After an abort, make a new one (docs/reliability.md)."""
    conf: dict[str, Value] = {
        "transaction_timeout_ms": int(settings.transaction_timeout_s * 1_000),
        "acks": "all",
        "compression_type": "lz4",
        "connections_max_idle_ms": IDLE_CONNECTION_MS,
        "retry_backoff_ms": RETRY_BACKOFF_MS,
        "queue_buffering_max_kbytes": 1_048_576,
    }
    return Producer(librdkafka(settings, transactional_id=transactional_id, **conf | more))


def member(
    settings: Settings, group_id: str, on_error: Callable[[KafkaError], None] | None = None, **more: Value
) -> Consumer:
    """A consumer that may join its group, or whose metadata includes the group's offsets in a transaction."""
    conf: dict[str, Any] = {**librdkafka(settings, group_id=group_id, enable_auto_commit=False, **more)}
    return Consumer(conf | {"error_cb": on_error} if on_error else conf)


def standalone(settings: Settings, group_id: str, **more: Value) -> Consumer:
    """A consumer that never joins its group: it is given partitions, commits nothing, and is told where they end."""
    conf: dict[str, Value] = {
        "isolation_level": "read_committed",
        "auto_offset_reset": "error",
        "enable_auto_commit": False,
        "enable_auto_offset_store": False,
        "enable_partition_eof": True,
    }
    return Consumer(librdkafka(settings, group_id=group_id, **conf | more))


def answers(server: str) -> bool:
    """Whether a broker without security answers at this address."""
    try:
        AdminClient({"bootstrap.servers": server, "log_level": 0}).list_topics(timeout=5)
    except KafkaException:
        return False
    return True
