"""`wallet archive verify`: check the chain of seals, and each sealed month's rows against its seal and the topic."""

from collections.abc import Iterator
from contextlib import closing, nullcontext
from datetime import date
from itertools import islice

import typer

from audit.rows import contradictions
from config.errors import DIFFERENCES, WalletError
from config.settings import Settings
from config.times import month_name
from operations.cli.output import as_line, progress
from sinks import postgres
from sinks.archive import seals
from sinks.archive.compare import (
    NAMED,
    Advance,
    Mismatch,
    Side,
    both_sides,
    refuse_difference,
    row_side,
    shown,
)
from sinks.archive.seals import Content, Month, Seal
from sinks.names import ARCHIVE
from sinks.postgres import READER, Connection
from sinks.postgres.migrations import check as check_database
from topics.cluster import agreed, wait_for_kafka
from topics.names import Topics
from topics.topic_log import TopicLog


def run(settings: Settings, only: date | None, *, kafka: bool, as_json: bool) -> int:
    """Check and print; returns the exit code, 0 only if everything matches."""
    done: list[dict[str, object]] = []
    problem = None
    if kafka:
        settings = agreed(settings)
        wait_for_kafka(settings)
    beside = "its seal and the topic" if kafka else "its seal"
    with postgres.connect(settings, READER, name="wallet archive verify") as connection:
        check_database(connection)
        try:
            for seal in _checked(settings, connection, only, kafka=kafka):
                month, entries, digest = month_name(seal.content.month), seal.content.entries, seal.seal.hex()
                done.append({"month": month, "entries": entries, "seal": digest, "with_topic": kafka})
                if not as_json:
                    typer.echo(f"{month}: {entries:,} entries match {beside}: {digest}")
        except Mismatch as mismatch:
            problem = str(mismatch)
    if as_json:
        typer.echo(as_line({"clean": not problem, "checked": done, "problem": problem}))
    elif problem or not done:
        typer.echo(problem or "no month is sealed")
    return DIFFERENCES if problem else 0


def _checked(settings: Settings, connection: Connection, only: date | None, *, kafka: bool) -> Iterator[Seal]:
    """Each wanted seal once it is found to match; raises Mismatch for the first that does not."""
    known = {seal.content.month: seal for seal in seals.read(connection)}
    if only and only not in known:
        raise WalletError(
            f"month {month_name(only)} is not sealed: `wallet archive status` shows the sealed months"
        )
    if told := seals.broken(known.values()):
        raise Mismatch(told)
    places = {month.first: month for month in seals.with_rows(connection)}
    for month in places.values():
        if month.archived and month.first not in known:
            raise Mismatch(f"month {month.name} is in the archive but its seal was removed")
    topic, group = Topics.of(settings).ledger, settings.sink_group(ARCHIVE)
    with closing(TopicLog(settings, topic, group)) if kafka else nullcontext() as ledger:
        for first, seal in known.items():
            if only in {None, first}:
                month = places.get(first, Month(first, archived=True))
                size = sum(one.to_offset - one.from_offset for one in seal.content.ranges)
                with progress(f"verifying {month.name}", size) as advance:
                    _refuse_other_than_sealed(connection, ledger, month, seal.content, advance)
                yield seal


def _refuse_other_than_sealed(
    connection: Connection, ledger: TopicLog | None, month: Month, content: Content, advance: Advance
) -> None:
    """Raise Mismatch unless rows, seal and topic agree; without `ledger`, compares only rows and seal.

    Raises WalletError if the topic begins later than the month.
    """
    if ledger is None:
        _refuse_other_rows(connection, month, content, row_side(connection, month))
        return
    _refuse_ranges(ledger, month, content)
    begins = {one.partition: one.from_offset for one in content.ranges}
    ends = {one.partition: one.to_offset for one in content.ranges}
    rows, topic = both_sides(connection, ledger, month, begins, ends, advance)
    refuse_difference(connection, ledger, month, rows, topic, ends)
    _refuse_other_rows(connection, month, content, rows)
    # Only the ranges can still differ: too wide, or in partitions without entries of the month.
    if topic.ranges != content.ranges:
        told = [
            ", ".join(f"{one.partition}:{one.from_offset}:{one.to_offset}" for one in ranges)
            for ranges in (content.ranges, topic.ranges)
        ]
        raise Mismatch(f"the seal of {month.name} names the ranges {told[0]}, but the topic has {told[1]}")


def _refuse_ranges(ledger: TopicLog, month: Month, content: Content) -> None:
    """Raise Mismatch for ranges that are not in the topic, WalletError for deleted ones."""
    for at in content.ranges:
        named = f"partition {at.partition}, offsets {at.from_offset} to {at.to_offset}"
        if not 0 <= at.partition < ledger.partitions:
            raise Mismatch(f"the seal of {month.name} names {named}, which {ledger.topic} does not have")
        log = ledger.log(at.partition)
        if not 0 <= at.from_offset < at.to_offset <= log.stable:
            raise Mismatch(
                f"the seal of {month.name} names {named}, which {ledger.topic} does not have: it ends at {log.stable}"
            )
        if at.from_offset < log.begin:
            raise WalletError(
                f"{ledger.topic} partition {at.partition} begins at offset {log.begin}, but {month.name} begins at "
                f"{at.from_offset}: retention deleted the rest; use --no-kafka to compare only rows and seals"
            )


def _refuse_other_rows(connection: Connection, month: Month, content: Content, rows: Side) -> None:
    sealed, found = (content.entries, content.amount, content.hash), (rows.entries, rows.amount, rows.hash)
    if sealed == found:
        return
    named = "; ".join(islice(contradictions(connection, month.starts, month.ends), NAMED))
    where = f": {named}" if named else ", but the hash chain is unbroken: compare with the topic"
    names = ("entries", "amount", "hash")
    differs = ", ".join(
        f"{name} {shown(is_now)}, sealed as {shown(was)}"
        for name, was, is_now in zip(names, sealed, found, strict=True)
        if was != is_now
    )
    raise Mismatch(f"the rows of {month.name} do not match its seal ({differs}){where}")
