"""A record of the topic `rejections`: what came, and behind its headers the six that say why it was rejected."""

from typing import NamedTuple, cast

from confluent_kafka import Message

#: The headers that a worker appends, in its order. Upstream may send some under the same names: ours are the last.
OURS = (
    "rejection.reason",
    "rejection.detail",
    "rejection.topic",
    "rejection.partition",
    "rejection.offset",
    "rejection.at",
)
#: Of the largest offset that there is.
OFFSET_DIGITS = 19

Headers = list[tuple[str, bytes | None]]


class Rejected(NamedTuple):
    """What the six headers say, and those that came."""

    reason: bytes
    detail: bytes
    topic: bytes
    partition: int
    source_offset: int
    at_ms: int
    came: Headers


def headers_of(message: Message) -> Headers | None:
    """A message's headers; None where a name is no UTF-8, which no Python client can read and no worker writes."""
    try:
        # The stubs allow what a producer may be given; a consumer always gives a list of pairs, or None.
        return cast("Headers", message.headers() or [])
    except (SystemError, UnicodeDecodeError):
        return None


def rejected(message: Message) -> Rejected:
    """A record of the topic; raises ValueError for one that is no rejection."""
    headers = headers_of(message)
    if headers is None:
        raise ValueError("the name of a header is not UTF-8")
    came, ours = headers[: -len(OURS)], headers[-len(OURS) :]
    values = [value for _, value in ours if value is not None]
    if tuple(name for name, _ in ours) != OURS or len(values) != len(OURS):
        raise ValueError("the last headers are not a rejection's")
    reason, detail, topic, partition, offset, at_ms = values
    return Rejected(reason, detail, topic, int(partition), int(offset), int(at_ms), came)


def source_of(message: Message) -> int | None:
    """The source offset that a rejection names, in the last header of that name; None for one that names none."""
    for name, value in reversed(headers_of(message) or []):
        if name == OURS[4]:
            text = value or b""
            return int(text) if text.isdigit() and len(text) <= OFFSET_DIGITS else None
    return None
