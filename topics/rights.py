"""Check a login's rights before the work starts, to name a missing right instead of waiting for it."""

from collections.abc import Callable, Mapping, Set
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AclOperation

from config.errors import NotReachable, Refused
from config.settings import Settings
from topics.causes import DENIED, WHERE, passes
from topics.cluster import ASK_S, answered, describe_group, quiet_admin

#: A group exists only from its first member on.
_NOT_THERE = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.GROUP_ID_NOT_FOUND})

#: Needed operations by topic or group.
Needed = Mapping[str, Set[AclOperation]]

READ, WRITE = frozenset({AclOperation.READ}), frozenset({AclOperation.WRITE})
DESCRIBE, ALTER_CONFIGS = frozenset({AclOperation.DESCRIBE}), frozenset({AclOperation.ALTER_CONFIGS})


def require(settings: Settings, topics: Needed, groups: Needed) -> None:
    """Raise Refused naming each right that is missing on these topics and groups.

    Ignores topics that do not exist: other checks report these.
    """
    answers: dict[tuple[str, str], Callable[[], Any]] = {}
    if topics:
        client = quiet_admin(settings)
        asked = client.describe_topics(
            TopicCollection([*topics]), include_authorized_operations=True, request_timeout=ASK_S
        )
        answers |= {("topic", name): partial(answered, answer) for name, answer in asked.items()}
    answers |= {("group", name): partial(describe_group, settings, name, rights=True) for name in groups}
    lacking = [
        f"{one.name} on {kind} {name}"
        for (kind, name), answer in answers.items()
        for needed in [(topics if kind == "topic" else groups)[name]]
        for one in needed - _allowed(answer, needed)
    ]
    if lacking:
        raise Refused(f"this login lacks rights in Kafka: {', '.join(sorted(lacking))}; {WHERE}")


def _allowed(answer: Callable[[], Any], needed: Set[AclOperation]) -> Set[AclOperation]:
    """What the login may do, from the answer; missing or unanswered counts as allowed."""
    try:
        return set(answer().authorized_operations or needed)
    except KafkaException as failure:
        error: KafkaError = failure.args[0]
    if error.code() in DENIED:
        return set()
    if error.code() in _NOT_THERE or passes(error):
        return needed
    raise NotReachable(f"Kafka did not return what this login may do: {error.str()}")
