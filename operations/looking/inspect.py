"""`wallet inspect`: a wallet's state at an offset or a time, from the topics alone. It only reads.

A wallet's entries are all in one partition of the ledger, and recorded_at and source offset never decrease in it.
So the search for the newest entry goes backwards from the place in growing stretches, and finds a busy wallet at
once, however long the history.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

import typer
from confluent_kafka import Message
from rich.table import Table

from config.errors import ConfigurationError, Refused, WalletError
from config.settings import Settings
from config.times import rfc3339
from operations.cli.output import as_line, progress, show_table, table
from operations.looking.time_lookup import MILLISECOND, offsets_at
from operations.verify.cut import cuts
from schemas.codec import HEADER_BYTES, decode_entry
from schemas.partitioner import partition_of
from schemas.records import CREDIT, DEBIT, EPOCH, TYPES, LedgerEntry
from topics.cluster import Offsets, agreed, offsets_in, quiet_admin
from topics.names import Topics
from topics.tail import tail_starts
from topics.topic_log import TopicLog

MICROSECOND = timedelta(microseconds=1)
#: Windows of the backward scan, in offsets: the first one, and the factor by which they grow.
FIRST_STRETCH, GROWTH = 2_000, 4
#: What --json says of the newest entry beside the balance.
OF_THE_NEWEST = ("sequence", "recorded_at", "source_partition", "source_offset", "hash")


@dataclass(frozen=True)
class Moment:
    """The point at which to show a wallet, included. At most one field is given; none means now."""

    at: datetime | None = None
    at_offset: int | None = None
    effective_at: datetime | None = None


@dataclass(frozen=True)
class Found:
    """What the ledger says about a wallet; `entries` are the newest ones, newest first; empty before the first.

    `balance` is in minor units; by occurred_at it is the sum of `counted` entries. `undecided` is the number of
    offsets of the input partition that the worker has not handled yet; they are not included.
    """

    wallet_id: str
    partition: int
    currency: str
    balance: int
    entries: Sequence[LedgerEntry]
    undecided: int
    counted: int | None = None


def look(settings: Settings, wallet_id: str, place: Moment, count: int = 1) -> Found:
    """A wallet at a place, with its newest `count` entries; raises WalletError if the wallet has no entry.

    Raises ConfigurationError for an offset that is not in the input or a time in the future, Refused if entries that
    the answer needs were deleted by retention or are not decided yet.
    """
    if place.at and place.at > datetime.now(UTC):
        raise ConfigurationError(f"--at {rfc3339(place.at)} is in the future: leave it out for now")
    if place.at and place.at_offset is not None:
        raise ConfigurationError("use either --at or --at-offset, not both")
    settings = agreed(settings)
    partition = partition_of(wallet_id.encode(), settings.partitions)
    topic = Topics.of(settings).ledger
    client = quiet_admin(settings)
    cut = cuts(settings, client, [partition])[0]
    if place.at_offset is not None:
        _check_offset(settings, partition, place.at_offset, cut.input, cut.source)
    log = offsets_in(client, [(topic, partition)])[topic, partition]
    with closing(TopicLog(settings, topic)) as topic_log:
        scan = Scan(topic_log, partition, log, wallet_id)
        undecided = cut.input.end - cut.source
        if place.effective_at:
            return scan.sum_until(place.effective_at, count, undecided)
        bound = _bound(settings, scan, place)
        newest = scan.newest_before(bound, count)
        if newest:
            last = newest[0]
            return Found(wallet_id, partition, last.transaction.currency, last.balance, newest, undecided)
        first = scan.first_from(bound)
        scan.refuse_deleted()
        return Found(wallet_id, partition, first.transaction.currency, 0, (), undecided)


def _check_offset(settings: Settings, partition: int, offset: int, there: Offsets, decided: int) -> None:
    where = f"{Topics.of(settings).transactions} partition {partition}, the wallet's,"
    if not there.begin <= offset < there.end:
        holds = f"holds {there.begin} to {there.end - 1}" if there.begin < there.end else "is empty"
        raise ConfigurationError(f"--at-offset {offset} is not in {where} which {holds}")
    if offset >= decided:
        raise Refused(f"the worker has handled {where} only up to offset {decided}: try again later")


def _bound(settings: Settings, scan: "Scan", place: Moment) -> int:
    """The offset of the ledger before which the entries that count are."""
    if place.at is not None:
        # Entries recorded in that same millisecond are included.
        latest_ms = (place.at - EPOCH) // MILLISECOND
        after = EPOCH + (latest_ms + 1) * MILLISECOND
        found = offsets_at(settings, [scan.partition], after, scan.topic)[scan.partition]
        return scan.log.end if found is None else min(found, scan.log.end)
    return scan.log.end if place.at_offset is None else scan.behind_source(place.at_offset)


class Scan:
    """One wallet's entries in its partition of the ledger."""

    def __init__(self, topic_log: TopicLog, partition: int, log: Offsets, wallet_id: str) -> None:
        self.partition, self.log, self.topic = partition, log, topic_log.topic
        self._topic_log = topic_log
        self._wallet_id, self._key = wallet_id, wallet_id.encode()

    def newest_before(self, bound: int, count: int) -> list[LedgerEntry]:
        """The newest entries of the wallet before this offset, newest first."""
        newest: list[LedgerEntry] = []
        end = bound
        with progress("looking back", bound - self.log.begin) as advance:
            for begin in tail_starts(self.log.begin, bound, FIRST_STRETCH, GROWTH):
                found: deque[LedgerEntry] = deque(maxlen=count - len(newest))
                found.extend(self._entries(begin, end))
                newest += reversed(found)
                end = begin
                advance(bound - end)
                if len(newest) == count or (newest and newest[-1].sequence == 1):
                    break
        return newest

    def first_from(self, bound: int) -> LedgerEntry:
        """The wallet's first entry from this offset on; raises WalletError if there is none."""
        first = next(self._entries(bound, self.log.end, "looking for its first entry"), None)
        if first is None:
            self.refuse_deleted()
            raise WalletError(f"wallet {self._wallet_id!r} has no entry")
        return first

    def refuse_deleted(self) -> None:
        """Raise Refused if entries that the answer needs were deleted."""
        if self.log.begin:
            raise Refused(
                f"{self.topic} partition {self.partition} begins at offset {self.log.begin}: retention has deleted "
                "the entries before it, which the answer needs; ask PostgreSQL with `wallet balance`"
            )

    def sum_until(self, at: datetime, count: int, undecided: int) -> Found:
        """The wallet by occurred_at: the sum of all its entries up to then, and the newest ones by sequence."""
        latest_us = (at - EPOCH) // MICROSECOND
        balance, counted, currency = 0, 0, None
        newest: deque[LedgerEntry] = deque(maxlen=count)
        for entry in self._entries(self.log.begin, self.log.end, "summing"):
            transaction = entry.transaction
            currency = transaction.currency
            if transaction.occurred_us <= latest_us:
                balance += transaction.amount if transaction.type == CREDIT else -transaction.amount
                counted += 1
                newest.append(entry)
        self.refuse_deleted()
        if currency is None:
            raise WalletError(f"wallet {self._wallet_id!r} has no entry")
        entries = tuple(reversed(newest))
        return Found(self._wallet_id, self.partition, currency, balance, entries, undecided, counted)

    def behind_source(self, source_offset: int) -> int:
        """The ledger's offset just after the last entry of this source offset or an earlier one."""
        log = self.log
        return self._topic_log.boundary(
            self.partition, log.begin, log.end, lambda message: _entry(message).source_offset > source_offset
        )

    def _entries(self, begin: int, end: int, title: str | None = None) -> Iterator[LedgerEntry]:
        """The wallet's entries in order, with progress if there is a title."""
        if title is None:
            yield from self._read(begin, end, lambda _: None)
            return
        with progress(title, end - begin) as advance:
            yield from self._read(begin, end, advance)

    def _read(self, begin: int, end: int, advance: Callable[[int], None]) -> Iterator[LedgerEntry]:
        key = self._key
        for messages in self._topic_log.slices(self.partition, begin, end):
            yield from (_entry(message) for message in messages if message.key() == key)
            advance((messages[-1].offset() or 0) + 1 - begin)


