"""Check a login's rights before the work starts, to name a missing right instead of waiting for it."""

from collections.abc import Mapping, Set
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AclOperation, AdminClient

from config.errors import NotReachable, Refused
from topics.causes import DENIED, WHERE, passes
from topics.cluster import ASK_S, answered

#: A group exists only from its first member on.
_NOT_THERE = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.GROUP_ID_NOT_FOUND})

#: Needed operations by topic or group.
Needed = Mapping[str, Set[AclOperation]]

READ, WRITE = frozenset({AclOperation.READ}), frozenset({AclOperation.WRITE})
DESCRIBE, ALTER_CONFIGS = frozenset({AclOperation.DESCRIBE}), frozenset({AclOperation.ALTER_CONFIGS})


def require(client: AdminClient, topics: Needed, groups: Needed) -> None:
    """Raise Refused naming each right that is missing on these topics and groups.

    Ignores topics that do not exist: other checks report these.
    """
    answers: dict[tuple[str, str], Future[Any]] = {}
    if topics:
        asked = client.describe_topics(
            TopicCollection([*topics]), include_authorized_operations=True, request_timeout=ASK_S
        )
        answers |= {("topic", name): answer for name, answer in asked.items()}
    for name in groups:  # one request cannot name several
        (answer,) = client.describe_consumer_groups(
            [name], include_authorized_operations=True, request_timeout=ASK_S
        ).values()
        answers["group", name] = answer
    lacking = [
        f"{one.name} on {kind} {name}"
        for (kind, name), answer in answers.items()
        for needed in [(topics if kind == "topic" else groups)[name]]
        for one in needed - _allowed(answer, needed)
    ]
    if lacking:
        raise Refused(f"this login lacks rights in Kafka: {', '.join(sorted(lacking))}; {WHERE}")


def _allowed(answer: "Future[Any]", needed: Set[AclOperation]) -> Set[AclOperation]:
    """What the login may do, from the answer; missing or unanswered counts as allowed."""
    try:
        return set(answered(answer).authorized_operations or needed)
    except KafkaException as failure:
        error: KafkaError = failure.args[0]
    if error.code() in DENIED:
        return set()
    if error.code() in _NOT_THERE or passes(error):
        return needed
    raise NotReachable(f"Kafka did not return what this login may do: {error.str()}")
