"""A sealed month beside its seal: its rows, and its topic with the ranges that the seal names."""

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
    """The topic has a finite retention and does not hold the month any more."""


def refuse_other_than_sealed(
    connection: Connection, ledger: TopicLog | None, month: Month, content: Content, advance: Advance
) -> None:
    """Raise Mismatch where rows, seal and topic are not all the same; without `ledger` rows and seal alone.

    Raises NotKept where the topic begins later than the month.
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
    """Ranges that nobody can read are no ranges of this topic."""
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
                f"{ledger.topic} partition {at.partition} begins at offset {log.begin}, {month.name} at "
                f"{at.from_offset}: its retention deleted it; say --no-kafka to compare rows and seals alone"
            )


def _refuse_other_rows(connection: Connection, month: Month, content: Content, rows: Side) -> None:
    sealed, found = (content.entries, content.amount, content.hash), (rows.entries, rows.amount, rows.hash)
    if sealed == found:
        return
    named = "; ".join(islice(contradictions(connection, month.starts, month.ends), NAMED))
    where = f": {named}" if named else ", though each follows from the one before: compare with the topic"
    names = ("entries", "amount", "hash")
    differs = ", ".join(
        f"{name} {_shown(is_now)} sealed as {_shown(was)}"
        for name, was, is_now in zip(names, sealed, found, strict=True)
        if was != is_now
    )
    raise Mismatch(f"the rows of {month.name} do not match its seal ({differs}){where}")


def _refuse_other_topic(month: Month, content: Content, topic: TopicSide) -> None:
    """What is left: ranges that begin before or end behind the month's entries, or of partitions without any."""
    there = topic.content(month)
    if there != content:
        told = [
            [f"{one.partition}:{one.from_offset}:{one.to_offset}" for one in side.ranges]
            for side in (content, there)
        ]
        raise Mismatch(
            f"the seal of {month.name} names the ranges {', '.join(told[0])}, the topic has it in {', '.join(told[1])}"
        )


def _shown(value: object) -> str:
    return f"{value.hex()[:16]}..." if isinstance(value, bytes) else str(value)
