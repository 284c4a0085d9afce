"""Warm copies: stores of partitions that other workers write, kept close behind their topics.

A worker that takes over such a partition then reads and compares only the last moments instead of the whole history.
One thread and one consumer follow all standby partitions of a worker; nothing is decided here.
"""

import threading
import time

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from config.errors import WalletError
from config.logs import EventLog
from streams.absorb import absorb
from streams.agreement import agree_on
from streams.parts import WriterParts, open_store
from streams.store import PartitionStore, StoreAhead
from topics.clients import standalone
from topics.cluster import ASK_S
from topics.consuming import READ_RECORDS, consume, ready, watermarks

log = EventLog("streams.standby")

FOLLOW_WAIT_S = 0.1


class Standbys:
    """The standby stores of one worker; `follow` and `stop` block, and exclude each other."""

    def __init__(self, parts: WriterParts) -> None:
        self._parts = parts
        self._stores: dict[int, PartitionStore] = {}
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._turn = threading.Lock()
        self._stopped = False
        #: Records behind, by partition, as of the last look; read by metrics.
        self.lag_records: dict[int, int] = {}

    def follow(self, partitions: set[int]) -> None:
        """Follow these partitions from now on, and let go of the others; nothing more after `stop`."""
        with self._turn:
            if not self._stopped:
                self._change(partitions)

    def stop(self) -> None:
        """Let go of all of them."""
        with self._turn:
            self._stopped = True
            self._change(set())

    def _change(self, partitions: set[int]) -> None:
        if partitions != set(self._stores) or (partitions and self._thread is None):
            self._halt()
            for partition in set(self._stores) - partitions:
                self._stores.pop(partition).close()
                self.lag_records.pop(partition, None)
            for partition in partitions - set(self._stores):
                self._open(partition)
            self._start()

    def _open(self, partition: int) -> None:
        try:
            self._stores[partition] = open_store(self._parts, partition)
        except WalletError as failure:
            # The writer that takes this partition over will meet it too, and say so as an error.
            log.warning("standby_refused", partition=partition, reason=failure)

    def _halt(self) -> None:
        if self._thread is not None:
            self._stopping.set()
            self._thread.join()
            self._thread = None

    def _start(self) -> None:
        if self._stores:
            self._stopping = threading.Event()
            self._thread = threading.Thread(
                target=self._run, args=(dict(self._stores), self._stopping), name="standby", daemon=True
            )
            self._thread.start()

    def _run(self, stores: dict[int, PartitionStore], stopping: threading.Event) -> None:
        """Follow until stopped; an error is logged and retried, it never ends the worker."""
        while not stopping.is_set():
            try:
                self._follow(stores, stopping)
            except KafkaException as failure:
                log.warning("standby_waits", reason=failure.args[0].str())
            except WalletError as failure:  # a full disk, say
                log.warning("standby_waits", reason=failure)
            except Exception as failure:  # a copy must not end the worker that writes others
                log.exception("standby_failed", reason=failure)
            stopping.wait(self._parts.settings.retry_wait_s)

    def _follow(self, stores: dict[int, PartitionStore], stopping: threading.Event) -> None:
        settings = self._parts.settings
        reader = standalone(settings, settings.group, enable_partition_eof=False, **ready(upstreams=False))
        try:
            reader.assign(
                [at for partition, store in stores.items() for at in self._start_of(reader, partition, store)]
            )
            looked = 0.0
            while not stopping.is_set():
                messages = consume(reader, READ_RECORDS, FOLLOW_WAIT_S)
                if not self._take(messages, stores):
                    return
                if time.monotonic() - looked > 1.0:
                    looked = time.monotonic()
                    self._look(reader, stores)
        finally:
            reader.close()

    def _start_of(self, reader: Consumer, partition: int, store: PartitionStore) -> list[TopicPartition]:
        """Where to follow a partition's two topics from: the store's cursor, or the topic's begin if that is later."""
        topics, cursor = self._parts.topics, store.cursor
        ledger, balances = (
            watermarks(reader, topic, partition, ASK_S)[0] for topic in (topics.ledger, topics.balances)
        )
        return [
            TopicPartition(topics.ledger, partition, store.first_to_read(ledger)),
            TopicPartition(topics.balances, partition, max(cursor.balances, balances)),
        ]

    def _take(self, messages: list[Message], stores: dict[int, PartitionStore]) -> bool:
        """Take it over; False if one copy must start from nothing."""
        by_partition: dict[int, list[Message]] = {}
        for message in messages:
            if (error := message.error()) is not None:
                raise KafkaException(error)
            by_partition.setdefault(message.partition() or 0, []).append(message)
        for partition, batch in by_partition.items():
            try:
                absorb(stores[partition], self._parts.topics, batch)
                agree_on(stores[partition], [*{message.key() or b"" for message in batch}])
            except StoreAhead:
                stores[partition].clear()
                return False
        return True

    def _look(self, reader: Consumer, stores: dict[int, PartitionStore]) -> None:
        """How far behind each copy is, according to the broker's last answers."""
        for partition in stores:
            behind = 0
            for at in reader.position(
                [
                    TopicPartition(topic, partition)
                    for topic in (self._parts.topics.ledger, self._parts.topics.balances)
                ]
            ):
                known = reader.get_watermark_offsets(at, cached=True)
                if known and at.offset >= 0 and known[1] >= 0:
                    behind += max(0, known[1] - at.offset)
            self.lag_records[partition] = behind
