"""Rejections, read from the topic."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime

from confluent_kafka import Message

from config.errors import ConfigurationError
from config.settings import Settings
from config.times import rfc3339
from operations.cli.arguments import partitions_of
from schemas.avro import IllegalAvro
from schemas.codec import HEADER_BYTES, decode_transaction, frame
from schemas.records import Reason, Transaction, from_ms
from schemas.registry import writers
from topics.cluster import offsets_of, quiet_admin
from topics.names import Topics
from topics.rejections import Headers, appended
from topics.topic_log import TopicLog

#: Headers of a resubmitted record: how often it was resubmitted, and which rejection it comes from.
ATTEMPT, REJECTION_OF = "resubmit.attempt", "resubmit.of"
MOST_DIGITS = 10


@dataclass(frozen=True)
class Rejection:
    """One record of the rejections topic; key, value and headers are the original ones."""

    offset: int
    reason: str
    detail: str
    topic: str
    partition: int
    source_offset: int
    at: datetime
    key: bytes | None
    value: bytes | None
    headers: Headers

    @property
    def attempt(self) -> int:
        """How often this record had been resubmitted when it was rejected."""
        found = next((value for name, value in reversed(self.headers) if name == ATTEMPT), None)
        # Anybody may have written the header: anything but a number of sane length counts as 0.
        return int(found) if found and found.isdigit() and len(found) < MOST_DIGITS else 0

    @property
    def named(self) -> str:
        """Its source as `partition:offset`."""
        return f"{self.partition}:{self.source_offset}"


@dataclass(frozen=True)
class Wanted:
    """A filter; every given condition must hold. Offsets are of the source, `to` is excluded."""

    reasons: frozenset[str] = frozenset()
    partition: int | None = None
    from_offset: int | None = None
    to_offset: int | None = None
    from_time: datetime | None = None
    to_time: datetime | None = None
    key: str | None = None
    named: frozenset[str] | None = None

    def __post_init__(self) -> None:
        """Raise ConfigurationError if a range ends before it begins."""
        if None not in (self.from_offset, self.to_offset) and (self.from_offset or 0) > (self.to_offset or 0):
            raise ConfigurationError(
                f"--from-offset {self.from_offset} is after --to-offset {self.to_offset}"
            )
        if self.from_time and self.to_time and self.from_time > self.to_time:
            raise ConfigurationError(
                f"--from {rfc3339(self.from_time)} is later than --to {rfc3339(self.to_time)}"
            )

    def includes(self, one: Rejection) -> bool:
        """Whether a rejection passes the filter."""
        return (
            (not self.reasons or one.reason in self.reasons)
            and (self.partition is None or one.partition == self.partition)
            and (self.from_offset is None or one.source_offset >= self.from_offset)
            and (self.to_offset is None or one.source_offset < self.to_offset)
            and (self.from_time is None or one.at >= self.from_time)
            and (self.to_time is None or one.at < self.to_time)
            and (self.key is None or one.key == self.key.encode())
            and (self.named is None or one.named in self.named)
        )


def reasons_of(names: Sequence[str]) -> frozenset[str]:
    """Check reasons from the command line; raises ConfigurationError for an unknown one."""
    known = {str(reason) for reason in Reason}
    for name in names:
        if name.upper() not in known:
            raise ConfigurationError(f"--reason {name} is not one of {', '.join(sorted(known))}")
    return frozenset(name.upper() for name in names)


def read(settings: Settings, wanted: Wanted) -> Iterator[Rejection]:
    """The committed rejections, partition by partition, in the order of their source."""
    topic = Topics.of(settings).rejections
    partitions = partitions_of(settings.partitions, wanted.partition)
    ends = offsets_of(quiet_admin(settings), [(topic, at) for at in partitions])
    with closing(TopicLog(settings, topic)) as log:
        for (_, partition), at in ends.items():
            for messages in log.slices(partition, at.begin, at.end):
                for message in messages:
                    rejection = rejection_in(message)
                    if rejection is not None and wanted.includes(rejection):
                        yield rejection


def rejection_in(message: Message) -> Rejection | None:
    """A record as a rejection; None if it is not one, which `wallet verify` reports."""
    try:
        ours = appended(message)
        return Rejection(
            offset=message.offset() or 0,
            reason=ours.reason.decode(errors="replace"),
            detail=ours.detail.decode(errors="replace"),
            topic=ours.topic.decode(errors="replace"),
            partition=ours.partition,
            source_offset=ours.offset,
            at=from_ms(ours.at_ms),
            key=message.key(),
            value=message.value(),
            headers=ours.came,
        )
    except (ValueError, OverflowError):
        return None


def transaction_in(settings: Settings, schema_id: int, value: bytes | None) -> Transaction | None:
    """The transaction in a value, valid or not; None if the schema is not a Transaction's; ValueError for bad bytes."""
    if value is None or len(value) < HEADER_BYTES or value[0]:
        raise IllegalAvro("not the wire format")
    if value.startswith(frame(schema_id)):
        return decode_transaction(value[HEADER_BYTES:])
    writer = writers(settings)(int.from_bytes(value[1:HEADER_BYTES]))
    return writer.read(value[HEADER_BYTES:]) if writer else None
