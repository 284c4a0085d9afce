"""Bringing a partition's store up to the end of its topics, and finding where its source goes on.

Runs after `init_transactions` has fenced the former owner and ended its open transaction, so nothing is
written to the partition's derived topics meanwhile: what is read-committed now is all there is.
"""

import threading
import time
from collections.abc import Iterator

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from config.clients import librdkafka
from config.cluster import Offsets, offsets_of, quiet_admin
from config.errors import Refused, Stopped
from config.logs import EventLog
from config.settings import Settings
from config.topics import Topics
from schemas.codec import content_digest, decode_balance, split_entry
from schemas.records import Balance
from streams.batch import posted_id
from streams.store import Cursor, PartitionStore
from streams.wallet import Known

log = EventLog("streams.catchup")

#: Bytes of the wire format before the Avro body.
FRAME = 5
#: The newest records of a topic are looked for in windows that grow by this factor.
TAIL_RECORDS, TAIL_GROWTH = 16, 16
PROGRESS_EVERY_S = 2.0
BATCH_RECORDS = 10_000
#: `consume` waits so long for a full batch; at the end of a topic that is time lost.
READ_WAIT_S = 0.05


class Interrupted(Exception):  # noqa: N818 - a fact, not a fault
    """The partition was taken away, or the worker is stopping, while its store caught up."""


