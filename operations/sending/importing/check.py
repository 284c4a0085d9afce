"""`wallet import --check`: compare known balances with those of the pipeline.

It asks the tables, which have balances at any time. First it waits until the worker has decided, and the ledger sink
has written, everything that was in the input at the start.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import NamedTuple

import typer
from confluent_kafka.admin import AdminClient

from config.errors import ConfigurationError, NotReachable
from config.settings import Settings
from config.times import rfc3339
from operations.cli.output import progress, until_done
from operations.looking.status import look
from operations.sending.files.file import File
from operations.sending.files.shape import BadLine, Fields, Shape
from operations.sending.files.values import moment_of, text_of, whole_of
from operations.sending.importing.lines import not_before
from schemas.rules import broken_name
from sinks import postgres
from sinks.balances import balances
from topics.cluster import agreed, all_there, quiet_admin
from topics.names import Topics

KNOWN = Shape(("wallet_id", "balance"), ("currency", "at"))
#: Balances asked for at a time.
CHUNK = 1_000
#: Differences that --json lists; all are counted.
LISTED = 1_000


@dataclass
class Compared:
    """How many balances match and differ, and the first differences, in words."""

    match: int = 0
    differ: int = 0
    differences: list[str] = field(default_factory=list)


class Wanted(NamedTuple):
    """The balance that a line expects, in minor units."""

    line: str
    wallet_id: str
    balance: int
    currency: str | None
    at: datetime | None


def lines_of(file: File, earliest: datetime) -> int:
    """The number of balances; raises ConfigurationError if the file cannot be read or a line is wrong."""
    return sum(1 for _ in _wanted(file, earliest))


def run(settings: Settings, file: File, lines: int, earliest: datetime, *, as_json: bool) -> Compared:
    """Compare every line; prints what differs unless that is for JSON."""
    settings = agreed(settings)
    client = quiet_admin(settings)
    _until_handled(client, settings)
    compared = Compared()
    with postgres.connect(settings, postgres.READER) as connection, progress("comparing", lines) as advance:
        wanted = _wanted(file, earliest)
        while chunk := [*islice(wanted, CHUNK)]:
            found = balances(connection, [one.wallet_id for one in chunk], [one.at for one in chunk])
            told = [_difference(one, *there) for one, there in zip(chunk, found, strict=True)]
            for difference in filter(None, told):
                compared.differ += 1
                if not as_json:
                    typer.echo(difference)
                elif compared.differ <= LISTED:
                    compared.differences.append(difference)
            compared.match += told.count(None)
            advance(compared.match + compared.differ)
    typer.echo(f"{compared.match} balances match, {compared.differ} differ", err=True)
    return compared


def _wanted(file: File, earliest: datetime) -> Iterator[Wanted]:
    """The lines of the file; raises ConfigurationError for the first bad one."""
    for number, row in file.rows():
        line = f"{file.path}: line {number}"
        if isinstance(row, str):
            raise ConfigurationError(f"{line}: {row}")
        try:
            yield _read(line, row, earliest)
        except BadLine as bad:
            raise ConfigurationError(f"{line}: {bad}") from None


def _read(line: str, fields: Fields, earliest: datetime) -> Wanted:
    KNOWN.require(fields)
    wallet_id = text_of(fields, "wallet_id")
    if broken := broken_name("wallet_id", wallet_id):
        raise BadLine(broken)
    currency = text_of(fields, "currency") if "currency" in fields else None
    at = moment_of(fields, "at") if "at" in fields else None
    if at:
        not_before(earliest, at, "at")
    return Wanted(line, wallet_id, whole_of(fields, "balance"), currency, at)


def _difference(wanted: Wanted, balance: int | None, currency: str | None) -> str | None:
    """How a balance differs, or None; a wallet without entries has 0."""
    at = f" at {rfc3339(wanted.at)}" if wanted.at else ""
    is_there = f"the pipeline has {'no such wallet' if balance is None else f'{balance} {currency}'}"
    other_currency = None not in {wanted.currency, currency} and wanted.currency != currency
    if (balance or 0) == wanted.balance and not other_currency:
        return None
    should = f"{wanted.balance} {wanted.currency or ''}".strip()
    return f"{wanted.line}: wallet {wanted.wallet_id!r}{at}: expected {should}, but {is_there} (minor units)"


# -- waiting


def _until_handled(client: AdminClient, settings: Settings) -> None:
    """Wait for the worker to decide everything now in the input, then for the sink to write the results.

    Raises NotReachable if there is no progress for `WALLET_STALL_S`.
    """
    names = Topics.of(settings)
    for reader, topic, who in (
        ("worker", names.transactions, "wallet worker"),
        ("ledger", names.ledger, "wallet sink"),
    ):
        # The very end: the import's last transaction may have committed only just now.
        ends = all_there(client, [(topic, at) for at in range(settings.partitions)])
        _until_behind(client, settings, reader, ends, who)


def _until_behind(
    client: AdminClient, settings: Settings, reader: str, ends: Mapping[tuple[str, int], int], who: str
) -> None:
    total = sum(ends.values())

    def done() -> int:
        status = look(settings, client)
        if status.postgres_problem:
            raise NotReachable(status.postgres_problem)
        # The last offsets may be transaction marks, which no position passes: then the lag is 0 up to the
        # read-committed end.
        stands = {
            (place.topic, place.partition): place.position or 0 if place.lag else place.end
            for place in status.places
            if place.reader == reader
        }
        return sum(min(stands.get(at, 0), end) for at, end in ends.items())

    def stalled(now: int) -> NotReachable:
        return NotReachable(
            f"no progress for {settings.stall_s:g} s, {now} of {total} done: is a `{who}` running? Is a "
            "producer's transaction open?"
        )

    until_done(f"waiting for the {reader}", total, done, stall_s=settings.stall_s, stalled=stalled)
