"""A rejection as it stands in its topic: the record that came, and behind its headers the six of the worker."""

import re
from typing import Any, NamedTuple, cast

from confluent_kafka import Message

Headers = list[tuple[str, bytes | None]]

#: The headers that the worker appends, in its order. They are the last six: upstream may send some of these names.
APPENDED = (
    "rejection.reason",
    "rejection.detail",
    "rejection.topic",
    "rejection.partition",
    "rejection.offset",
    "rejection.at",
)
#: What the worker writes as a partition or an offset.
_NUMBER = re.compile(rb"[0-9]{1,19}").fullmatch


class Appended(NamedTuple):
    """What the worker says of a record, and the headers that the record came with."""

    reason: bytes
    detail: bytes
    topic: bytes
    partition: int
    offset: int
    at_ms: int
    came: Headers


def headers_of(message: "Message[Any, Any]") -> Headers | None:
    """A message's headers; None where a name is not UTF-8, which no Python client can read."""
    try:
        # The stubs allow what a producer may be given; a consumer always gives a list of pairs, or None.
        return cast("Headers", message.headers() or [])
    except (SystemError, UnicodeDecodeError):
        return None


def appended(message: "Message[Any, Any]") -> Appended:
    """The worker's headers of a rejection, and those before them; raises ValueError if it is not one."""
    headers = headers_of(message)
    if headers is None:
        raise ValueError("the name of a header is not UTF-8")
    came, ours = headers[: -len(APPENDED)], headers[-len(APPENDED) :]
    values = [value for _, value in ours if value is not None]
    if tuple(name for name, _ in ours) != APPENDED or len(values) != len(APPENDED):
        raise ValueError("the last headers are not a rejection's")
    reason, detail, topic, partition, offset, at_ms = values
    if not _NUMBER(partition) or not _NUMBER(offset):
        raise ValueError("its rejection.partition or rejection.offset is no number")
    return Appended(reason, detail, topic, int(partition), int(offset), int(at_ms), came)


def source_of(message: "Message[Any, Any]") -> int | None:
    """The input offset that a rejection names; None if it is not a rejection."""
    try:
        return appended(message).offset
    except ValueError:
        return None
