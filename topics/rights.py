"""What a login may do, asked before the work begins: a program that lacks a right says which, instead of waiting."""

from collections.abc import Mapping, Set
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AclOperation, AdminClient

from config.errors import NotReachable, Refused
from topics.causes import DENIED, WHERE
from topics.cluster import ASK_S, answered, passes

#: A group is there from its first member on.
_NOT_THERE = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.GROUP_ID_NOT_FOUND})

#: By the name of a topic or a group.
Needed = Mapping[str, Set[AclOperation]]

READ, WRITE = frozenset({AclOperation.READ}), frozenset({AclOperation.WRITE})
DESCRIBE, ALTER_CONFIGS = frozenset({AclOperation.DESCRIBE}), frozenset({AclOperation.ALTER_CONFIGS})


def require(client: AdminClient, topics: Needed, groups: Needed) -> None:
    """Raise Refused naming each right that is missing on these topics and groups.

    Topics that do not exist are left to whoever looks for them.
    """
    answers: dict[tuple[str, str], Future[Any]] = {}
    if topics:
        asked = client.describe_topics(
            TopicCollection([*topics]), include_authorized_operations=True, request_timeout=ASK_S
        )
        answers |= {("topic", name): answer for name, answer in asked.items()}
    for name in groups:  # several in one question are not taken
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
    """What the login may do to something, as it was answered; what is not there, or not told, counts as allowed."""
    try:
        return set(answered(answer).authorized_operations or needed)
    except KafkaException as failure:
        error: KafkaError = failure.args[0]
    if error.code() in DENIED:
        return set()
    if error.code() in _NOT_THERE or passes(error):
        return needed
    raise NotReachable(f"Kafka did not tell what this login may do: {error.str()}")
