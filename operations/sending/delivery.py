"""Produce records to the input topic, each to its partition, and wait until all are confirmed."""

import time
from collections.abc import Iterable, Iterator, Set

from confluent_kafka import KafkaError, Message
from confluent_kafka.admin import AclOperation

from config.errors import NotReachable
from config.pipeline import Pipeline
from config.settings import Settings
from operations.cli.output import Advance
from operations.sending.generator import ProducerRecord
from schemas.producer import queue
from topics import clients, rights
from topics.causes import because
from topics.cluster import check
from topics.history import refuse_while_open
from topics.names import GROWTH_BYTES, KAFKA_MESSAGE_BYTES, Topics

#: Records, or seconds, between two checks of what was delivered.
STRIDE = 500
LOOK_EVERY_S = 0.2
#: Seconds within which the last records must be confirmed.
FLUSH_S = 60.0


def may_send(settings: Settings, needed: Set[AclOperation] = rights.WRITE) -> tuple[Settings, Pipeline]:
    """The settings with what `init` has fixed, and the pipeline record.

    Raises Refused if this login lacks a needed right on the input, or the input is open for history.
    """
    pipeline = check(settings)
    settings = pipeline.rule(settings)
    rights.require(settings, {Topics.of(settings).transactions: needed}, {})
    refuse_while_open(settings)
    return settings, pipeline


def longest_message(settings: Settings) -> int:
    """Bytes of a message that a producer of any record takes, too large for the pipeline or not."""
    return max(KAFKA_MESSAGE_BYTES, 2 * settings.max_record_bytes) + 16 * GROWTH_BYTES


def deliver(settings: Settings, stream: Iterable[ProducerRecord], advance: Advance) -> int:
    """Produce records to the input topic and return how many, once every one is confirmed.

    Records too large for the pipeline are sent all the same. Raises NotReachable if a record is not confirmed; after
    the first failure, takes no more from the stream.
    """
    topic = Topics.of(settings).transactions
    failed: list[KafkaError] = []
    producer = clients.producer(
        settings,
        acks="all",
        enable_idempotence=True,
        linger_ms=20,
        message_max_bytes=longest_message(settings),
        queue_buffering_max_kbytes=262_144,
    )

    def confirmed(error: KafkaError | None, _: Message) -> None:
        if error:
            failed.append(error)

    sent, looked_s = 0, time.monotonic()
    for record in stream:
        queue(producer, topic, record.value, record.key, confirmed, record.partition, record.headers)
        sent += 1
        if sent % STRIDE == 0 or time.monotonic() - looked_s > LOOK_EVERY_S:
            looked_s = time.monotonic()
            producer.poll(0)
            advance(sent - len(producer))
            if failed:
                break
    left = producer.flush(FLUSH_S)
    advance(sent - left)
    if failed or left:
        why = failed[0] if failed else KafkaError(KafkaError._TIMED_OUT)
        raise because(
            why, NotReachable(f"{len(failed) + left} of {sent} records were not delivered: {why.str()}")
        )
    return sent


def paced(stream: Iterable[ProducerRecord], rate: float | None) -> Iterator[ProducerRecord]:
    """The same records, no faster than `rate` a second."""
    if rate is None:
        yield from stream
        return
    began = time.monotonic()
    for number, record in enumerate(stream):
        ahead_s = number / rate - (time.monotonic() - began)
        if ahead_s > 0:
            time.sleep(ahead_s)
        yield record
