"""How a batch, a partition and a worker end: exceptions to act on, and one line for people."""

from collections.abc import Iterable

from aiokafka import errors
from confluent_kafka import KafkaError, KafkaException

from config.errors import ConfigurationError, NotReachable, Refused, Stopped, WalletError
from config.settings import Settings
from topics.causes import because
from topics.cluster import describe_group
from topics.names import Topics

#: Members of another kind that are named in an error.
NAMED = 3
ACLS = "see docs/operations/acls.md"


class Fenced(Exception):  # noqa: N818 - a fact, not a fault
    """Another process opened this partition's transactional id: the partition has a new writer."""


class Aborted(Exception):  # noqa: N818
    """The transaction was rolled back as a whole; the batch may be tried again."""


class Interrupted(Exception):  # noqa: N818 - a fact, not a fault
    """A wait was given up: the partition was taken away, the worker stops, or a rebalance waits for its batch."""


class Torn(Refused):
    """The topics do not agree: only part of a transaction can be read, or a new owner wrote it at the same time."""


class LeftOpen(Stopped):
    """Kafka has ended this partition's newest transaction, but it is still open in these topics."""

    def __init__(self, partition: int, topics: Iterable[str]) -> None:
        super().__init__(
            f"partition {partition}: Kafka has ended a transaction and left it open in {', '.join(topics)}: the next "
            "start rolls it back and posts its records again"
        )


class Stuck(Stopped):
    """A batch does not end, and waiting for it would never end either: the process ends without an orderly stop."""


class Replaced(Stopped):
    """Another process has joined the group under this worker's name, and got its partitions."""

    def __init__(self) -> None:
        super().__init__(
            "another worker has joined the group under this one's name and replaced it: Kafka took this one for dead, "
            "or the other one runs on a copy of its machine (delete `identity` in the state folder of one)"
        )


def in_one_line(failure: BaseException, settings: Settings) -> WalletError:
    """What ended the worker, in one line. Asks Kafka if its answer is needed to say what to do."""
    match failure:
        case WalletError():
            return failure
        case KafkaException():
            return because(failure.args[0], Stopped(f"Kafka: {failure.args[0].str()}"))
        case errors.KafkaConnectionError():
            return NotReachable(f"Kafka went away: {failure}")
        case errors.KafkaError():
            return _of_the_group(failure, settings)
        case _:
            return Stopped(f"{type(failure).__name__}: {failure}")


def _of_the_group(failure: errors.KafkaError, settings: Settings) -> WalletError:
    """What the coordinator, or a broker that we fetch from, refuses."""
    group = settings.group
    match failure:
        case errors.GroupAuthorizationFailedError():
            return Refused(f"this login needs READ on the group {group}: {ACLS}")
        case errors.TopicAuthorizationFailedError():
            return Refused(f"this login needs READ on the topic {Topics.of(settings).transactions}: {ACLS}")
        case errors.InconsistentGroupProtocolError():
            return Refused(
                f"the group {group} is used by programs that are not workers: {_members(settings)}. Stop them, or give "
                "them another group"
            )
        case errors.InvalidSessionTimeoutError():
            return ConfigurationError(
                f"WALLET_SESSION_TIMEOUT_S={settings.session_timeout_s:g} is not between the broker's "
                "group.min.session.timeout.ms and group.max.session.timeout.ms: choose a value within them"
            )
        case _:
            return Stopped(f"Kafka: {type(failure).__name__}: {failure}")


def forbidden(error: KafkaError, settings: Settings, partition: int) -> Refused | None:
    """The right that a partition's writer needs, if Kafka's answer is about a right."""
    rights = {
        KafkaError.TOPIC_AUTHORIZATION_FAILED: f"WRITE on the topics that {settings.prefix} derives "
        "(with a registry on pipeline, too), READ on others",
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: f"WRITE on the transactional id {settings.group}-{partition}",
        KafkaError.GROUP_AUTHORIZATION_FAILED: f"READ on the group {settings.group}",
    }
    right = rights.get(error.code())
    return (
        Refused(f"partition {partition}: this login needs {right}: {ACLS} ({error.str()})") if right else None
    )


def _members(settings: Settings) -> str:
    """The members of the group, for people."""
    try:
        found = describe_group(settings, settings.group)
    except KafkaException as failure:
        return f"Kafka does not say which ({failure.args[0].str()})"
    named = [f"{member.client_id} at {member.host.lstrip('/')}" for member in found.members[:NAMED]]
    more = len(found.members) - len(named)
    return ", ".join([*named, *([f"{more} more"] if more else [])]) or "one that has just left"
