"""`wallet archive verify`: check the chain of seals, and each sealed month's rows against its seal and the topic."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date
from itertools import islice

import typer

from audit.rows import contradictions
from config.errors import DIFFERENCES, WalletError
from config.settings import Settings
from operations.cli.output import as_line, progress
from sinks import postgres
from sinks.archive import seals
from sinks.archive import seals as archive_months
from sinks.archive.compare import (
    NAMED,
    Advance,
    Mismatch,
    Side,
    TopicSide,
    both_sides,
    refuse_difference,
    row_side,
)
from sinks.archive.seals import Content, Month, Seal
from sinks.postgres import READER, Connection
from sinks.postgres.migrations import check as check_database
from topics.cluster import agreed, wait_for_kafka
from topics.names import Topics
from topics.topic_log import TopicLog


@dataclass(frozen=True)
class Checked:
    """A month whose rows match its seal and, unless Kafka was left out, the topic."""

    month: str
    entries: int
    seal: str
    with_topic: bool


def run(settings: Settings, only: date | None, *, kafka: bool, as_json: bool) -> int:
    """Check and print; returns the exit code, 0 only if everything matches."""
    done: list[Checked] = []
    problem = None
    if kafka:
        settings = agreed(settings)
        wait_for_kafka(settings)
    with postgres.connect(settings, READER, name="wallet archive verify") as connection:
        check_database(connection)
        try:
            for one in _checked(settings, connection, only, kafka=kafka):
                done.append(one)
                if not as_json:
                    beside = "its seal and the topic" if one.with_topic else "its seal"
                    typer.echo(f"{one.month}: {one.entries:,} entries match {beside}: {one.seal}")
        except Mismatch as mismatch:
            problem = str(mismatch)
    if as_json:
        typer.echo(
            as_line({"clean": not problem, "checked": [asdict(one) for one in done], "problem": problem})
        )
    elif problem:
        typer.echo(problem)
    elif not done:
        typer.echo("no month is sealed")
    return DIFFERENCES if problem else 0


def _checked(
    settings: Settings, connection: Connection, only: date | None, *, kafka: bool
) -> Iterator[Checked]:
    known = seals.read(connection)
    if only and only not in {seal.content.month for seal in known}:
        raise WalletError(
            f"month {only:%Y-%m} is not sealed: `wallet archive status` shows the sealed months"
        )
    for fault in seals.faults(known):
        raise Mismatch(f"the chain of seals is broken at {fault.month:%Y-%m}: it {fault.reason}")
    places = {month.first: month for month in archive_months.with_rows(connection)}
    sealed = {seal.content.month for seal in known}
    for month in places.values():
        if month.archived and month.first not in sealed:
            raise Mismatch(f"month {month.name} is in the archive but its seal was removed")
    group = settings.sink_group("archive")
    ledger = TopicLog(settings, Topics.of(settings).ledger, group) if kafka else None
    try:
        for seal in known:
            content = seal.content
            if only in {None, content.month}:
                month = places.get(content.month, Month(content.month, archived=True))
                size = sum(one.to_offset - one.from_offset for one in content.ranges)
                with progress(f"verifying {month.name}", size) as advance:
                    refuse_other_than_sealed(connection, ledger, month, content, advance)
                yield _told(seal, with_topic=kafka)
    finally:
        if ledger:
            ledger.close()


def _told(seal: Seal, *, with_topic: bool) -> Checked:
    content = seal.content
    return Checked(f"{content.month:%Y-%m}", content.entries, seal.seal.hex(), with_topic)


def refuse_other_than_sealed(
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
    _refuse_other_topic(month, content, topic)


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
        f"{name} {_shown(is_now)}, sealed as {_shown(was)}"
        for name, was, is_now in zip(names, sealed, found, strict=True)
        if was != is_now
    )
    raise Mismatch(f"the rows of {month.name} do not match its seal ({differs}){where}")


def _refuse_other_topic(month: Month, content: Content, topic: TopicSide) -> None:
    """Only the ranges can still differ: too wide, or in partitions without entries of the month."""
    there = topic.content(month)
    if there != content:
        told = [
            [f"{one.partition}:{one.from_offset}:{one.to_offset}" for one in side.ranges]
            for side in (content, there)
        ]
        raise Mismatch(
            f"the seal of {month.name} names the ranges {', '.join(told[0])}, but the topic has {', '.join(told[1])}"
        )


def _shown(value: object) -> str:
    return f"{value.hex()[:16]}..." if isinstance(value, bytes) else str(value)
