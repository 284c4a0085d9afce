"""Compare a sealed month with its seal: its rows, and the ranges of the topic that the seal names."""

from itertools import islice

from audit.rows import contradictions
from config.errors import WalletError
from sinks.archive.compare import Advance, Side, TopicSide, both_sides, row_side
from sinks.archive.explain import NAMED, Mismatch, refuse_difference
from sinks.archive.months import Month
from sinks.archive.seals import Content
from sinks.postgres import Connection
from topics.topic_log import TopicLog


class NotKept(WalletError):  # noqa: N818 - the name is the message
    """The topic's retention has deleted records of the month."""


def refuse_other_than_sealed(
    connection: Connection, ledger: TopicLog | None, month: Month, content: Content, advance: Advance
) -> None:
    """Raise Mismatch unless rows, seal and topic agree; without `ledger`, compares only rows and seal.

    Raises NotKept if the topic begins later than the month.
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
    """Raise Mismatch for ranges that are not in the topic, NotKept for deleted ones."""
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
            raise NotKept(
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
