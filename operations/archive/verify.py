"""`wallet archive verify`: check the chain of seals, and each sealed month's rows against its seal and the topic."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date

import typer

from config.errors import WalletError
from config.settings import Settings
from operations.archive.check import refuse_other_than_sealed
from operations.cli.exit_codes import DIFFERENCES
from operations.cli.output import as_line, progress
from sinks import postgres
from sinks.archive import months as archive_months
from sinks.archive import seals
from sinks.archive.explain import Mismatch
from sinks.archive.months import Month
from sinks.archive.seals import Seal
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
