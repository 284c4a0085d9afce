"""One Kafka transaction per batch: everything that a batch of records leads to becomes visible together, or never.

Replaces Faust's producer and offset commit. Each input partition has its own librdkafka producer whose
transactional id is `<group>-<partition>`: opening it fences every earlier owner (KIP-98), and the
input offsets travel in the same transaction, sent with the metadata of a consumer that never joins.
"""

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from config.errors import Stopped
from config.logs import EventLog
from config.settings import Settings
from streams.batch import Derived
from streams.endings import Aborted, Fenced, Interrupted, LeftOpen, forbidden
from streams.leftovers import OpenTransactions
from topics.causes import FENCED, because, error_in, fatal_cause
from topics.clients import RETRY_BACKOFF_MS, transactional
from topics.exactly_once import abandon, repeated
from topics.names import Topics, derived_message_bytes

log = EventLog("streams.transaction")

#: One attempt to open; between two, a partition that was taken away again is noticed.
OPEN_TRY_S = 5.0
#: One attempt to add the input's offsets to a transaction.
SEND_OFFSETS_TRY_S = 5.0
#: A broker that goes away stays away for longer than this.
LOOK_BACK_S = 0.5
#: A commit request that is answered sooner was sent only once: if a connection breaks, librdkafka sends it again, but
#: not before this.
SENT_AGAIN_S = 0.8 * RETRY_BACKOFF_MS / 1_000

#: Input batches may be as large as the broker's default; the client's own limit must not be the smaller.
INPUT_MESSAGE_BYTES = 1_048_588

Report = Callable[[KafkaError | None, Message], None]


class Written(NamedTuple):
    """The next offsets of the topics that the store follows; None where the batch wrote nothing."""

    ledger: int | None
    balances: int | None


