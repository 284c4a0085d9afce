"""`wallet generate`: the generator's records into Kafka or a file."""

import dataclasses
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import typer
from confluent_kafka import KafkaError, Message, Producer

from config.clients import librdkafka
from config.cluster import check
from config.errors import ConfigurationError, NotReachable
from config.pipeline import Pipeline
from config.settings import Settings
from config.topics import GROWTH_BYTES, Topics
from operations.generator import Mix, Record, records
from operations.lines import to_json
from operations.output import Advance, as_line, progress

#: Records between two looks at the clock and at what was delivered.
STRIDE = 500
#: The last records must be confirmed within so many seconds.
FLUSH_S = 60.0


def to_kafka(settings: Settings, count: int, mix: Mix, rate: float | None = None) -> None:
    """Send `count` records to the input topic and return when all are confirmed, saying how it went."""
    pipeline = check(settings)
    mix = fitted(mix, pipeline)
    began = time.monotonic()
    with progress("sending", count) as advance:
        deliver(settings, _paced(records(count, mix), rate), advance)
    took_s = time.monotonic() - began
    typer.echo(f"{count} records sent in {took_s:.1f} s with --seed {mix.seed}", err=True)


def fitted(mix: Mix, pipeline: Pipeline) -> Mix:
    """The mix for one pipeline: its partitions, its schema, and the limits that bad records break."""
    return dataclasses.replace(
        mix,
        partitions=pipeline.partitions,
        schema_id=pipeline.transaction_schema_id,
        max_record_bytes=pipeline.max_record_bytes,
        overdraft_rejected=pipeline.overdraft == "reject",
    )


def deliver(settings: Settings, stream: Iterable[Record], advance: Advance) -> int:
    """Produce records to their partitions and return how many, once every one is confirmed.

    Raises NotReachable if one of them is not.
    """
    topic = Topics.of(settings).transactions
    failed: list[KafkaError] = []
    producer = Producer(
        librdkafka(
            settings,
            acks="all",
            enable_idempotence=True,
            linger_ms=20,
            message_max_bytes=2 * settings.max_record_bytes + 16 * GROWTH_BYTES,
            queue_buffering_max_kbytes=262_144,
        )
    )

    def confirmed(error: KafkaError | None, _: Message) -> None:
        if error:
            failed.append(error)

    sent = 0
    for record in stream:
        while True:
            try:
                producer.produce(
                    topic,
                    record.value,
                    record.key,
                    record.partition,
                    on_delivery=confirmed,
                    headers=[*record.headers],  # a copy, since its type is wider
                )
                break
            except BufferError:
                producer.poll(0.1)
        sent += 1
        if sent % STRIDE == 0:
            producer.poll(0)
            advance(sent - len(producer))
            if failed:
                break
    left = producer.flush(FLUSH_S)
    advance(sent - left)
    if failed or left:
        reason = failed[0].str() if failed else "no confirmation in time"
        raise NotReachable(f"{len(failed) + left} of {sent} records were not delivered: {reason}")
    return sent


def to_file(path: Path, count: int, mix: Mix) -> None:
    """Write JSON Lines that `wallet send` reads; bad records that no JSON line can hold are left out."""
    try:
        output = sys.stdout if str(path) == "-" else path.open("w", encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from None
    left_out = 0
    with output:
        for record in records(count, mix):
            if record.transaction is None:
                left_out += 1
            else:
                output.write(as_line(to_json(record.transaction)) + "\n")
    said = f", {left_out} bad ones left out that JSON cannot hold" if left_out else ""
    typer.echo(f"{count - left_out} transactions written with --seed {mix.seed}{said}", err=True)


def _paced(stream: Iterator[Record], rate: float | None) -> Iterator[Record]:
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
