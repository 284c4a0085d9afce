"""`wallet generate`: write the generator's records to Kafka or a file."""

import dataclasses
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import typer

from config.errors import ConfigurationError
from config.pipeline import Pipeline
from config.settings import Settings
from operations.cli.output import as_line, progress
from operations.sending.delivery import deliver, may_send, paced
from operations.sending.generator import Mix, records
from operations.sending.lines import to_json


def to_kafka(settings: Settings, count: int, mix: Mix, rate: float | None = None) -> None:
    """Send `count` records to the input topic, return when all are confirmed, and print the rate."""
    settings, pipeline = may_send(settings)
    mix = fitted(mix, pipeline)
    began = time.monotonic()
    with progress("sending", count) as advance:
        deliver(settings, paced(records(count, mix), rate), advance)
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


def to_file(path: Path, count: int, mix: Mix) -> None:
    """Write JSON Lines for `wallet send`; leaves out bad records that JSON cannot hold."""
    try:
        output = nullcontext(sys.stdout) if str(path) == "-" else path.open("w", encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from None
    left_out = 0
    with output as lines:
        for record in records(count, mix):
            if record.transaction is None:
                left_out += 1
            else:
                lines.write(as_line(to_json(record.transaction)) + "\n")
    said = f", {left_out} bad ones left out that JSON cannot hold" if left_out else ""
    typer.echo(f"{count - left_out} transactions written with --seed {mix.seed}{said}", err=True)
