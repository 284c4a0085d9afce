"""Continuous nasty input, delivered for certain.

Single records, transactions of which some are aborted, and batches that inflate to far more than they are on the wire.
"""

import random
import threading
import time
from collections.abc import Callable
from itertools import cycle, islice

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from config.settings import Settings
from operations.sending.generator import Mix, ProducerRecord, records
from schemas.versions import FIXED_IDS
from topics.clients import librdkafka
from topics.names import GROWTH_BYTES, Topics

#: Records that are sent at once, and that one upstream transaction holds.
STRIDE = 20
TRANSACTION_EVERY_S = 1.0
#: The share of upstream transactions that are aborted.
ABORTED = 0.3
#: So often a record of zeros comes, compressed to nothing by one codec after the other; the audit holds them all.
INFLATING_EVERY_S, INFLATED_BYTES = 20.0, 10_000_000
CODECS = ("zstd", "gzip", "lz4", "snappy")
FLUSH_S = 120.0
#: One attempt to end a transaction; while a broker is away it is made again.
ATTEMPT_S = 20.0


class Load:
    """Sends until it is stopped; counts what Kafka confirmed."""

    def __init__(self, settings: Settings, seed: int, rate: float) -> None:
        self._settings = settings
        self._seed = seed
        self._rate = rate
        self._stop = threading.Event()
        self._counting = threading.Lock()
        #: Records that Kafka has confirmed, alone or by a commit; those of commits without an answer.
        self.confirmed = self.uncertain = 0
        self.aborted = 0
        self.problems: list[str] = []
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,), name=f"load-{work.__name__}")
            for work in (self._singles, self._transactions, self._inflating)
        ]

    def start(self) -> None:
        """Begin to send."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Send no more and return when everything is confirmed."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def leave_open(self, wait: Callable[[float], object], length_s: float, *, commit: bool) -> None:
        """One transaction that writes to every partition and ends only after so long: readers wait for it."""
        source = islice(records(10**9, self._mix(self._seed + 2)), 5 * STRIDE)
        producer = self._transactional("left-open")
        self._write(producer, list(source))
        producer.flush(ATTEMPT_S)
        wait(length_s)
        self._finish(producer, 5 * STRIDE, commit=commit)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as failure:  # noqa: BLE001 - told in the report
            self.problems.append(f"{work.__name__.strip('_')} ended: {failure}")

    def _singles(self) -> None:
        producer = self._producer()
        source = records(10**9, self._mix(self._seed))
        while not self._stop.wait(STRIDE / self._rate):
            for record in islice(source, STRIDE):
                self._produce(producer, record, self._confirm)
            producer.poll(0)
        if left := producer.flush(FLUSH_S):
            self.problems.append(f"{left} records were not confirmed within {FLUSH_S:g} s")

    def _inflating(self) -> None:
        """Records that are too large, between two of the usual ones in the same batch."""
        source = records(10**9, self._mix(self._seed + 3))
        producers = [
            self._producer(
                compression_type=codec,
                message_max_bytes=2 * INFLATED_BYTES,
                batch_size=2 * INFLATED_BYTES,
                linger_ms=200,
            )
            for codec in CODECS
        ]
        for producer in cycle(producers):
            if self._stop.wait(INFLATING_EVERY_S):
                break
            before, after = islice(source, 2)
            for record in (before, before._replace(value=bytes(INFLATED_BYTES)), after):
                self._produce(producer, record, self._confirm)
            producer.poll(0)
        if left := sum(producer.flush(FLUSH_S) for producer in producers):
            self.problems.append(f"{left} inflating records were not confirmed within {FLUSH_S:g} s")

    def _confirm(self, error: KafkaError | None, _: Message) -> None:
        if error:
            self.problems.append(f"a record was not delivered: {error.str()}")
        else:
            with self._counting:
                self.confirmed += 1

    def _transactions(self) -> None:
        dice = random.Random(self._seed)
        source = records(10**9, self._mix(self._seed + 1))
        producer: Producer | None = None
        while not self._stop.wait(TRANSACTION_EVERY_S):
            try:
                # A new one under the old id fences the former and ends what that left open.
                producer = producer or self._transactional("upstream")
                self._write(producer, list(islice(source, STRIDE)))
            except KafkaException:
                producer = None
                continue
            if not self._finish(producer, STRIDE, commit=dice.random() >= ABORTED):
                producer = None

    def _write(self, producer: Producer, some: list[ProducerRecord]) -> None:
        producer.begin_transaction()
        for record in some:
            self._produce(producer, record, lambda _error, _message: None)

    def _finish(self, producer: Producer, count: int, *, commit: bool) -> bool:
        """End a transaction; False if its producer is of no use any more."""
        deadline = time.monotonic() + FLUSH_S
        while time.monotonic() < deadline:
            try:
                if commit:
                    producer.commit_transaction(ATTEMPT_S)
                else:
                    producer.abort_transaction(ATTEMPT_S)
            except KafkaException as failure:
                error = failure.args[0]
                if error.txn_requires_abort():
                    commit = False
                elif not error.retriable():
                    break
            else:
                with self._counting:
                    self.confirmed += count if commit else 0
                    self.aborted += 0 if commit else count
                return True
        with self._counting:
            self.uncertain += count if commit else 0
        return False

    def _produce(
        self, producer: Producer, record: ProducerRecord, told: Callable[[KafkaError | None, Message], None]
    ) -> None:
        topic = Topics.of(self._settings).transactions
        while True:
            try:
                producer.produce(
                    topic,
                    record.value,
                    record.key,
                    record.partition,
                    on_delivery=told,
                    headers=[*record.headers],  # a copy, since its type is wider
                )
            except BufferError:
                producer.poll(0.1)
            else:
                return

    def _transactional(self, name: str) -> Producer:
        producer = self._producer(
            transactional_id=f"{self._settings.prefix}-test-{name}", transaction_timeout_ms=60_000
        )
        for attempt in range(6):
            try:
                producer.init_transactions(ATTEMPT_S)
                break
            except KafkaException as failure:
                if attempt == 5 or not failure.args[0].retriable():
                    raise
        return producer

    def _producer(self, **more: str | int) -> Producer:
        size = 2 * self._settings.max_record_bytes + 16 * GROWTH_BYTES
        conf = {"enable_idempotence": True, "linger_ms": 5, "message_max_bytes": size}
        return Producer(librdkafka(self._settings, **conf | more))

    def _mix(self, seed: int) -> Mix:
        return Mix(
            wallets=200,
            duplicates=0.05,
            bad=0.1,
            seed=seed,
            partitions=self._settings.partitions,
            schema_id=FIXED_IDS.transaction,
            max_record_bytes=self._settings.max_record_bytes,
            overdraft_rejected=self._settings.overdraft == "reject",
        )
