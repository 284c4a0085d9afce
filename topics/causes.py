"""Why Kafka does not answer: what librdkafka reports only to its error callback, and what a TLS handshake shows.

All of these read "Broker transport failure" in the answer to a request: a refused login, an untrusted certificate, a
host without an address, a port on which nobody listens.
"""

import re
import socket
import ssl

from confluent_kafka import KafkaError, KafkaException, Producer

from config.errors import ConfigurationError, NotReachable, Refused, WalletError
from config.settings import Settings
from topics import security

#: Most seconds for our own look at a server.
LOOK_S = 3.0
#: What librdkafka writes around the cause: whom it asked, and when.
_AROUND = re.compile(r"^\S+?/\S+: |\s*\(after \d+ms in state \w+[^)]*\)")
#: How a broker says that it refuses our certificate, or that there is none.
_ALERT = re.compile(r"alert (bad certificate|certificate \w+|unknown ca|unsupported certificate)")
#: A right is missing; the error does not say on what.
DENIED = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    }
)
#: Another producer has opened the same transactional id, or Kafka has ended this one's transaction.
FENCED = frozenset({KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED})
#: Answers while a topic is new, a leader was lost, or a group has lost its coordinator.
_PASSING = frozenset(
    {
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_PARTITION,  # the same from a client that has heard of the topic only
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.FENCED_LEADER_EPOCH,  # an admin client remembers a broker that has restarted since
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.OFFSET_NOT_AVAILABLE,  # a leader that was just elected
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.KAFKA_STORAGE_ERROR,
        KafkaError.UNSTABLE_OFFSET_COMMIT,
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TIMED_OUT,
        KafkaError._NOENT,  # librdkafka's "no leaders found"
    }
)
WHERE = "docs/operations/acls.md has what each program needs"
#: Nobody listens, or the address is impossible.
_AWAY = (OSError, OverflowError, ValueError)


def error_of(failure: BaseException) -> KafkaError | None:
    """The Kafka error that a client raised; None for anything else.

    If confluent-kafka (2.16) already has an error when it calls a delivery report, it raises a SystemError with that
    error as its cause.
    """
    told = failure.__cause__ if isinstance(failure, SystemError) else failure
    error = told.args[0] if isinstance(told, KafkaException) else None
    return error if isinstance(error, KafkaError) else None


def error_in(failure: Exception) -> KafkaError:
    """The same; anything but a Kafka error is raised again."""
    error = error_of(failure)
    if error is None:
        raise failure
    return error


def lasts(failure: KafkaException) -> bool:
    """Whether asking again cannot help."""
    return not passes(failure.args[0])


def passes(error: KafkaError) -> bool:
    """Whether asking again may help; Kafka marks only errors of transactions as `retriable`."""
    return error.retriable() or error.code() in _PASSING


def fatal_cause(producer: Producer, error: KafkaError, wait_s: float) -> KafkaError:
    """What made a transactional producer useless: most calls say only that something did, an abort says what."""
    if error.code() != KafkaError._FATAL:
        return error
    try:
        producer.abort_transaction(wait_s)
    except (KafkaException, SystemError) as failure:
        return error_in(failure)
    return error


class Causes:
    """An `error_cb` that remembers the newest error of a connection."""

    def __init__(self) -> None:
        self._newest: KafkaError | None = None

    def __call__(self, error: KafkaError) -> None:
        """Called by librdkafka, while its client is polled."""
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self._newest = error

    def __str__(self) -> str:
        return _AROUND.sub("", self._newest.str()) if self._newest else ""

    def lasting(self, settings: Settings) -> WalletError | None:
        """The error to end with if waiting cannot help; None if it may."""
        code, told = self._newest.code() if self._newest else None, str(self)
        if code == KafkaError._AUTHENTICATION and "timed out" not in told:
            return ConfigurationError(
                f"Kafka at {settings.kafka} refused the login of {settings.kafka_sasl_username!r} ({told}): see "
                "WALLET_KAFKA_SASL_USERNAME, WALLET_KAFKA_SASL_PASSWORD and WALLET_KAFKA_SASL_MECHANISM"
            )
        if code == KafkaError._SSL:
            return _untrusted(settings)
        if alert := _ALERT.search(told):
            ours = settings.kafka_ssl_certificate or "no certificate"
            return ConfigurationError(
                f"Kafka at {settings.kafka} was shown {ours} and refused it ({alert[1]}): see "
                "WALLET_KAFKA_SSL_CERTIFICATE and WALLET_KAFKA_SSL_KEY"
            )
        return None


def _untrusted(settings: Settings) -> WalletError | None:
    """What is wrong with a server's certificate, since librdkafka does not say."""
    if (context := security.tls(settings)) is None:
        return None
    for host, port in _servers(settings):
        at = f"{host}:{port}"
        try:
            with (
                socket.create_connection((host, port), LOOK_S) as connection,
                context.wrap_socket(connection, server_hostname=host),
            ):
                pass
        except ssl.SSLCertVerificationError as error:
            why = error.verify_message
            if "expired" in why or "not yet valid" in why:
                return NotReachable(f"the certificate of Kafka at {at} is not valid: {why}; have it renewed")
            if "mismatch" in why:
                return ConfigurationError(
                    f"the certificate of Kafka at {at} is for another host: {why}; write the host in WALLET_KAFKA "
                    "as in its certificate"
                )
            return ConfigurationError(
                f"the certificate of Kafka at {at} is not trusted: {why}; set WALLET_KAFKA_SSL_CA to the "
                "authority that signed it"
            )
        except _AWAY:
            continue
    return None


def because(error: KafkaError, otherwise: WalletError) -> WalletError:
    """The error to raise: `otherwise`, or Refused with the same text if a right is missing."""
    return Refused(f"{otherwise}; {WHERE}") if error.code() in DENIED else otherwise


def unanswered(what: str, error: KafkaError, tried_s: float) -> WalletError:
    """The error to raise for a question that was asked again for so long; `what` Kafka did not do."""
    told = f"Kafka did not {what}"
    if not passes(error):
        return because(error, NotReachable(f"{told}: {error.str()}"))
    return NotReachable(
        f"{told} within {tried_s:g} s ({error.str()}): see whether a broker is down or a partition has no leader, then "
        "run this again"
    )


def speaks_otherwise(settings: Settings) -> bool:
    """Whether something listens on a server's port but does not answer like Kafka."""
    for server in _servers(settings):
        try:
            with socket.create_connection(server, LOOK_S):
                return True
        except _AWAY:
            continue
    return False


def _servers(settings: Settings) -> list[tuple[str, int]]:
    """Host and port of each bootstrap server; Kafka's default port if none is given."""
    found = []
    for server in settings.kafka.split(","):
        host, _, port = server.strip().rpartition(":")
        host, port = (host, port) if port.isdecimal() else (server.strip(), "9092")
        found.append((host.strip("[]"), int(port)))
    return found
