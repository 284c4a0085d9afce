"""The one writer of a partition: its store, its transactional producer and its fold, batch after batch.

This is the path of an event from top to bottom: a batch of records comes in, the fold decides, one Kafka
transaction commits what it decided, and only then the store takes it over. Blocking code that runs in a
thread; `streams.partitions` knows which partitions there are.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from config.errors import NotReachable, Stopped
from config.logs import EventLog
from schemas.accepted import AcceptedIds
from schemas.codec import TransactionCodec
from streams import counters
from streams.accepted import ids_to_write_with
from streams.batch import Derived, Outputs
from streams.catchup import CatchUp
from streams.endings import Aborted, Interrupted, Torn
from streams.leftovers import OpenTransactions
from streams.parts import WriterParts, open_store
from streams.posting import Fold
from streams.reader import Progress
from streams.store import Cursor, PartitionStore
from streams.transaction import PartitionProducer
from topics.source import Source
from vitals import spans

log = EventLog("streams.writer")

#: How often to roll back what is left open, and check again.
END_TRIES = 3
#: How often to check a partition whose topics do not agree, and the pause between: while a broker comes back, one of
#: them may report an end that the others have passed.
TORN_LOOKS, TORN_PAUSE_S = 5, 2.0


class PartitionWriter:
    """Folds one partition: `open`, then `post` for every batch, then `close`, one thread at a time."""

    def __init__(self, parts: WriterParts, partition: int) -> None:
        self.partition = partition
        self.next_offset = -1
        self.stopping = threading.Event()
        self.recovery = Progress()
        self._parts = parts
        self._open_transactions = OpenTransactions(
            parts.settings, parts.topics, partition, parts.group_consumer, parts.uncommitted, self.stopping
        )
        self._store: PartitionStore | None = None
        self._producer: PartitionProducer | None = None
        self._fold: Fold | None = None
        self._ids = AcceptedIds(partition)

    @property
    def store(self) -> PartitionStore | None:
        """The partition's store while it is open."""
        return self._store

    def open(self) -> None:
        """Become the partition's writer; afterwards `next_offset` is the next offset of its source.

        The order is the correctness: 1. fence the former owner and end its transaction, also where Kafka did
        not, 2. catch the store up with what it committed, 3. find the position, 4. read the schema ids that it
        accepted. Only then may a record be read.
        """
        started = time.monotonic()
        self._take_over()
        took_s = time.monotonic() - started
        counters.recovered(self.recovery.records, took_s)
        log.info("ready", partition=self.partition, took_s=round(took_s, 3))

    def _take_over(self) -> None:
        for left in reversed(range(TORN_LOOKS)):
            try:
                self._fence()
                self._store = self._store or open_store(self._parts, self.partition)
                self._end_leftovers(self._store)
                self._catch_up(self._store)
            except Torn as torn:
                self.close()
                if not left:
                    raise
                log.warning("torn", partition=self.partition, looks_left=left, reason=str(torn))
            else:
                return
            if self.stopping.wait(TORN_PAUSE_S):
                raise Interrupted

    def _fence(self) -> None:
        parts = self._parts
        self._producer = PartitionProducer(
            parts.settings,
            parts.topics,
            self.partition,
            parts.group_consumer,
            self._open_transactions,
            parts.working,
        )
        self._producer.open(self.stopping)

    def _end_leftovers(self, store: PartitionStore) -> None:
        """Roll back what Kafka left open of a transaction that it has ended, if nobody has read any of it."""
        for _ in range(END_TRIES):
            left = self._open_transactions.left()
            if not left or self._producer is None:
                return
            log.warning("left_open", partition=self.partition, ends=left.ends, offset=left.offset)
            with self._unless_fenced():
                self._catching_up(store).refuse_half_ended(left, self.stopping)
            self._producer.roll_back_leftovers([*left.ends])
            # A producer that has rolled back may lose records (see _post_again).
            self._producer.close()
            self._fence()
        raise Stopped(
            f"partition {self.partition}: a transaction stays open in {', '.join(left.ends) or 'the group offset'}: "
            "does another producer write there? Find it with `kafka-transactions.sh find-hanging`"
        )

    def _catch_up(self, store: PartitionStore) -> None:
        with self._unless_fenced():
            self.next_offset = self._catching_up(store).run(self.stopping)
            self._begin_fold(store)

    def _begin_fold(self, store: PartitionStore) -> None:
        parts = self._parts
        self._ids = ids_to_write_with(
            parts.settings,
            parts.pipeline,
            parts.writers,
            self.partition,
            self.next_offset,
            self.stopping,
            self._roll_back_ids,
        )
        codec = TransactionCodec(parts.pipeline.transaction_schema_id, self._ids)
        self._fold = Fold(parts.topics.transactions, self.partition, parts.pipeline, codec, parts.ids, store)

    def _roll_back_ids(self) -> None:
        """Roll back what this partition has open in the pipeline topic."""
        if self._producer is not None:
            self._producer.roll_back_leftovers([self._parts.topics.pipeline])
            # A producer that has rolled back may lose records (see _post_again).
            self._producer.close()
            self._fence()

    def _catching_up(self, store: PartitionStore) -> CatchUp:
        return CatchUp(self._parts.settings, self._parts.topics, self.partition, store, self.recovery)

    @contextmanager
    def _unless_fenced(self) -> Iterator[None]:
        """Raise Fenced instead of Torn: a fenced writer may just have seen half of its successor's transaction."""
        try:
            yield
        except Torn:
            if self._producer is not None:
                self._producer.roll_back_leftovers([])
            raise

    def post(self, records: list[Source]) -> Source | None:
        """Post a batch: all of it in one transaction, or none of it.

        Records below the next offset were posted already and are skipped. A record that is too far ahead
        of the clock ends the batch before it and is returned: it is decided when the clock has come closer.
        A transaction that was rolled back is tried once more, and the producer is renewed after one whose commit
        may have been sent twice. Raises Fenced, Stopped, and Interrupted when the partition was taken away between
        the two.
        """
        # The registry may know by now a schema id that it did not know for earlier records.
        self._parts.writers.forget_unknown()
        records = [record for record in records if record.offset >= self.next_offset]
        records, ahead = self._until_ahead(records)
        if records:
            try:
                self._post(records)
            except Aborted as reason:
                log.warning("aborted", partition=self.partition, offset=records[0].offset, reason=reason)
                self._post_again(records)
            if self._producer is not None and self._producer.is_spent:
                self._renew()
        return ahead

    def _post_again(self, records: list[Source]) -> None:
        """Post a batch that was rolled back, with a new producer.

        The old one may lose records now: after an abort, librdkafka reuses the sequence numbers of the records it
        threw away, even if a record was already written and only the broker's answer was lost. The broker then
        takes the next record for a repetition, confirms it, and drops it. A new producer starts new numbers.
        """
        self._renew()
        records = [record for record in records if record.offset >= self.next_offset]
        try:
            if records:
                self._post(records)
        except Aborted as reason:
            raise Stopped(f"partition {self.partition}: rolled back twice in a row: {reason}") from None

    def _renew(self) -> None:
        """Continue with a new producer.

        Opening it fences any worker that took the partition over meanwhile, so first take over what that one committed.
        """
        if self._producer is None or self._store is None:
            raise Stopped(f"partition {self.partition} was closed with a batch in hand: report this bug")
        before = self.next_offset
        self._producer.close()
        self._take_over()
        if self.next_offset < before:
            raise Stopped(
                f"partition {self.partition}: Kafka has rolled back what it had confirmed: start again, which "
                f"continues at {self.next_offset}, not at {before}"
            )

    def _post(self, records: list[Source]) -> None:
        fold, producer, store = self._fold, self._producer, self._store
        if fold is None or producer is None or store is None:
            raise Stopped(f"partition {self.partition} was closed with a batch in hand: report this bug")
        started = time.monotonic()
        # 1. Decide. Nothing outside of `outputs` changes.
        try:
            with self._parts.working:
                outputs = fold.outputs(records, self.next_offset, store.cursor.recorded_ms)
        except NotReachable:  # the registry is away, and a rebalance waits for this batch
            raise Interrupted from None
        # 2. One Kafka transaction: entries, rejections, snapshots, balances, the source's next offset, and the schema
        # ids that were accepted for it.
        with counters.transaction():
            written = producer.write(
                outputs.entries,
                outputs.rejections,
                outputs.snapshots,
                fold.balance_records(outputs),
                outputs.next_offset,
                [Derived(one.key, one.to_json(), 0) for one in self._ids.unwritten],
            )
        self._ids.unwritten.clear()
        # 3. The store, after the commit and in one write. A crash before this line: it catches up.
        cursor = _moved(store.cursor, outputs, *written)
        store.write(outputs.changelog, outputs.new_ids, cursor)
        # 4. The position, last: what is skipped from now on is in Kafka and in the store.
        self.next_offset = outputs.next_offset
        took_s = time.monotonic() - started
        counters.posted(outputs, took_s)
        spans.batch(
            fold.topic,
            self._parts.settings.group,
            ((self.partition, record.offset, record.headers) for record in records),
            took_s,
            posted=len(outputs.entries),
            rejected=len(outputs.rejections),
        )

    def _until_ahead(self, records: list[Source]) -> tuple[list[Source], Source | None]:
        latest_ms = (time.time() + self._parts.settings.max_clock_ahead_s) * 1000
        for index, record in enumerate(records):
            if record.timestamp_ms > latest_ms:
                return records[:index], record
        return records, None

    def left_open(self) -> dict[str, int]:
        """Topics in which a transaction is open, with their ends; after a quiet while there should be none."""
        return self._open_transactions.ends_now()

    def close(self) -> None:
        """Close producer and store. Does not wait for Kafka."""
        producer, store = self._producer, self._store
        self._producer = self._store = self._fold = None
        if producer is not None:
            producer.close()
        if store is not None:
            store.close()


def _moved(cursor: Cursor, outputs: Outputs, ledger: int | None, balances: int | None) -> Cursor:
    """The store's cursor after a batch: topics that got nothing stay where they were."""
    newest = outputs.balances[outputs.entries[-1].key or b""] if outputs.entries else None
    return Cursor(
        cursor.ledger if ledger is None else ledger,
        cursor.balances if balances is None else balances,
        cursor.source if newest is None else newest.source_offset + 1,
        outputs.recorded_ms,
    )