def _entry(message: Message) -> LedgerEntry:
    try:
        entry = decode_entry((message.value() or b"")[HEADER_BYTES:])
        # Times are decoded lazily; one outside the calendar is damage, too.
        _ = entry.recorded_at, entry.transaction.occurred_at
    except (ValueError, OverflowError) as error:
        raise Refused(
            f"{message.topic()} partition {message.partition()} offset {message.offset()} does not decode ({error}): "
            "it was not written by this pipeline's worker; run `wallet verify`"
        ) from error
    return entry


def show(found: Found, place: Moment, entries: int, *, as_json: bool) -> None:
    """Print a wallet's state, and as many of its newest entries as were asked for."""
    if as_json:
        typer.echo(as_line(_fields(found, place, entries)))
        return
    if place.effective_at:
        typer.echo(f"{found.balance} {found.currency} (minor units), by occurred_at")
        typer.echo(f"sum of {found.counted} entries up to {rfc3339(place.effective_at)}")
    elif not found.entries:
        typer.echo(f"0 {found.currency} (minor units): before the wallet's first entry")
    else:
        newest = found.entries[0]
        typer.echo(f"{found.balance} {found.currency} (minor units)")
        typer.echo(f"sequence     {newest.sequence}")
        typer.echo(f"recorded at  {rfc3339(newest.recorded_at)}")
        typer.echo(f"source       partition {newest.source_partition}, offset {newest.source_offset}")
        typer.echo(f"hash         {newest.hash.hex()}")
    if found.undecided:
        typer.echo(
            f"note: the worker has not handled {found.undecided} offsets of the input yet; this answer is without them",
            err=True,
        )
    if entries and found.entries:
        show_table(_table(found.entries))