class PartitionProducer:
    """The transactional producer of one input partition. Blocking: used from one thread at a time."""

    def __init__(
        self,
        settings: Settings,
        topics: Topics,
        partition: int,
        group_consumer: Consumer,
        open_transactions: OpenTransactions,
        working: threading.Semaphore,
    ) -> None:
        self._settings = settings
        self._topics = topics
        self._partition = partition
        # Asked once: it says the same of a consumer that never joins, and confluent-kafka (2.16) stops all of this
        # process's Python until a thread of that consumer has answered.
        self._group = group_consumer.consumer_group_metadata()
        self._open_transactions = open_transactions
        #: Held for what takes a processor, not for what waits for Kafka.
        self._working = working
        #: When the last commit was requested; None: no transaction of this producer has committed.
        self._committed_at: float | None = None
        #: Whether a commit request may still be on its way although its transaction has ended: it was sent twice. It
        #: would end this producer's next transaction half written, since librdkafka does not have the client's part of
        #: KIP-890. A new producer has a newer epoch, so Kafka refuses that request.
        self.is_spent = False
        self._failed: KafkaError | None = None
        self._next_offsets: dict[str, int] = {}
        self._producer = transactional(
            settings,
            f"{settings.group}-{partition}",
            linger_ms=5,
            queue_buffering_max_messages=4 * settings.batch_records + 100_000,
            message_max_bytes=derived_message_bytes(settings, INPUT_MESSAGE_BYTES),
        )

    def open(self, stopping: threading.Event) -> None:
        """Fence the former owner and wait until its open transaction has ended.

        Raises Interrupted when `stopping` is set meanwhile, and Stopped when Kafka refuses it.
        """
        if stopping.is_set():
            raise Interrupted
        try:
            open_ = partial(self._producer.init_transactions, OPEN_TRY_S)
            repeated(
                open_,
                self._settings.stall_s,
                lambda reason: log.info("transactions_wait", partition=self._partition, reason=reason),
                stopping,
                Interrupted(),
            )
        except KafkaException as failure:
            error: KafkaError = failure.args[0]
            if refused := forbidden(error, self._settings, self._partition):
                raise refused from None
            told = Stopped(f"partition {self._partition}: cannot open its transactions: {error.str()}")
            raise because(error, told) from None

    def write(
        self,
        entries: list[Derived],
        rejections: list[Derived],
        snapshots: list[Derived],
        balances: list[Derived],
        next_offset: int,
        accepted: list[Derived],
    ) -> Written:
        """Write a batch in one transaction, with the schema ids that it uses first. Returns once it has committed.

        The order: 1. if the last commit was requested LOOK_BACK_S ago or more, the offsets, then a look at what Kafka
        may have left open, 2. the records, 3. otherwise the offsets, once the records are written, 4. the commit.
        Raises Aborted when nothing of it will ever be visible, Fenced when the partition has a new writer, and
        Stopped when the outcome is unknown or cannot be repaired here: then only recovery may continue.
        """
        self._failed, self._next_offsets = None, {}
        try:
            self._producer.begin_transaction()
            offsets = [TopicPartition(self._topics.transactions, self._partition, next_offset)]
            # 1.
            if look_back := self._is_to_look_back():
                # Kafka accepts them only once the transaction before has ended. Not always first: requests for the
                # group's offsets wait while they are in a transaction.
                self._send_offsets(offsets)
                self._look_back()
            # 2.
            with self._working:
                self._queue(self._topics.pipeline, accepted, self._reported, 0)
                self._produce(self._topics.ledger, entries)
                self._produce(self._topics.rejections, rejections)
                self._produce(self._topics.snapshots, snapshots)
                self._produce(self._topics.balances, balances)
            # 3.
            if not look_back:
                # Records first: until the transaction before has all its markers, librdkafka retries their partitions
                # after 20 ms, but the offsets only after RETRY_BACKOFF_MS.
                self._flush()
                self._send_offsets(offsets)
            # 4.
            self._committed_at = time.monotonic()
            self._commit()
        except (KafkaException, SystemError) as failure:
            self._end_failed(error_in(failure))
        if self._failed is not None:
            # Cannot be: a transaction with a failed record does not commit.
            raise Stopped(
                f"partition {self._partition}: committed although a record failed: {self._failed.str()}: report this"
            )
        return Written(
            self._next_offsets.get(self._topics.ledger), self._next_offsets.get(self._topics.balances)
        )

    def roll_back_leftovers(self, topics: list[str]) -> None:
        """End what this transactional id has open in these topics and in the group's offsets.

        Touches them all in one transaction and rolls it back: its markers end what came before, too. Raises Fenced and
        Stopped as `write` does.
        """
        try:
            self._producer.begin_transaction()
            for topic in topics:
                at = 0 if topic == self._topics.pipeline else self._partition
                self._queue(topic, [Derived(b"rolled back", b"", 0)], self._reported, at)
            self._send_offsets([TopicPartition(self._topics.transactions, self._partition, 0)])
            if self._flush():
                raise Stopped(f"partition {self._partition}: cannot end what Kafka left open: start again")
            self._producer.abort_transaction(self._settings.transaction_timeout_s)
        except (KafkaException, SystemError) as failure:
            try:
                self._end_failed(error_in(failure))
            except Aborted as reason:
                raise Stopped(
                    f"partition {self._partition}: cannot end what Kafka left open: {reason}"
                ) from None

    def _is_to_look_back(self) -> bool:
        """Whether the transaction before may be open, which happens only after a broker was away."""
        return self._committed_at is not None and time.monotonic() - self._committed_at >= LOOK_BACK_S

    def _look_back(self) -> None:
        """Raise LeftOpen if Kafka has left the transaction before open: see `streams.leftovers`."""
        if left := self._open_transactions.ends():
            # This raises if the writer was fenced: then what is open is its successor's.
            self._producer.abort_transaction(self._settings.transaction_timeout_s)
            raise LeftOpen(self._partition, left)

    def _produce(self, topic: str, records: list[Derived]) -> None:
        # Two delivery reports show where the transaction is in the topic; one per record would double the cost.
        self._queue(topic, records[:1], self._reported, self._partition)
        self._queue(topic, records[1:-1], None, self._partition)
        self._queue(topic, records[max(1, len(records) - 1) :], self._reported, self._partition)

    def _queue(self, topic: str, records: list[Derived], report: Report | None, partition: int) -> None:
        produce = self._producer.produce
        for key, value, timestamp_ms, headers in records:
            while True:
                try:
                    if headers is None:
                        produce(topic, value, key, partition, report, None, timestamp_ms)
                    else:
                        produce(topic, value, key, partition, report, None, timestamp_ms, headers)
                    break
                except BufferError:
                    self._producer.poll(0.1)

    def _reported(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failed = error
            return
        topic, offset = message.topic(), message.offset()
        if topic is not None and offset is not None:
            self._next_offsets[topic] = offset + 1

    def _send_offsets(self, offsets: list[TopicPartition]) -> None:
        """Add the input offsets; sending them twice changes nothing, so a request without an answer is repeated.

        In short tries, since all of them must fit into the broker's transaction time-out.
        """
        send = partial(self._producer.send_offsets_to_transaction, offsets, self._group, SEND_OFFSETS_TRY_S)
        repeated(
            send,
            self._settings.transaction_timeout_s,
            lambda reason: log.warning("offsets_wait", partition=self._partition, reason=reason),
        )

    def _flush(self) -> int:
        """Send what is queued; returns how many records were not confirmed in time."""
        try:
            return self._producer.flush(self._settings.transaction_timeout_s)
        except SystemError:
            # confluent-kafka (2.16) may fail here without a reason, as when this producer was fenced: the call that
            # ends the transaction gives the reason.
            return 0

    def _commit(self) -> None:
        """Commit; a time-out leaves the outcome open, so the same call is repeated until it is known."""
        deadline = time.monotonic() + 2 * self._settings.transaction_timeout_s
        # Committing would do that, too; but how long the request itself takes is to be known.
        self._flush()
        asked_at = time.monotonic()
        commit = partial(self._producer.commit_transaction, self._settings.transaction_timeout_s)
        repeated(
            commit,
            deadline - asked_at,
            lambda reason: log.warning("commit_wait", partition=self._partition, reason=reason),
        )
        # Only the time shows that librdkafka has sent it again: it logs the closed connection at a level that is off,
        # and calls no `error_cb`.
        self.is_spent = time.monotonic() - asked_at >= SENT_AGAIN_S

    def _end_failed(self, error: KafkaError) -> None:
        """Raise what became of a transaction that did not commit; roll it back if possible."""
        error = fatal_cause(self._producer, error, OPEN_TRY_S)
        if error.code() in FENCED:
            raise Fenced(error.str())
        if refused := forbidden(error, self._settings, self._partition):
            raise refused
        if not error.txn_requires_abort():
            raise Stopped(
                f"partition {self._partition}: a transaction failed, its outcome is not known: {error.str()}"
            )
        try:
            self._producer.abort_transaction(self._settings.transaction_timeout_s)
        except (KafkaException, SystemError) as failure:
            ending = error_in(failure)
            if ending.code() in FENCED:
                raise Fenced(ending.str()) from None
            raise Stopped(f"partition {self._partition}: cannot roll back: {ending.str()}") from None
        raise Aborted(error.str())

    def close(self) -> None:
        """Close without waiting: the next owner, or the time-out, ends an open transaction."""
        abandon(self._producer)
