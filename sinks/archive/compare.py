"""Compare a month's rows with its topic in bulk: PostgreSQL adds up its blocks while Kafka is being read.

A block is the entries of `BLOCK` source offsets of one partition. For each block both sides give the number of entries,
their signed sum, and SHA-256 of their hashes in order; entries are compared one by one only if those differ.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from hashlib import sha256
from typing import Any, NamedTuple

from confluent_kafka import Message

from config.errors import Stopped
from schemas.codec import HEADER_BYTES, decode_entry
from schemas.records import DEBIT
from sinks.archive.entries import hashes, signed_sum, source_offset
from sinks.archive.seals import Content, Month, Range
from sinks.postgres import Connection
from sinks.sink import damaged
from topics.topic_log import TopicLog

#: Source offsets in a block: 2 MB of hashes, which the server puts into one value.
BLOCK = 65_536
#: How often to call `advance` while waiting only for PostgreSQL: it may want to stop.
TELL_EVERY_S = 0.5
#: How long to wait for a cancellation: a server that does not take it will not answer the query either.
CANCEL_S = 5.0

#: All of a month is read, whatever the server's statistics say, and sorted in few passes.
WHOLE_MONTH = """
    SET LOCAL enable_indexscan = off;
    SET LOCAL enable_bitmapscan = off;
    SET LOCAL work_mem = '64MB'
"""

#: Partition and number of a block.
BlockKey = tuple[int, int]
Advance = Callable[[int], None]
#: Rows that a message names.
NAMED = 3


class Sums(NamedTuple):
    """One side's sums of a block."""

    entries: int
    amount: int
    digest: bytes


class Side(NamedTuple):
    """One side's sums of a month: each block, and a hash over all entries' hashes in their order."""

    blocks: Mapping[BlockKey, Sums]
    hash: bytes

    @property
    def entries(self) -> int:
        """How many entries there are."""
        return sum(block.entries for block in self.blocks.values())

    @property
    def amount(self) -> int:
        """Credits less debits."""
        return sum(block.amount for block in self.blocks.values())


class TopicSide(NamedTuple):
    """The topic's side, with the ranges that hold the month, and the ledger offset at which each block begins."""

    side: Side
    ranges: tuple[Range, ...]
    block_begins: Mapping[BlockKey, int]

    def content(self, month: Month) -> Content:
        """What a seal covers."""
        return Content(month.first, self.ranges, self.side.entries, self.side.amount, self.side.hash)


def both_sides(
    connection: Connection,
    ledger: TopicLog,
    month: Month,
    begins: Mapping[int, int],
    ends: Mapping[int, int],
    advance: Advance,
) -> tuple[Side, TopicSide]:
    """Add up a month in PostgreSQL and, between these offsets, in the topic at the same time.

    Calls `advance` with the number of offsets read. Raises Stopped for an entry of the topic that is damaged.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="archive-rows") as hand:
        rows = hand.submit(row_side, connection, month)
        try:
            topic = topic_side(ledger, begins, ends, advance)
            while not wait([rows], TELL_EVERY_S).done:
                advance(sum(ends[at] - begins[at] for at in ends))
        except BaseException:
            connection.cancel_safe(timeout=CANCEL_S)
            raise
        return rows.result(), topic


def row_side(connection: Connection, month: Month) -> Side:
    """A month's rows, wherever they are, added up by the server."""
    blocks, whole = dict[BlockKey, Sums](), sha256()
    query = f"""
        COPY (
            SELECT source_partition, source_offset / {BLOCK}, count(*),
                sum(CASE type WHEN 'CREDIT' THEN amount ELSE -amount END),
                string_agg(hash, ''::bytea ORDER BY source_offset)
            FROM wallet_entries WHERE recorded_at >= '{month.starts}' AND recorded_at < '{month.ends}'
            GROUP BY 1, 2 ORDER BY 1, 2
        ) TO STDOUT (FORMAT binary)
    """  # noqa: S608 - COPY takes no parameters; these are numbers and times of ours
    # Rolled back, since an audit runs this within its own transaction, in which the settings must not stay.
    with connection.transaction(force_rollback=True), connection.cursor() as cursor:
        cursor.execute(WHOLE_MONTH)
        with cursor.copy(query.encode()) as stream:
            stream.set_types(["int4", "int8", "int8", "numeric", "bytea"])
            for partition, number, entries, amount, joined in stream.rows():
                whole.update(joined)
                blocks[partition, number] = Sums(entries, int(amount), sha256(joined).digest())
    return Side(blocks, whole.digest())


