"""What `wallet rejections list` and `show` print, for people and for programs."""

from collections import Counter
from contextlib import closing

import typer
from rich.table import Table
from rich.text import Text

from audit.report import shown
from config.errors import WalletError
from config.settings import Settings
from config.times import rfc3339
from operations.cli.output import as_line, show_table, table
from operations.rejections.listing import Rejection, Wanted, read, transaction_in
from schemas.codec import HEADER_BYTES
from schemas.records import TYPES, Reason, from_us
from topics.cluster import agreed, check, offsets_of, quiet_admin
from topics.incoming import Incoming
from topics.names import Topics
from topics.source import Sizes, Source

#: Characters of a field that are shown; --json has all.
SHOWN_CHARACTERS = 2_000

Summary = dict[str, object]


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
    begin = offsets_of(quiet_admin(settings), [(one.topic, at)])[one.topic, at].begin
    if begin > offset:
        raise WalletError(f"{one.topic} begins at offset {begin}: retention has deleted the record")
    with closing(Incoming(settings, one.topic, settings.batch_bytes)) as incoming:
        for records in incoming.runs(at, offset, offset + 1, 1):
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
    fields = transaction._asdict()
    del fields["occurred_us"]
    try:
        occurred_at: object = rfc3339(from_us(transaction.occurred_us))
    except OverflowError:
        occurred_at = f"{transaction.occurred_us} us"
    return fields | {
        "type": TYPES[transaction.type],
        "occurred_at": occurred_at,
        "metadata": [list(pair) for pair in transaction.metadata],
    }