class CatchUp:
    """Reads one partition's derived topics for its store. Blocking; `stopping` ends it early."""

    def __init__(
        self,
        settings: Settings,
        topics: Topics,
        partition: int,
        store: PartitionStore,
        stopping: threading.Event,
    ) -> None:
        self._settings = settings
        self._topics = topics
        self._partition = partition
        self._store = store
        self._stopping = stopping
        names = (topics.transactions, topics.ledger, topics.balances, topics.rejections)
        self._ends = offsets_of(quiet_admin(settings), [(name, partition) for name in names])

    def run(self) -> int:
        """Catch the store up, then return the source offset at which this partition goes on.

        Raises Interrupted, Refused (the store is ahead of Kafka) or Stopped (no progress, or records that
        nobody handled).
        """
        reader = Consumer(
            librdkafka(
                self._settings,
                group_id=self._settings.group,
                isolation_level="read_committed",
                auto_offset_reset="error",
                enable_auto_commit=False,
                enable_auto_offset_store=False,
                enable_partition_eof=True,
                fetch_wait_max_ms=50,
                queued_min_messages=100_000,
                queued_max_messages_kbytes=16_384,
            )
        )
        try:
            self._restore(reader)
            return self._position(reader)
        finally:
            reader.close()

    def _end(self, topic: str) -> Offsets:
        return self._ends[topic, self._partition]

    def _restore(self, reader: Consumer) -> None:
        """Read `ledger` and `balances` from the store's cursor to their ends, a batch at a time."""
        cursor = self._store.cursor
        start = {
            self._topics.ledger: self._start(self._topics.ledger, cursor.ledger),
            self._topics.balances: self._start(self._topics.balances, cursor.balances),
        }
        behind = {topic: offset for topic, offset in start.items() if offset < self._end(topic).end}
        total = sum(self._end(topic).end - offset for topic, offset in behind.items())
        said, done = time.monotonic(), 0
        for batch in self._read(reader, behind):
            self._take(batch)
            done += len(batch)
            if time.monotonic() - said > PROGRESS_EVERY_S:
                said = time.monotonic()
                log.info("catching_up", partition=self._partition, records=done, of_about=total)
        if done:
            log.info("caught_up", partition=self._partition, records=done)

    def _start(self, topic: str, seen: int) -> int:
        """Where to read a topic from: the cursor, or the topic's begin where older records were deleted."""
        begin, end = self._end(topic).begin, self._end(topic).end
        if seen > end:
            raise Refused(
                f"the store {self._store.path} has seen offset {seen} of {topic}[{self._partition}], which "
                f"ends at {end}: Kafka lost records, or is another one; find out which before you delete "
                f"the store to have it rebuilt"
            )
        if 0 < seen < begin:
            log.warning("records_deleted", topic=topic, partition=self._partition, after=seen, begin=begin)
        return max(seen, begin)

    def _read(self, reader: Consumer, start: dict[str, int]) -> Iterator[list[Message]]:
        """Batches of records from these offsets to the known ends of their topics; never hangs."""
        unfinished, progress = set(start), time.monotonic()
        reader.assign([TopicPartition(topic, self._partition, offset) for topic, offset in start.items()])
        while unfinished:
            if self._stopping.is_set():
                raise Interrupted
            batch = []
            for message in reader.consume(BATCH_RECORDS, timeout=READ_WAIT_S):
                if (error := message.error()) is None:
                    batch.append(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    # An end counts from the known one on: markers of transactions stand there, not records.
                    if (message.offset() or 0) >= self._end(message.topic() or "").end:
                        unfinished.discard(message.topic() or "")
                    progress = time.monotonic()
                elif not error.retriable():
                    raise Stopped(
                        f"partition {self._partition}: {message.topic()} cannot be read: {error.str()}"
                    )
            if batch:
                progress = time.monotonic()
                yield batch
            if time.monotonic() - progress > self._settings.stall_s:
                raise Stopped(
                    f"partition {self._partition}: no progress for {self._settings.stall_s:g} s while "
                    f"reading {', '.join(sorted(unfinished))}: is a broker away?"
                )
        reader.unassign()

    def _take(self, batch: list[Message]) -> None:
        """Take a stretch of both topics over into the store."""
        balances: dict[bytes, Balance] = {}
        ids: dict[bytes, Known] = {}
        ledger, changelog, source, recorded_ms = self._store.cursor
        for message in batch:
            value, offset = message.value(), message.offset()
            if value is None or offset is None:
                continue
            if message.topic() == self._topics.ledger:
                entry = split_entry(value[FRAME:])
                ids[posted_id(entry.transaction.wallet_id.encode(), entry.transaction.transaction_id)] = (
                    Known(content_digest(entry.transaction_body, entry.transaction), entry.recorded_ms)
                )
                ledger, source = offset + 1, entry.source_offset + 1
                recorded_ms = max(recorded_ms, entry.recorded_ms)
            else:
                balance = decode_balance(value[FRAME:])
                balances[balance.wallet_id.encode()] = balance
                changelog = offset + 1
                source = max(source, balance.source_offset + 1)
                recorded_ms = max(recorded_ms, balance.recorded_ms)
        self._store.write(balances, ids, Cursor(ledger, changelog, source, recorded_ms))

    def _position(self, reader: Consumer) -> int:
        """One past the last record of the source that was handled.

        The group's committed offset says so; where it is missing (Kafka forgets an idle group's after a
        week) or lower, the newest entry and rejection do, since each names its source. Where it is higher,
        nothing may stand between.
        """
        handled = max(self._store.cursor.source, self._last_rejected(reader) + 1)
        committed = self._committed(reader)
        begin, end = self._end(self._topics.transactions).begin, self._end(self._topics.transactions).end
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

    def _committed(self, reader: Consumer) -> int | None:
        """The group's offset, stable: librdkafka waits for commits that are still being written."""
        at = reader.committed(
            [TopicPartition(self._topics.transactions, self._partition)], self._settings.stall_s
        )[0]
        return at.offset if at.offset >= 0 else None

    def _last_rejected(self, reader: Consumer) -> int:
        """The highest source offset in `rejections`, -1 where there is none: looked for from the end back."""
        topic = self._topics.rejections
        begin, end = self._end(topic).begin, self._end(topic).end
        window = TAIL_RECORDS
        while begin < end:
            start = max(begin, end - window)
            newest = -1
            for batch in self._read(reader, {topic: start}):
                newest = max(newest, *(_rejected_offset(message) for message in batch))
            if newest >= 0 or start == begin:
                return newest
            window *= TAIL_GROWTH
        return -1

    def _refuse_skipped(self, reader: Consumer, handled: int, committed: int) -> None:
        """Stop if the group's offset has moved past records that have neither entry nor rejection."""
        if self._end(self._topics.ledger).begin > 0:
            return  # what was handled can no longer be told from the ledger: its older part was deleted
        for batch in self._read(reader, {self._topics.transactions: handled} if handled < committed else {}):
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
