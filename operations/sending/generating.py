"""`wallet generate`: write the generator's records to Kafka or a file."""

import sys
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import typer

from config.errors import ConfigurationError
from config.pipeline import Pipeline
from config.settings import Settings
from operations.cli.output import as_line, progress
from operations.sending.delivery import deliver, may_send, paced
from operations.sending.generator import Mix, records
from operations.sending.lines import to_json


@dataclass(frozen=True)
class Generated:
    """What was sent, or written to `out`; bad records that JSON cannot hold are left out of a file."""

    records: int
    left_out: int
    seed: int
    out: str | None
    took_s: float


def show(made: Generated, *, as_json: bool) -> None:
    """Print it, on stderr unless as JSON: a file may go to standard output."""
    if as_json:
        typer.echo(as_line(asdict(made)))
    elif made.out is None:
        typer.echo(f"{made.records} records sent in {made.took_s:.1f} s with --seed {made.seed}", err=True)
    else:
        left = f", {made.left_out} bad ones left out that JSON cannot hold" if made.left_out else ""
        typer.echo(f"{made.records} transactions written with --seed {made.seed}{left}", err=True)


def to_kafka(settings: Settings, count: int, mix: Mix, rate: float | None = None) -> Generated:
    """Send `count` records to the input topic, and return when all are confirmed."""
    settings, pipeline = may_send(settings)
    mix = fitted(mix, pipeline)
    began = time.monotonic()
    with progress("sending", count) as advance:
        deliver(settings, paced(records(count, mix), rate), advance)
    return Generated(count, 0, mix.seed, None, round(time.monotonic() - began, 3))


def fitted(mix: Mix, pipeline: Pipeline) -> Mix:
    """The mix for one pipeline: its partitions, its schema, and the limits that bad records break."""
    return replace(
        mix,
        partitions=pipeline.partitions,
        schema_id=pipeline.transaction_schema_id,
        max_record_bytes=pipeline.max_record_bytes,
        overdraft_rejected=pipeline.overdraft == "reject",
    )


def to_file(path: Path, count: int, mix: Mix) -> Generated:
    """Write JSON Lines for `wallet send`; leaves out bad records that JSON cannot hold."""
    try:
        output = nullcontext(sys.stdout) if str(path) == "-" else path.open("w", encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from None
    left_out, began = 0, time.monotonic()
    with output as lines:
        for record in records(count, mix):
            if record.transaction is None:
                left_out += 1
            else:
                lines.write(as_line(to_json(record.transaction)) + "\n")
    return Generated(count - left_out, left_out, mix.seed, str(path), round(time.monotonic() - began, 3))
