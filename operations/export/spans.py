"""What to export: spans of partitions, whole ones or those of sealed months."""

from collections.abc import Callable, Iterator, Sequence
from datetime import date
from typing import NamedTuple

from confluent_kafka import Message

from config.errors import Refused, WalletError
from config.settings import Settings
from config.times import month_name
from sinks import postgres
from sinks.archive import seals
from sinks.archive.entries import source_offset
from sinks.archive.seals import Month, Seal, to_ms
from sinks.postgres import READER
from sinks.postgres.migrations import check as check_database
from topics.names import Topics
from topics.rejections import source_of
from topics.topic_log import TopicLog

TOPICS = ("input", "ledger", "rejections", "snapshots")


class Span(NamedTuple):
    """Records of one partition from `begin` up to `end` (excluded) for which `keep` is true; `month` as YYYY-MM."""

    topic: str
    partition: int
    begin: int
    end: int
    month: str | None = None
    keep: Callable[[Message], bool] | None = None


class Logs(dict[str, TopicLog]):
    """The topics by our names, opened on first use."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._settings, self._topics = settings, Topics.of(settings)

    def __missing__(self, name: str) -> TopicLog:
        log = self[name] = TopicLog(self._settings, self.topic(name))
        return log

    def topic(self, name: str) -> str:
        """The topic that has this name of ours."""
        topic: str = getattr(self._topics, "transactions" if name == "input" else name)
        return topic

    def close(self) -> None:
        """Close the opened topics."""
        for log in self.values():
            log.close()


def whole(logs: Logs, names: Sequence[str], partitions: Sequence[int]) -> Iterator[Span]:
    """Everything that is committed now."""
    for name in names:
        for partition in partitions:
            log = logs[name].log(partition)
            yield Span(name, partition, log.begin, log.stable)


def sealed(settings: Settings, wanted: Sequence[date]) -> list[Seal]:
    """The seals of these months, or all seals if none is named.

    Raises WalletError for a month that is not sealed, Refused where the chain of seals is broken.
    """
    with postgres.connect(settings, READER, name="wallet export") as connection:
        check_database(connection)
        known = {seal.content.month: seal for seal in seals.read(connection)}
    if told := seals.broken(known.values()):
        raise Refused(told)
    for month in wanted:
        if month not in known:
            raise WalletError(
                f"month {month_name(month)} is not sealed: `wallet archive status` shows the sealed months"
            )
    return [known[month] for month in sorted({*wanted} or known)]


def of_month(logs: Logs, names: Sequence[str], seal: Seal) -> Iterator[Span]:
    """A sealed month: its entries, its snapshots, and the input records that were posted or rejected in it.

    The input spans from after the last entry before the month to the month's last entry, so every input record is in
    exactly one month.
    """
    month = Month(seal.content.month, archived=True)
    for at in sorted(seal.content.ranges):
        begin, end = _sources(logs["ledger"], at.partition, at.from_offset, at.to_offset)
        for wanted in names:
            if wanted == "input":
                kept = logs["input"].log(at.partition).begin
                yield Span(wanted, at.partition, max(begin, kept), end, month.name)
            elif wanted == "ledger":
                yield Span(wanted, at.partition, at.from_offset, at.to_offset, month.name)
            elif wanted == "rejections":
                yield _rejections(logs, at.partition, begin, end, month)
            else:
                yield _snapshots(logs, at.partition, month)


def _sources(ledger: TopicLog, partition: int, begin: int, end: int) -> tuple[int, int]:
    """The offsets of the input that became the entries between these offsets of the ledger."""
    log = ledger.log(partition)
    if begin < log.begin:
        raise Refused(
            f"{ledger.topic} partition {partition} begins at offset {log.begin}, but the month at {begin}: retention "
            "has deleted part of the month; leave it out with --month"
        )
    before, last = ledger.last_before(partition, log.begin, begin), ledger.last_before(partition, begin, end)
    if last is None:
        raise Refused(
            f"the seal names offsets {begin} to {end} of {ledger.topic} partition {partition}, which contain no entry: "
            "run `wallet archive verify`"
        )
    return (_source(before) + 1 if before else 0), _source(last) + 1


def _source(entry: Message) -> int:
    return source_offset(entry.value() or b"")


def _rejections(logs: Logs, partition: int, begin: int, end: int, month: Month) -> Span:
    """Rejections of input records between these offsets, found by binary search: they are in the input's order."""
    log = logs["rejections"].log(partition)
    low, high = (_first_of(logs["rejections"], partition, log.begin, log.stable, at) for at in (begin, end))
    return Span("rejections", partition, low, high, month.name)


def _first_of(rejections: TopicLog, partition: int, low: int, high: int, source: int) -> int:
    """Where rejections of this input offset and later ones begin."""

    def is_behind(rejection: Message) -> bool:
        named = source_of(rejection)
        return named is None or named >= source

    return rejections.boundary(partition, low, high, is_behind)


def _snapshots(logs: Logs, partition: int, month: Month) -> Span:
    """Snapshots that bring an entry of this month forward, whenever they were written."""
    log = logs["snapshots"].log(partition)
    begins, ends = to_ms(month.starts), to_ms(month.ends)
    first = logs["snapshots"].first_at(partition, begins, log.begin, log.stable)
    begin = log.stable if first is None else first.offset() or 0
    return Span(
        "snapshots", partition, begin, log.stable, month.name, lambda one: begins <= one.timestamp()[1] < ends
    )
