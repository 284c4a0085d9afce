"""What one PostgreSQL transaction writes: records with their rows, and the positions that move with them."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import NamedTuple, cast

import psycopg

from schemas.records import from_ms
from sinks.positions import Move
from sinks.postgres import Connection
from sinks.sink import Record, Rows, Sink
from sinks.tables import copy, reconcile
from topics.source import Headers


class Batch(NamedTuple):
    """Records to write, the moves of all their partitions' positions, and the positions of the others."""

    moves: Sequence[Move]
    fresh: Sequence[Record]
    replayed: Sequence[Record]
    #: next_offset of this owner's partitions that the batch does not move.
    others: Mapping[int, int] = MappingProxyType({})

    @property
    def records(self) -> int:
        """How many there are."""
        return len(self.fresh) + len(self.replayed)

    @property
    def partitions(self) -> set[int]:
        """All partitions whose positions are checked."""
        return {move.partition for move in self.moves} | self.others.keys()

    def read(self) -> Iterator[tuple[int, int, Headers]]:
        """Partition, offset and headers of each record."""
        for record in chain(self.replayed, self.fresh):
            # Of a record that was read they are a list, of values as bytes.
            yield record.partition() or 0, record.offset() or 0, cast("Headers", record.headers() or ())

    def only(self, partitions: Collection[int]) -> "Batch":
        """The part of the batch in these partitions."""
        return Batch(
            [move for move in self.moves if move.partition in partitions],
            [record for record in self.fresh if record.partition() in partitions],
            [record for record in self.replayed if record.partition() in partitions],
            {number: at for number, at in self.others.items() if number in partitions},
        )

    def as_replay(self) -> "Batch":
        """The same batch with every record to be compared."""
        return self._replace(fresh=[], replayed=[*self.replayed, *self.fresh])


class Prepared(NamedTuple):
    """A batch with the rows of its records."""

    batch: Batch
    fresh: Rows
    replayed: Rows

    def put(self, connection: Connection) -> int:
        """Compare rows that may exist already, then copy the new ones; returns for how many records rows were added.

        Runs in the caller's transaction. Raises Stopped for a row that differs.
        """
        added = 0
        for table, rows in self.replayed.tables:
            added = reconcile(connection, table, rows)
        for table, rows in self.fresh.tables:
            copy(connection, table, rows)
        # A record is one row of its sink's last table.
        return added + (len(self.fresh.tables[-1][1]) if self.fresh.tables else 0)


def prepare(sink: Sink, batch: Batch) -> Prepared:
    """Make a batch's rows, and say how far in the input it is; raises Stopped for a record that does not decode."""
    fresh, replayed = sink.rows(batch.fresh), sink.rows(batch.replayed)
    last = {record.partition(): record for records in (batch.replayed, batch.fresh) for record in records}
    moves = [_in_input(sink, move, last.get(move.partition)) for move in batch.moves]
    return Prepared(batch._replace(moves=moves), fresh, replayed)


def _in_input(sink: Sink, move: Move, last: Record | None) -> Move:
    source = None if last is None else sink.source_offset(last)
    if last is None or source is None:
        return move
    return move._replace(input_offset=source + 1, recorded_at=from_ms(last.timestamp()[1]))


def write_or_compare(sink: Sink, prepared: Prepared, transaction: Callable[[Prepared], None]) -> None:
    """Write by this transaction; if rows that should be new exist already, do it again and compare all of them.

    This happens after somebody has reset a position.
    """
    try:
        transaction(prepared)
    except psycopg.errors.UniqueViolation:
        transaction(prepare(sink, prepared.batch.as_replay()))