def topic_side(
    ledger: TopicLog, begins: Mapping[int, int], ends: Mapping[int, int], advance: Advance
) -> TopicSide:
    """The entries of the topic between these offsets, added up."""
    adding = _Adding()
    done = 0
    for partition in sorted(ends):
        begin, end = begins[partition], ends[partition]
        for messages in ledger.slices(partition, begin, end):
            adding.add(partition, messages)
            advance(done + (messages[-1].offset() or 0) - begin)
        done += end - begin
        advance(done)
    return adding.result()


class _Adding:
    """Adds up blocks as the entries come, by partition and in their order."""

    def __init__(self) -> None:
        self._whole, self._block = sha256(), sha256()
        self._at: BlockKey | None = None
        self._entries = self._amount = 0
        self._blocks = dict[BlockKey, Sums]()
        self._block_begins = dict[BlockKey, int]()
        self._ranges = dict[int, Range]()

    def add(self, partition: int, messages: Sequence[Message]) -> None:
        """Add a slice of one partition, which follows everything before."""
        values: list[Any] = [message.value() for message in messages]
        try:
            start = 0
            while start < len(values):
                number = source_offset(values[start]) // BLOCK
                after = (number + 1) * BLOCK
                stop = len(values)
                if source_offset(values[-1]) >= after:
                    stop = bisect_left(values, after, start, key=source_offset)
                self._add(partition, number, values[start:stop], messages[start].offset() or 0)
                start = stop
        except (TypeError, ValueError, IndexError) as error:
            raise _named(messages, error) from error
        begin = (
            self._ranges[partition].from_offset if partition in self._ranges else messages[0].offset() or 0
        )
        self._ranges[partition] = Range(partition, begin, (messages[-1].offset() or 0) + 1)

    def _add(self, partition: int, number: int, values: Sequence[bytes], offset: int) -> None:
        block = (partition, number)
        if block != self._at:
            self._close()
            if block in self._blocks:
                raise ValueError(f"source offsets of block {number} come twice")
            self._at = block
            self._block_begins[block] = offset
        joined = hashes(values)
        self._whole.update(joined)
        self._block.update(joined)
        self._entries += len(values)
        self._amount += signed_sum(values)

    def _close(self) -> None:
        if self._at:
            self._blocks[self._at] = Sums(self._entries, self._amount, self._block.digest())
        self._block, self._entries, self._amount = sha256(), 0, 0

    def result(self) -> TopicSide:
        """Everything that was added."""
        self._close()
        return TopicSide(
            Side(self._blocks, self._whole.digest()), tuple(self._ranges.values()), self._block_begins
        )


def _named(messages: Sequence[Message], error: Exception) -> Stopped:
    """The first of these that the strict reader cannot read; if there is none, what is wrong with them together."""
    for message in messages:
        try:
            decode_entry((message.value() or b"")[HEADER_BYTES:])
        except ValueError as damage:
            return damaged(message, damage)
    first, last = messages[0].offset(), messages[-1].offset()
    return Stopped(
        f"{messages[0].topic()} partition {messages[0].partition()} offsets {first} to {last}: {error}: another "
        "program than this pipeline's worker wrote there; `wallet verify` shows what differs"
    )


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
    blocks = sorted({*rows.blocks, *topic.side.blocks})
    differing = (at for at in blocks if rows.blocks.get(at) != topic.side.blocks.get(at))
    if (block := next(differing, None)) is None:
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
        f"{name} is {shown(ours)} in the tables and {shown(theirs)} in the topic"
        for name, ours, theirs in zip(Version._fields, row, entry, strict=True)
        if ours != theirs
    ]
    return f"{entry.named}: {', '.join(names)}"


def shown(value: object) -> object:
    """A value for a message; of a hash, its beginning."""
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
