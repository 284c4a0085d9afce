"""Bringing a partition's store up to the end of its topics, and finding where its source goes on.

Runs after `init_transactions` has fenced the former owner and ended its open transaction, so nothing is
written to the partition's derived topics meanwhile: what is read-committed now is all there is.
"""

import threading
import time
from contextlib import nullcontext

from confluent_kafka import Message

from config.errors import Refused, Stopped
from config.logs import EventLog
from config.settings import Settings
from config.topics import Topics
from schemas.codec import HEADER_BYTES, decode_entry
from streams.absorb import absorb
from streams.reader import PartitionReader, Progress
from streams.store import PartitionStore, StoreAhead

log = EventLog("streams.catchup")

#: The newest records of a topic are looked for in windows that grow by this factor.
TAIL_RECORDS, TAIL_GROWTH = 16, 16
PROGRESS_EVERY_S = 2.0
#: A store that is further behind than this is opened for filling: opening it twice takes as long as a few thousand.
MANY_RECORDS = 50_000


class Torn(Refused):
    """`ledger` and `balances` hold different transactions, or were read while a new owner wrote them."""


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
        self._settings = settings
        self._topics = topics
        self._partition = partition
        self._store = store

    def run(self, stopping: threading.Event) -> int:
        """Catch the store up, then return the source offset at which this partition goes on.

        Raises Interrupted, Refused (the store is ahead of Kafka, or the topics do not agree) or Stopped (no
        progress, or records that nobody handled).
        """
        topics = self._topics
        derived = (topics.ledger, topics.balances, topics.rejections)
        with PartitionReader(
            self._settings, self._partition, topics.transactions, derived, stopping, self._progress
        ) as reader:
            try:
                self._restore(reader)
            except StoreAhead:
                self._store.clear()
                self._restore(reader)
            return self._position(reader)

    def _restore(self, reader: PartitionReader) -> None:
        """Read `ledger` and `balances` from the store's cursor to their ends, a batch at a time."""
        cursor, ledger, balances = self._store.cursor, self._topics.ledger, self._topics.balances
        self._start(reader, ledger, cursor.ledger)
        start = {
            ledger: self._store.first_to_read(reader.end(ledger).begin),
            balances: self._start(reader, balances, cursor.balances),
        }
        behind = {topic: offset for topic, offset in start.items() if offset < reader.end(topic).end}
        total = sum(reader.end(topic).end - offset for topic, offset in behind.items())
        self._progress.behind = total
        with self._store.filling() if total > MANY_RECORDS else nullcontext():
            newest = self._absorb(reader, behind, total)
        if self._store.newest_entry is not None:
            raise StoreAhead
        if newest is not None:
            self._refuse_torn(newest)

    def _absorb(self, reader: PartitionReader, behind: dict[str, int], total: int) -> Message | None:
        """Take it all over; returns the newest entry."""
        said, done, newest, ledger = time.monotonic(), 0, None, self._topics.ledger
        for batch in reader.read(behind):
            absorb(self._store, self._topics, batch)
            newest = next((one for one in reversed(batch) if one.topic() == ledger), newest)
            done += len(batch)
            if time.monotonic() - said > PROGRESS_EVERY_S:
                said = time.monotonic()
                log.info("catching_up", partition=self._partition, records=done, of_about=total)
        if done > 1:  # the newest entry is read in any case
            log.info("caught_up", partition=self._partition, records=done)
        return newest

    def _refuse_torn(self, newest: Message) -> None:
        """Refuse to go on where `ledger` and `balances` do not end with the same transaction."""
        entry = decode_entry((newest.value() or b"")[HEADER_BYTES:])
        balance = self._store.balance(newest.key() or b"")
        if (
            balance is None
            or balance.sequence != entry.sequence
            or self._store.cursor.source != entry.source_offset + 1
        ):
            raise Torn(
                f"partition {self._partition}: ledger and balances do not end with the same transaction (the newest "
                f"entry has source offset {entry.source_offset} and sequence {entry.sequence}, its wallet's newest "
                f"balance {f'sequence {balance.sequence}' if balance else 'is missing'}, the newest of both source "
                f"offset {self._store.cursor.source - 1}): Kafka ended it in one of them only. `wallet verify` says "
                "what is missing, `wallet rebuild start` makes the topics anew from the input"
            )

    def _start(self, reader: PartitionReader, topic: str, seen: int) -> int:
        """Where to read a topic from: the cursor, or the topic's begin where older records were deleted."""
        begin, end = reader.end(topic).begin, reader.end(topic).end
        if seen > end:
            raise Refused(
                f"the store {self._store.path} has seen offset {seen} of {topic}[{self._partition}], which "
                f"ends at {end}: Kafka lost records, or is another one; find out which before you delete "
                f"the store to have it rebuilt"
            )
        if 0 < seen < begin:
            log.warning("records_deleted", topic=topic, partition=self._partition, after=seen, begin=begin)
        return max(seen, begin)

    def _position(self, reader: PartitionReader) -> int:
        """One past the last record of the source that was handled.

        The group's committed offset says so; where it is missing (Kafka forgets an idle group's after a
        week) or lower, the newest entry and rejection do, since each names its source. Where it is higher,
        nothing may stand between.
        """
        handled = max(self._store.cursor.source, self._last_rejected(reader) + 1)
        committed = reader.committed
        begin, end = reader.end(self._topics.transactions).begin, reader.end(self._topics.transactions).end
        if committed is None or committed <= handled:
            position = max(handled, begin)
        else:
            position = committed
            self._refuse_skipped(reader, max(handled, begin), committed)
        if begin > position or (handled == 0 and committed is None and begin > 0):
            log.warning(
                "records_deleted", topic=self._topics.transactions, partition=self._partition, begin=begin
            )
        log.info("position", partition=self._partition, offset=position, end=end, committed=committed)
        return position

    def _last_rejected(self, reader: PartitionReader) -> int:
        """The highest source offset in `rejections`, -1 where there is none: looked for from the end back."""
        topic = self._topics.rejections
        begin, end = reader.end(topic).begin, reader.end(topic).end
        window = TAIL_RECORDS
        while begin < end:
            start = max(begin, end - window)
            newest = -1
            for batch in reader.read({topic: start}):
                newest = max(newest, *(_rejected_offset(message) for message in batch))
            if newest >= 0 or start == begin:
                return newest
            window *= TAIL_GROWTH
        return -1

    def _refuse_skipped(self, reader: PartitionReader, handled: int, committed: int) -> None:
        """Stop if the group's offset has moved past records that have neither entry nor rejection."""
        if reader.end(self._topics.ledger).begin > 0:
            return  # what was handled can no longer be told from the ledger: its older part was deleted
        for batch in reader.read({self._topics.transactions: handled} if handled < committed else {}):
            first = batch[0].offset()
            if first is not None and first < committed:
                raise Stopped(
                    f"partition {self._partition}: the group's offset is {committed}, but the record at "
                    f"{first} has neither entry nor rejection: reset the group to {first}, start again"
                )
            break


def _rejected_offset(message: Message) -> int:
    """The source offset of a rejection: the last header of that name, as upstream may send one too."""
    for name, value in reversed(message.headers() or []):
        if name == "rejection.offset" and value:
            return int(value)
    return -1
