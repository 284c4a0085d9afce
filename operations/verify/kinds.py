"""Records of the derived topics as librdkafka gives them, and which source they name."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import cast

from confluent_kafka import Message

from schemas.codec import HEADER_BYTES, decode_entry

Headers = Sequence[tuple[str, str | bytes | None]] | None
Record = tuple[bytes | None, bytes | None, int, Headers]

#: What stands in for headers that no Python client can read; no worker of ours writes such.
UNREADABLE: list[tuple[str, str | bytes | None]] = [("(a name that is not UTF-8)", None)]
OUR_HEADERS = 6
#: Of the largest offset that there is.
OFFSET_DIGITS = 19


@dataclass(frozen=True)
class Kind:
    """One derived topic: `identity` is None for what is no such record."""

    name: str
    identity: Callable[[Record], Hashable | None]


def record_of(message: Message) -> Record:
    """A consumed message as a record."""
    return (message.key(), message.value(), message.timestamp()[1], headers_of(message))


def headers_of(message: Message) -> Headers:
    """A message's headers, or the stand-in for unreadable ones."""
    try:
        return cast("Headers", message.headers())
    except (SystemError, UnicodeDecodeError):
        return UNREADABLE


def _entry_identity(record: Record) -> int | None:
    try:
        return decode_entry((record[1] or b"")[HEADER_BYTES:]).source_offset
    except (ValueError, IndexError):
        return None


def source_of_rejection(record: Record) -> int | None:
    """The source offset that a rejection names: the last of that name, as upstream may send one too."""
    for name, value in reversed(record[3] or ()):
        if name == "rejection.offset":
            text = value if isinstance(value, bytes) else (value or "").encode()
            return int(text) if text.isdigit() and len(text) <= OFFSET_DIGITS else None
    return None


LEDGER = Kind("ledger", _entry_identity)
REJECTIONS = Kind("rejections", source_of_rejection)
