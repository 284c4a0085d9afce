"""The two topics of outcomes, and which source a record of them names."""

from collections.abc import Callable
from dataclasses import dataclass

from confluent_kafka import Message

from schemas.codec import HEADER_BYTES, decode_entry
from topics.rejections import source_of


@dataclass(frozen=True)
class Kind:
    """One derived topic: `source` is None for what is no such record."""

    name: str
    source: Callable[[Message], int | None]


def _source_of_entry(message: Message) -> int | None:
    try:
        return decode_entry((message.value() or b"")[HEADER_BYTES:]).source_offset
    except (ValueError, IndexError):
        return None


LEDGER = Kind("ledger", _source_of_entry)
REJECTIONS = Kind("rejections", source_of)
