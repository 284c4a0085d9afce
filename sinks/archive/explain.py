"""Which rows of a month are not what the topic or its seal says, looked at one by one in a single block."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from config.errors import Stopped
from config.topic_log import TopicLog
from schemas.codec import HEADER_BYTES
from schemas.entries import decode_entry
from schemas.records import DEBIT
from sinks import audit_rows
from sinks.archive.compare import BLOCK, Place, Side, TopicSide, first_difference
from sinks.archive.months import Month
from sinks.postgres import Connection
from sinks.rows import HASH_BYTES
from sinks.sink import damaged

#: Rows that a message names.
NAMED = 3


class Mismatch(Stopped):
    """A month is not what its topic or its seal says; the message names the rows."""


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
    """Raise Mismatch, naming rows of the first block that differs, unless both sides are the same."""
    place = first_difference(rows, topic.side)
    if place is None:
        return
    there, twice = _rows(connection, month, place)
    came = _entries(ledger, place, topic, ends[place[0]])
    told = [
        f"source offset {offset}: {_told(there.get(offset), came.get(offset))}"
        for offset in sorted({*there, *came})
        if there.get(offset) != came.get(offset)
    ] + [f"source offset {offset}: {there[offset].named} is in the tables more than once" for offset in twice]
    more = f", and {len(told) - NAMED} more near them" if len(told) > NAMED else ""
    raise Mismatch(
        f"month {month.name} is not what its topic says, in partition {place[0]}: {'; '.join(told[:NAMED])}{more}; "
        "run `wallet verify` to find all of them"
    )


def _told(row: Version | None, entry: Version | None) -> str:
    if row is None:
        return f"{entry.named if entry else ''} is in the topic and not in the tables"
    if entry is None:
        return f"{row.named} is in the tables and not in the topic"
    names = [
        f"{name} is {_shown(ours)} in the tables and {_shown(theirs)} in the topic"
        for name, ours, theirs in zip(Version._fields, row, entry, strict=True)
        if ours != theirs
    ]
    return f"{entry.named}: {', '.join(names)}"


def _shown(value: object) -> object:
    return f"{value.hex()[:16]}..." if isinstance(value, bytes) else value


def _rows(connection: Connection, month: Month, place: Place) -> tuple[dict[int, Version], list[int]]:
    """Rows by source offset, and the offsets of which there are several."""
    partition, number = place
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


def _entries(ledger: TopicLog, place: Place, topic: TopicSide, end: int) -> dict[int, Version]:
    partition, number = place
    found: dict[int, Version] = {}
    if place not in topic.block_begins:
        return found
    for messages in ledger.slices(partition, topic.block_begins[place], end):
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


def rows_that_contradict_themselves(connection: Connection, month: Month) -> Iterator[str]:
    """Rows of a month whose columns are not what their entry says, or whose hash does not follow, without Kafka.

    A row that is missing shows in the next one of its wallet.
    """
    for stored in audit_rows.entries(connection, (), (month.starts, month.ends)):
        if not stored.agrees:
            body = stored.body
            try:
                named = (
                    f"sequence {decode_entry(body).sequence} of {decode_entry(body).transaction.wallet_id!r}"
                )
            except ValueError:
                named = f"hash {body[-HASH_BYTES:].hex()[:16]}..."
            place = f"partition {stored.partition}, source offset {stored.source_offset}"
            yield f"{named} ({place}): the columns are not what the entry says"
    broken = connection.execute(
        """
        SELECT wallet_id, sequence FROM (
            SELECT wallet_id, sequence, hash, entry, lag(hash) OVER chain AS before,
                lag(sequence) OVER chain AS sequence_before
            FROM wallet_entries WHERE recorded_at >= %s AND recorded_at < %s
            WINDOW chain AS (PARTITION BY wallet_id ORDER BY sequence)
        ) AS entries
        WHERE sequence <> sequence_before + 1 OR hash <> sha256(before || entry)
        LIMIT %s
        """,
        [month.starts, month.ends, NAMED],
    )
    for wallet_id, sequence in broken:
        yield f"sequence {sequence} of {wallet_id!r}: it does not follow from the wallet's entry before it"


def first_named(reasons: Iterator[str]) -> str:
    """The first few, on one line."""
    return "; ".join(islice(reasons, NAMED))
