"""Records with a header whose name is not UTF-8: no Python client can read such headers.

Kafka's protocol forbids them and brokers let them in. aiokafka raises in the middle of a fetch, which would
end the worker at the same record for ever. So the stretch up to that record is read again by librdkafka,
which gives key and value; the headers of such a record are taken as none, and the log says so.
"""

import time

from confluent_kafka import Consumer, Message, TopicPartition

from config.clients import librdkafka
from config.errors import Stopped
from config.logs import EventLog
from config.settings import Settings
from streams.batch import Headers, Source

log = EventLog("streams.unreadable")


class UnreadableHeader(Exception):  # noqa: N818 - a fact about a record
    """The record at or after `offset` has a header whose name is not UTF-8."""

    def __init__(self, topic: str, partition: int, offset: int) -> None:
        super().__init__(topic, partition, offset)
        self.topic = topic
        self.partition = partition
        self.offset = offset


def read_through(settings: Settings, bad: UnreadableHeader, start: int) -> list[Source]:
    """The records from `start` to the unreadable one, included. Blocking; raises Stopped when none come."""
    reader = Consumer(
        librdkafka(
            settings,
            group_id=settings.group,
            isolation_level="read_committed",
            auto_offset_reset="error",
            enable_auto_commit=False,
        )
    )
    records: list[Source] = []
    deadline = time.monotonic() + settings.stall_s
    try:
        reader.assign([TopicPartition(bad.topic, bad.partition, start)])
        while not records or records[-1].offset < bad.offset:
            message = reader.poll(0.1)
            if message is not None and message.error() is None:
                records.append(_source(message))
            elif time.monotonic() > deadline:
                raise Stopped(f"partition {bad.partition}: the record at {bad.offset} cannot be read")
    finally:
        reader.close()
    return records


def _source(message: Message) -> Source:
    offset = message.offset() or 0
    headers: Headers = ()
    try:
        headers = message.headers() or ()  # type: ignore[assignment]  # names are str, values bytes or None
    except (SystemError, UnicodeDecodeError):
        log.warning("headers_unreadable", partition=message.partition(), offset=offset)
    return Source(offset, message.timestamp()[1], message.key(), message.value(), headers)
