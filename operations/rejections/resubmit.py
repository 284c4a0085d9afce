"""`wallet rejections resubmit`: send rejected records again, as new records at the end of the input.

Nothing is changed: the rejection stays, and the new record gets its own outcome, so the conservation law holds. Each
new record names its rejection, so the input itself says which were resubmitted: after an interruption, run it again,
and no rejection is resubmitted twice. Nor by two runs at once: the later one ends the earlier one before it reads what
that has sent.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from threading import Event

import typer

from config.errors import ConfigurationError
from config.pipeline import Pipeline
from config.settings import Settings
from config.stopping import NEVER
from operations.cli.output import Advance, as_line, progress
from operations.looking.time_lookup import offsets_at
from operations.rejections.listing import (
    ATTEMPT,
    REJECTION_OF,
    Rejection,
    Wanted,
    ends_of,
    read,
    transaction_in,
)
from operations.sending.delivery import longest_message, may_send, paced
from operations.sending.generator import ProducerRecord
from schemas.partitioner import partition_of
from schemas.records import Reason
from topics import rights
from topics.cluster import describe, offsets_in, quiet_admin
from topics.exactly_once import ExactlyOnce
from topics.incoming import Incoming
from topics.names import Topics
from topics.source import Source

#: Look for resubmitted records from this long before the first rejection: brokers' clocks differ.
CLOCKS_DIFFER = timedelta(hours=1)
CHUNK = 5_000
#: Records in one Kafka transaction: those of so many seconds, but no more than this.
AT_ONCE_S, MOST_AT_ONCE = 0.2, 500
MOST_NAMED_BYTES = 40
#: Records without a rejection that are shown; --json has all.
SHOWN = 20
_NAMED = re.compile(r"([0-9]{1,19})[\s:,]+([0-9]{1,19})")


@dataclass(frozen=True)
class Options:
    """How to resubmit; `rate` is records per second."""

    execute: bool = False
    rate: float = 500.0
    most_attempts: int = 3
    key_from_wallet: bool = False


@dataclass
class Outcome:
    """What happened, or would happen, to each wanted rejection; `skipped` counts them by cause.

    `not_found` are source records from --offsets without a wanted rejection.
    """

    executed: bool
    resubmitted: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    not_found: list[str] = field(default_factory=list)


def named_in(file: Path) -> frozenset[str]:
    """Source records listed in a file, one `partition:offset` a line; # starts a comment."""
    try:
        lines = file.read_text("utf-8-sig").splitlines()
    except OSError as error:
        raise ConfigurationError(f"--offsets {file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"--offsets {file} cannot be read: {error}") from None
    named = set()
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        found = _NAMED.fullmatch(text)
        if found is None:
            raise ConfigurationError(
                f"--offsets {file} line {number} is {text[:40]!r}: write PARTITION:OFFSET"
            )
        named.add(f"{int(found[1])}:{int(found[2])}")
    return frozenset(named)


@dataclass
class Plan:
    """What is to be sent: `again` is taken once, and counts into `outcome` what it gives and what it skips."""

    settings: Settings
    #: What is to be sent with; None for a dry run.
    writer: "Resubmitter | None"
    #: Rejections to look at, and where each partition of their topic ended when the plan was made.
    count: int
    ends: Mapping[int, int]
    again: Iterator[ProducerRecord]
    outcome: Outcome


def plan(
    settings: Settings,
    wanted: Wanted,
    options: Options,
    ends: Mapping[int, int] | None = None,
    stop: Event = NEVER,
) -> Plan:
    """Look at what is wanted; sends nothing, but with `execute` ends another run.

    `ends` are those of an earlier plan, to go no further than that.
    Raises Stopped once `stop` is set, and so does what it gives.
    """
    if wanted == Wanted():
        raise ConfigurationError(
            "say what to resubmit: one or more of --reason, --partition, --from-offset, --to-offset, --offsets"
        )
    needed = rights.READ | rights.WRITE if options.execute else rights.READ
    settings, pipeline = may_send(settings, needed)
    outcome = Outcome(options.execute)
    if ends is None:
        ends = ends_of(settings, wanted)
    count, earliest, found = _looked_up(read(settings, wanted, ends, stop), wanted)
    outcome.not_found = sorted((wanted.named or frozenset()) - found, key=_place)
    # 1. End an earlier run, 2. then read what it has sent, 3. then send.
    writer = Resubmitter(settings) if options.execute else None
    done = _done_before(settings, earliest, stop) if earliest else set()
    again = _chosen(settings, pipeline, read(settings, wanted, ends, stop), done, options, outcome)
    return Plan(settings, writer, count, ends, again, outcome)


class Resubmitter(ExactlyOnce):
    """The one producer that resubmits in a pipeline: `<prefix>-resubmit` is its transactional id."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(
            settings,
            f"{settings.prefix}-resubmit",
            f"{settings.prefix}.resubmit",
            taken_over=f"another resubmission in the pipeline {settings.prefix!r} has begun, which ends this one",
            again="run it again to continue",
            linger_ms=20,
            message_max_bytes=longest_message(settings),
        )
        self._topic = Topics.of(settings).transactions
        self.open()

    def send(self, some: Sequence[ProducerRecord]) -> None:
        """Write these records, all or none."""
        records = ((one.value, one.key, one.partition, 0, one.headers) for one in some)
        self.write(self._topic, records, [])


def send(planned: Plan, rate: float, advance: Advance) -> None:
    """Send it, at most so many records a second.

    Raises NotReachable if a record is not confirmed, Stopped if another run has begun.
    """
    assert planned.writer is not None  # noqa: S101 - it is no dry run
    sent, most = 0, max(1, min(MOST_AT_ONCE, int(rate * AT_ONCE_S)))
    paced_again = paced(planned.again, rate)
    with closing(planned.writer) as writer:
        while some := [*islice(paced_again, most)]:
            writer.send(some)
            advance(sent := sent + len(some))


def run(settings: Settings, wanted: Wanted, options: Options, *, as_json: bool) -> None:
    """Resubmit what is wanted, or say what would happen; raises NotReachable if a record is not confirmed."""
    planned = plan(settings, wanted, options)
    if options.execute:
        with progress("resubmitting", planned.count) as advance:
            send(planned, options.rate, advance)
    else:
        for _ in planned.again:
            pass
    _show(planned.outcome, as_json=as_json)


def _looked_up(rejections: Iterable[Rejection], wanted: Wanted) -> tuple[int, datetime | None, set[str]]:
    """How many rejections are wanted, the time of the first one, and which named ones exist."""
    count, earliest = 0, None
    found: set[str] = set()
    for count, rejection in enumerate(rejections, 1):  # noqa: B007 - the last count is the result
        earliest = rejection.at if earliest is None else min(earliest, rejection.at)
        if wanted.named:
            found.add(rejection.named)
    return count, earliest, found


def _place(named: str) -> tuple[int, int]:
    partition, _, offset = named.partition(":")
    return int(partition), int(offset)


def _chosen(
    settings: Settings,
    pipeline: Pipeline,
    rejections: Iterable[Rejection],
    done: set[str],
    options: Options,
    outcome: Outcome,
) -> Iterator[ProducerRecord]:
    """The records to send, in the order of the rejections; counts them and the skipped ones."""
    for rejection in rejections:
        again = None
        if rejection.named in done:
            why = "resubmitted before"
        elif rejection.reason == Reason.TOO_LARGE:
            why = "too large; it would be rejected again"
        elif rejection.attempt >= options.most_attempts:
            why = f"{options.most_attempts} attempts made"
        else:
            again, why = _again(settings, pipeline, rejection, options)
        if again is None:
            outcome.skipped[why] += 1
        else:
            outcome.resubmitted[rejection.reason] += 1
            yield again


def _again(
    settings: Settings, pipeline: Pipeline, rejection: Rejection, options: Options
) -> tuple[ProducerRecord | None, str]:
    """The record to send for a rejection, or None and why."""
    key = rejection.key
    if options.key_from_wallet:
        try:
            transaction = transaction_in(settings, pipeline.transaction_schema_id, rejection.value)
        except ValueError:
            transaction = None
        if transaction is None:
            return None, "no wallet id to take the key from"
        key = transaction.wallet_id.encode()
    headers = [(name, value) for name, value in rejection.headers if name not in {ATTEMPT, REJECTION_OF}]
    headers += [(ATTEMPT, b"%d" % (rejection.attempt + 1)), (REJECTION_OF, rejection.named.encode())]
    size = len(key or b"") + len(rejection.value or b"")
    size += sum(len(name.encode()) + len(value or b"") for name, value in headers)
    if size > pipeline.max_record_bytes:
        return None, "too large with the headers of a resubmission"
    # Where a partitioner would put it; a record without a key goes to its old partition.
    partition = rejection.partition if key is None else partition_of(key, pipeline.partitions)
    return ProducerRecord(key, rejection.value, headers, partition), ""


def _done_before(settings: Settings, since: datetime, stop: Event) -> set[str]:
    """The rejections that input records say they come from; such records can only be newer than the rejection."""
    topic = Topics.of(settings).transactions
    client = quiet_admin(settings)
    ends = offsets_in(client, [(topic, at) for at in range(settings.partitions)])
    starts: dict[int, int | None] = {at: found.begin for (_, at), found in ends.items()}
    if describe(client, [topic])[topic].on_brokers_time:
        starts = offsets_at(settings, range(settings.partitions), since - CLOCKS_DIFFER)
    done: set[str] = set()
    with closing(Incoming(settings, topic, stop=stop)) as incoming:
        for (_, partition), found in ends.items():
            if (start := starts.get(partition)) is None:
                continue
            for records in incoming.stretches(partition, max(start, found.begin), found.end, CHUNK):
                done |= {named for record in records if (named := _rejection_of(record))}
    return done


def _rejection_of(record: Source) -> str | None:
    for name, value in reversed(record.headers):
        # Anybody may have written the header: ignore one longer than any position.
        if name == REJECTION_OF and value is not None and len(value) <= MOST_NAMED_BYTES:
            return value.decode(errors="replace")
    return None


def _show(outcome: Outcome, *, as_json: bool) -> None:
    if as_json:
        typer.echo(as_line(vars(outcome)))
        return
    verb = "resubmitted" if outcome.executed else "would be resubmitted"
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(outcome.resubmitted.items()))
    typer.echo(f"{outcome.resubmitted.total()} {verb}{f' ({reasons})' if reasons else ''}")
    for why, count in sorted(outcome.skipped.items()):
        typer.echo(f"{count} skipped: {why}")
    if outcome.not_found:
        more = "" if len(outcome.not_found) <= SHOWN else ", …"
        typer.echo(
            f"{len(outcome.not_found)} of --offsets have no matching rejection: "
            f"{', '.join(outcome.not_found[:SHOWN])}{more}"
        )
    if not outcome.executed and outcome.resubmitted:
        typer.echo("dry run, nothing was sent: add --execute to do it")