def _table(entries: Sequence[LedgerEntry]) -> Table:
    rows = (
        (
            entry.sequence,
            entry.recorded_at,
            entry.transaction.occurred_at,
            f"{'-' if entry.transaction.type == DEBIT else '+'}{entry.transaction.amount}",
            entry.balance,
            entry.transaction.transaction_id,
            entry.transaction.group_id,
        )
        for entry in entries
    )
    columns = ("sequence", "recorded at", "occurred at", "amount", "balance", "transaction", "group")
    return table(columns, rows, numbers=("sequence", "amount", "balance"))


def _fields(found: Found, place: Moment, entries: int) -> dict[str, object]:
    newest = found.entries[0] if found.entries and not place.effective_at else None
    return {
        "wallet_id": found.wallet_id,
        "partition": found.partition,
        "currency": found.currency,
        "balance": found.balance,
        **asdict(place),
        "counted": found.counted,
        **{name: getattr(newest, name, None) for name in OF_THE_NEWEST},
        "undecided": found.undecided,
        "entries": [_entry_fields(entry) for entry in found.entries] if entries else [],
    }


def _entry_fields(entry: LedgerEntry) -> dict[str, object]:
    transaction = entry.transaction
    return {
        "transaction_id": transaction.transaction_id,
        "type": TYPES[transaction.type],
        "amount": transaction.amount,
        "occurred_at": transaction.occurred_at,
        "group_id": transaction.group_id,
        "metadata": dict(transaction.metadata),
        "sequence": entry.sequence,
        "balance": entry.balance,
        "recorded_at": entry.recorded_at,
        "source_partition": entry.source_partition,
        "source_offset": entry.source_offset,
        "hash": entry.hash,
    }
