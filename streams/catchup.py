"""Bring a partition's store up to the end of its topics, and find the next offset of its source.

Runs after `init_transactions` has fenced the former owner and ended its open transaction, so nothing is
written to the partition's derived topics meanwhile: what is read-committed now is everything.
"""

import threading
import time
from collections.abc import Callable, Container
from contextlib import nullcontext, suppress
from functools import partial
from typing import TypeVar

from confluent_kafka import Message

from config.errors import Refused, Stopped
from config.logs import EventLog
from config.settings import Settings
from schemas.codec import HEADER_BYTES, decode_entry, decode_snapshot
from schemas.digest import digest
from schemas.native.balances import decode_balance
from schemas.records import PERIOD, Snapshot
from streams.absorb import absorb, rejection_of
from streams.agreement import Held, agree
from streams.endings import Torn
from streams.leftovers import Leftovers
from streams.reader import PartitionReader, Progress
from streams.store import PartitionStore, StoreAhead
from topics.names import Topics
from topics.tail import newest

log = EventLog("streams.catchup")

PROGRESS_EVERY_S = 2.0
#: A store that is further behind than this is opened for filling: opening it twice takes as long as a few thousand.
MANY_RECORDS = 50_000

T = TypeVar("T")


class CatchUp:
    """Reads one partition's derived topics for its store. Blocking; `stopping` ends it early."""

    def __init__(
        self,
        settings: Settings,
        topics: Topics,
        partition: int,
        store: PartitionStore,
        progress: Progress | None = None,
    ) -> None:
        self._progress = progress or Progress()
        self._reader = partial(PartitionReader, settings, partition, progress=self._progress)
        self._topics = topics
        self._partition = partition
        self._store = store
        self._said_of_others = False

    def run(self, stopping: threading.Event) -> int:
        """Catch the store up, then return the source offset at which this partition continues.

        Raises Interrupted, Refused (the store is ahead of Kafka, or the topics do not agree) or Stopped (no
        progress, or records that nobody handled).
        """
        topics = self._topics
        read = (topics.transactions, topics.ledger, topics.balances, topics.rejections)
        with self._reader(read, stopping, offset_of=topics.transactions) as reader:
            self._restore(reader)
            return self._position(reader)

    def refuse_half_ended(self, left: Leftovers, stopping: threading.Event) -> None:
        """Raise Torn if Kafka left a transaction open of which other records are already committed.

        Only records behind all committed ones, by source and by sequence, may be rolled back. Catches the store up,
        too. Raises what `run` raises.
        """
        topics = self._topics
        # If the offset is open as well, Kafka does not answer for it: asking would wait for ever.
        offset_of = None if left.offset else topics.transactions
        with self._reader(topics.partitioned[1:], stopping, offset_of=offset_of) as reader:
            self._restore(reader, left.ends)
            committed = reader.committed or 0
            handled, _ = self._handled(reader)
            last = self._last(reader, topics.snapshots, _snapshot_of)
        if last is not None and not self._is_taken(last):
            raise self._torn(
                f"a snapshot of {last.wallet_id} after sequence {last.sequence} is committed, but not its entry"
            )
        if not left.ends:
            return
        with self._reader(tuple(left.ends), stopping, isolation_level="read_uncommitted") as reader:
            for batch in reader.read(left.ends):
                for message in batch:
                    if self._belongs_before(message, handled):
                        raise self._torn(
                            f"the record at {message.offset()} of {message.topic()} is open, but records of later "
                            "source offsets are committed"
                        )
                    if self._belongs_before(message, committed):
                        raise self._skipped(handled, committed)

    def _belongs_before(self, message: Message, handled: int) -> bool:
        """Whether other records show that this record's source was handled: then its transaction has committed."""
        topics, body = self._topics, (message.value() or b"")[HEADER_BYTES:]
        try:
            match message.topic():
                case topics.ledger:
                    return decode_entry(body).source_offset < handled
                case topics.balances:
                    return decode_balance(body).source_offset < handled
                case topics.snapshots:
                    return self._is_taken(decode_snapshot(body))
        except ValueError:
            return False  # another program wrote it, so it will not be rolled back either
        rejected = self._rejected_offset(message)
        return rejected is not None and rejected < handled

    def _is_taken(self, snapshot: Snapshot) -> bool:
        """Whether the entry that caused a snapshot is committed."""
        balance = self._store.balance(snapshot.wallet_id.encode())
        caused_by = snapshot.sequence + (snapshot.reason == PERIOD)
        return balance is not None and balance.sequence >= caused_by

    def _restore(self, reader: PartitionReader, still_open: Container[str] = ()) -> None:
        """Bring the store up to the ends; start from nothing if it holds what Kafka lacks or leaves open."""
        try:
            self._read_on(reader, still_open)
        except StoreAhead:
            self._store.clear()
            self._read_on(reader, still_open)

    def _read_on(self, reader: PartitionReader, still_open: Container[str]) -> None:
        """Read `ledger` and `balances` from the store's cursor to their ends, a batch at a time."""
        cursor, ledger, balances = self._store.cursor, self._topics.ledger, self._topics.balances
        self._start(reader, ledger, cursor.ledger, still_open)
        start = {
            ledger: self._store.first_to_read(reader.end(ledger).begin),
            balances: self._start(reader, balances, cursor.balances, still_open),
        }
        behind = {topic: offset for topic, offset in start.items() if offset < reader.end(topic).end}
        total = sum(reader.end(topic).end - offset for topic, offset in behind.items())
        self._progress.behind = total
        with self._store.filling() if total > MANY_RECORDS else nullcontext():
            self._absorb(reader, behind, total)
        if self._store.newest_entry is not None:
            raise StoreAhead
        differing = agree(self._store, everything_unseen=self._store.missed, compared=reader.compared)
        if differing is not None:
            raise self._differs(differing)

    def _absorb(self, reader: PartitionReader, behind: dict[str, int], total: int) -> None:
        said, done = time.monotonic(), 0
        for batch in reader.read(behind):
            absorb(self._store, self._topics, batch)
            done += len(batch)
            if time.monotonic() - said > PROGRESS_EVERY_S:
                said = time.monotonic()
                log.info("catching_up", partition=self._partition, records=done, of_about=total)
        if done > 1:  # the newest entry is always read again
            log.info("caught_up", partition=self._partition, records=done)

    def _differs(self, held: Held) -> Torn:
        """The error for a wallet on which the topics differ."""
        return self._torn(
            f"for wallet {held.wallet.decode(errors='backslashreplace')!r} `ledger` has {_said(held.entry)}, "
            f"`balances` has {_said(held.change)}"
        )

    def _torn(self, what: str) -> Torn:
        return Torn(
            f"partition {self._partition}: {what}: Kafka has ended a transaction in only some of its topics, or "
            "another program has written to them. `wallet verify` shows what differs, `wallet rebuild start` makes "
            "the topics again from the input"
        )

    def _start(self, reader: PartitionReader, topic: str, seen: int, still_open: Container[str]) -> int:
        """Where to read a topic from: the cursor, or the topic's begin where older records were deleted."""
        begin, end = reader.end(topic).begin, reader.end(topic).end
        if seen > end and topic in still_open:
            raise StoreAhead
        if seen > end:
            raise Refused(
                f"the store {self._store.path} has seen offset {seen} of {topic}[{self._partition}], which "
                f"ends at {end}: Kafka lost records, or this is another cluster; find out which before "
                f"you delete the store to have it rebuilt"
            )
        if 0 < seen < begin:
            log.warning("records_deleted", topic=topic, partition=self._partition, after=seen, begin=begin)
        return max(seen, begin)

    def _position(self, reader: PartitionReader) -> int:
        """One past the last record of the source that was handled.

        That is the group's committed offset; where it is missing (Kafka forgets an idle group's after a
        week) or lower, the newest entry and rejection count, since each names its source. Where it is higher,
        there must be no records in between.
        """
        handled, is_newest = self._handled(reader)
        committed = reader.committed
        begin, end = reader.end(self._topics.transactions).begin, reader.end(self._topics.transactions).end
        if committed is None or committed <= handled:
            position = max(handled, begin)
        else:
            position = committed
            if is_newest:
                self._refuse_skipped(reader, max(handled, begin), committed)
        if position > end:
            raise Torn(
                f"partition {self._partition}: the next offset is {position}, but {self._topics.transactions} ends at "
                f"{end}: Kafka lost records, this is another cluster, or the group's offset was set too high (then "
                f"reset it to {min(handled, end)})"
            )
        if begin > position or (handled == 0 and committed is None and begin > 0):
            log.warning(
                "records_deleted", topic=self._topics.transactions, partition=self._partition, begin=begin
            )
        log.info("position", partition=self._partition, offset=position, end=end, committed=committed)
        return position

    def _handled(self, reader: PartitionReader) -> tuple[int, bool]:
        """One past the highest source offset of an entry or a rejection, and whether nothing was handled behind it.

        The latter is not known if all rejections were deleted: the newest of them may have been newer.
        """
        rejected = self._last(reader, self._topics.rejections, self._rejected_offset)
        is_newest = rejected is not None or not reader.end(self._topics.rejections).begin
        return max(self._store.cursor.source, -1 if rejected is None else rejected + 1), is_newest

    def _last(self, reader: PartitionReader, topic: str, of: Callable[[Message], T | None]) -> T | None:
        """What our last record in a topic says, None if there is none; searches backwards from the end."""
        there = reader.end(topic)
        return newest(there.begin, there.end, lambda start: reader.read({topic: start}), of)

    def _rejected_offset(self, message: Message) -> int | None:
        """The source offset of a rejection; None for a record of another program, the first of which is logged."""
        found = rejection_of(message)
        if found is None and not self._said_of_others:
            self._said_of_others = True
            log.warning(
                "no_rejection", topic=message.topic(), partition=self._partition, offset=message.offset()
            )
        return None if found is None else found.offset

    def _refuse_skipped(self, reader: PartitionReader, handled: int, committed: int) -> None:
        """Stop if the group's offset has moved past records that have neither entry nor rejection."""
        for batch in reader.read({self._topics.transactions: handled} if handled < committed else {}):
            first = batch[0].offset()
            if first is not None and first < committed:
                raise self._skipped(first, committed)
            break

    def _skipped(self, first: int, committed: int) -> Stopped:
        return Stopped(
            f"partition {self._partition}: the group's offset is {committed}, but the record at {first} has neither "
            f"entry nor rejection: reset the group to {first} and start again"
        )


def _said(body: bytes | None) -> str:
    """What a topic holds of a wallet, without its money."""
    if not body:
        return "nothing" if body is None else "a null"
    try:
        balance = decode_balance(body)
    except ValueError as damage:
        return f"a record that is no balance ({damage})"
    content = digest(body).hex()[:8]
    return f"sequence {balance.sequence} of source offset {balance.source_offset} (content {content})"


def _snapshot_of(message: Message) -> Snapshot | None:
    with suppress(ValueError):
        return decode_snapshot((message.value() or b"")[HEADER_BYTES:])
    return None
