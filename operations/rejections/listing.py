"""`wallet rejections list` and `show`: rejections, read from the topic, for people and for programs."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from threading import Event

import typer
from confluent_kafka import Message
from rich.table import Table
from rich.text import Text

from audit.report import shown
from config.errors import ConfigurationError, WalletError
from config.settings import Settings
from config.stopping import NEVER
from config.times import rfc3339
from operations.cli.arguments import partitions_of
from operations.cli.output import as_line, show_table, table
from schemas.avro import IllegalAvro
from schemas.codec import HEADER_BYTES, decode_transaction, frame
from schemas.records import TYPES, Reason, Transaction, from_ms
from schemas.registry import Writers
from topics.cluster import agreed, check, offsets_in, quiet_admin
from topics.incoming import Incoming
from topics.names import Topics
from topics.rejections import Headers, appended
from topics.source import Sizes, Source
from topics.topic_log import TopicLog

#: Headers of a resubmitted record: how often it was resubmitted, and which rejection it comes from.
ATTEMPT, REJECTION_OF = "resubmit.attempt", "resubmit.of"
MOST_DIGITS = 10
#: Characters of a field that are shown; --json has all.
SHOWN_CHARACTERS = 2_000

Summary = dict[str, object]


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


def ends_of(settings: Settings, wanted: Wanted) -> dict[int, int]:
    """Where each partition of the rejections that may hold wanted ones ends now."""
    topic = Topics.of(settings).rejections
    partitions = partitions_of(settings.partitions, wanted.partition)
    found = offsets_in(quiet_admin(settings), [(topic, at) for at in partitions])
    return {partition: at.end for (_, partition), at in found.items()}


def read(
    settings: Settings, wanted: Wanted, ends: Mapping[int, int] | None = None, stop: Event = NEVER
) -> Iterator[Rejection]:
    """The committed rejections, partition by partition, in the order of their source, until `stop` is set.

    With `ends`, only the partitions that it names, each up to its offset.
    """
    topic = Topics.of(settings).rejections
    partitions = partitions_of(settings.partitions, wanted.partition)
    there = offsets_in(quiet_admin(settings), [(topic, at) for at in partitions])
    with closing(TopicLog(settings, topic, stop=stop)) as log:
        for (_, partition), at in there.items():
            end = at.end if ends is None else min(at.end, ends.get(partition, 0))
            for messages in log.slices(partition, at.begin, end):
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
    writer = Writers(settings)(int.from_bytes(value[1:HEADER_BYTES]))
    return writer.read(value[HEADER_BYTES:]) if writer else None


def show_list(settings: Settings, wanted: Wanted, limit: int, *, as_json: bool) -> None:
    """Print the first `limit` wanted rejections, and counts by reason."""
    settings = agreed(settings)
    counts: Counter[str] = Counter()
    # Keep rows, not rejections: each may be as large as a record.
    listed: list[Summary] = []
    for rejection in read(settings, wanted):
        counts[rejection.reason] += 1
        if len(listed) < limit:
            listed.append(_summary(rejection))
    in_order = {str(reason): counts[reason] for reason in Reason if counts[reason]}
    if as_json:
        typer.echo(as_line({"counts": in_order, "rejections": listed}))
        return
    if listed:
        show_table(_table(listed))
    if counts.total() > len(listed):
        typer.echo(f"... {counts.total() - len(listed)} more (--limit)")
    typer.echo(", ".join(f"{reason} {count}" for reason, count in in_order.items()) or "no rejections")


def show_one(settings: Settings, partition: int, source_offset: int, *, as_json: bool) -> None:
    """Print all of one rejection; raises WalletError if this source record has none."""
    pipeline = check(settings)
    settings = pipeline.rule(settings)
    wanted = Wanted(partition=partition, from_offset=source_offset, to_offset=source_offset + 1)
    found = next(read(settings, wanted), None)
    if found is None:
        raise WalletError(
            f"partition {partition} offset {source_offset} has no rejection: see `wallet rejections list`"
        )
    key, value, headers = found.key, found.value, found.headers
    left_out: Summary = {}
    if found.reason == Reason.TOO_LARGE:
        source = _from_input(settings, found)
        sizes = Sizes.of(source)
        if sizes.exceed(settings.batch_bytes):
            left_out = {"not_shown": f"{sizes}: more than WALLET_BATCH_BYTES"}
        else:
            key, value, headers = source.key, source.value, [*source.headers]
    told: dict[str, object] = _summary(found) | {
        "rejection_offset": found.offset,
        "topic": found.topic,
        "read_from": found.topic if found.reason == Reason.TOO_LARGE else Topics.of(settings).rejections,
        "key_hex": None if key is None else key.hex(),
        "key": shown(key),
        "headers": [[name, None if one is None else one.hex()] for name, one in headers],
        "value_bytes": None if value is None else len(value),
        "value_hex": None if value is None else value.hex(),
        "decoded": _decoded(settings, pipeline.transaction_schema_id, value),
    }
    told |= left_out
    if as_json:
        typer.echo(as_line(told))
        return
    rows = ((Text(name.replace("_", " "), "bold"), _cut(one)) for name, one in told.items())
    fields = table(("field", "content"), rows)
    fields.show_header = False
    show_table(fields)


def _cut(one: object) -> str:
    text = one if isinstance(one, str) else as_line(one)
    if len(text) <= SHOWN_CHARACTERS:
        return text
    return f"{text[:SHOWN_CHARACTERS]}... (all of it with --json)"


def _summary(one: Rejection) -> Summary:
    return {
        "partition": one.partition,
        "source_offset": one.source_offset,
        "at": rfc3339(one.at),
        "reason": one.reason,
        "detail": one.detail,
        "key": shown(one.key),
        "attempt": one.attempt,
    }


def _table(listed: list[Summary]) -> Table:
    fields = ("partition", "source_offset", "at", "reason", "key", "attempt", "detail")
    rows = (
        [one[name] or "" if name in {"key", "attempt"} else one[name] for name in fields] for one in listed
    )
    columns = ("partition", "offset", "at", "reason", "key", "attempt", "detail")
    return table(columns, rows, numbers=("partition", "offset", "attempt"))


def _from_input(settings: Settings, one: Rejection) -> Source:
    """A record that was too large to copy, from the input; raises WalletError if it is gone."""
    at, offset = one.partition, one.source_offset
    begin = offsets_in(quiet_admin(settings), [(one.topic, at)])[one.topic, at].begin
    if begin > offset:
        raise WalletError(f"{one.topic} begins at offset {begin}: retention has deleted the record")
    with closing(Incoming(settings, one.topic, settings.batch_bytes)) as incoming:
        for records in incoming.stretches(at, offset, offset + 1, 1):
            return records[0]
    raise WalletError(f"{one.topic} partition {at} offset {offset} cannot be read: try again")


def _decoded(settings: Settings, schema_id: int, value: bytes | None) -> dict[str, object] | str | None:
    """The transaction in a value, whatever rules it breaks, or why it does not decode."""
    if value is None or len(value) < HEADER_BYTES or value[0]:
        return None
    try:
        transaction = transaction_in(settings, schema_id, value)
    except ValueError as error:
        return f"not decodable: {error}"
    if transaction is None:
        return f"not decodable: schema id {int.from_bytes(value[1:HEADER_BYTES])} is not a Transaction's"
    return readable(transaction)


def readable(one: Transaction) -> Summary:
    """A transaction's fields, whatever rules it breaks; a time that no calendar has in microseconds."""
    try:
        occurred_at = rfc3339(one.occurred_at)
    except OverflowError:
        occurred_at = f"{one.occurred_us} us"
    return {
        "transaction_id": one.transaction_id,
        "wallet_id": one.wallet_id,
        "type": TYPES[one.type],
        "amount": one.amount,
        "currency": one.currency,
        "occurred_at": occurred_at,
        "group_id": one.group_id,
        "metadata": [list(pair) for pair in one.metadata],
    }
