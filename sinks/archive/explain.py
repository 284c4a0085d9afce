"""Find which rows of a month differ from its topic or its seal, one by one in a single block."""

from collections.abc import Mapping
from typing import NamedTuple

from config.errors import Stopped
from schemas.codec import HEADER_BYTES, decode_entry
from schemas.records import DEBIT
from sinks.archive.compare import BLOCK, BlockKey, Side, TopicSide, first_difference
from sinks.archive.months import Month
from sinks.postgres import Connection
from sinks.sink import damaged
from topics.topic_log import TopicLog

#: Rows that a message names.
NAMED = 3


class Mismatch(Stopped):
    """A month differs from its topic or its seal; the message names the rows."""


class Version(NamedTuple):
    """An entry as one side has it; `amount` is signed."""

    wallet_id: str
    sequence: int
    amount: int
    hash: bytes

    @property
    def named(self) -> str:
        """How people find it."""
        return f"wallet {self.wallet_id!r} sequence {self.sequence}"


def refuse_difference(
    connection: Connection,
    ledger: TopicLog,
    month: Month,
    rows: Side,
    topic: TopicSide,
    ends: Mapping[int, int],
) -> None:
    """Raise Mismatch, naming rows of the first block that differs, unless both sides are equal."""
    block = first_difference(rows, topic.side)
    if block is None:
        return
    there, twice = _rows(connection, month, block)
    came = _entries(ledger, block, topic, ends[block[0]])
    told = [
        f"source offset {offset}: {_told(there.get(offset), came.get(offset))}"
        for offset in sorted({*there, *came})
        if there.get(offset) != came.get(offset)
    ] + [f"source offset {offset}: {there[offset].named} is in the tables more than once" for offset in twice]
    more = f", and {len(told) - NAMED} more nearby" if len(told) > NAMED else ""
    raise Mismatch(
        f"month {month.name} differs from its topic in partition {block[0]}: {'; '.join(told[:NAMED])}{more}; "
        "run `wallet verify` to find all differences"
    )


def _told(row: Version | None, entry: Version | None) -> str:
    if row is None:
        return f"{entry.named if entry else ''} is in the topic but not in the tables"
    if entry is None:
        return f"{row.named} is in the tables but not in the topic"
    names = [
        f"{name} is {_shown(ours)} in the tables and {_shown(theirs)} in the topic"
        for name, ours, theirs in zip(Version._fields, row, entry, strict=True)
        if ours != theirs
    ]
    return f"{entry.named}: {', '.join(names)}"


def _shown(value: object) -> object:
    return f"{value.hex()[:16]}..." if isinstance(value, bytes) else value


def _rows(connection: Connection, month: Month, block: BlockKey) -> tuple[dict[int, Version], list[int]]:
    """Rows by source offset, and the offsets that have several rows."""
    partition, number = block
    found = connection.execute(
        """
        SELECT source_offset, wallet_id, sequence, CASE type WHEN 'CREDIT' THEN amount ELSE -amount END, hash
        FROM wallet_entries
        WHERE recorded_at >= %s AND recorded_at < %s AND source_partition = %s
            AND source_offset >= %s AND source_offset < %s
        """,
        [month.starts, month.ends, partition, number * BLOCK, (number + 1) * BLOCK],
    )
    rows, twice = dict[int, Version](), list[int]()
    for offset, *version in found:
        if offset in rows:
            twice.append(offset)
        rows[offset] = Version(*version)
    return rows, twice


def _entries(ledger: TopicLog, block: BlockKey, topic: TopicSide, end: int) -> dict[int, Version]:
    partition, number = block
    found: dict[int, Version] = {}
    if block not in topic.block_begins:
        return found
    for messages in ledger.slices(partition, topic.block_begins[block], end):
        for message in messages:
            try:
                entry = decode_entry((message.value() or b"")[HEADER_BYTES:])
            except ValueError as error:
                raise damaged(message, error) from error
            if entry.source_offset // BLOCK != number:
                return found
            one = entry.transaction
            amount = -one.amount if one.type == DEBIT else one.amount
            found[entry.source_offset] = Version(one.wallet_id, entry.sequence, amount, entry.hash)
    return found
