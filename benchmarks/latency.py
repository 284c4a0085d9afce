"""How long one transaction takes at a low rate: until its balance is visible, and until its row is.

Each transaction has a wallet of its own, so the record of that wallet in `balances` (read-committed) and
the place of its entry in `ledger` belong to it and to nothing else. Its row is visible from the moment at
which the ledger sink's position, which commits together with the rows, is beyond that place.
"""

import threading
import time
from bisect import bisect_right
from statistics import quantiles

from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks.end_to_end import Running
from benchmarks.measurement import PATIENCE_S
from config.errors import Stopped
from config.settings import Settings
from schemas.codec import encode_transaction, frame
from schemas.partitioner import partition_of
from schemas.records import CREDIT, Transaction
from schemas.versions import FIXED_IDS
from sinks.postgres import READER, connect
from topics.clients import librdkafka
from topics.cluster import offsets, quiet_admin
from topics.names import Topics

LOOK_EVERY_S = 0.004
#: A broker that holds back an empty answer does not notice in it that a transaction has ended: by default what is
#: measured would be how long it holds it back.
FETCH_WAIT_MS = 5

Times = dict[bytes, float]
#: Partition of the ledger, and offset in it.
Spot = tuple[int, int]


class Watchers:
    """Two threads that note when balances become visible, and when the sink's position moves."""

    def __init__(self, settings: Settings) -> None:
        self.balances: Times = {}
        self.spots: dict[bytes, Spot] = {}
        #: Of each partition, the positions that were seen and when they were seen first.
        self.moves: dict[int, tuple[list[int], list[float]]] = {}
        self._settings = settings
        self._topics = Topics.of(settings)
        self._stop = threading.Event()
        names = {self._topics.balances: settings.partitions, self._topics.ledger: settings.partitions}
        self._begin = offsets(quiet_admin(settings), names)
        self._threads = [
            threading.Thread(target=watch) for watch in (self._watch_kafka, self._watch_postgres)
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def rows(self) -> Times:
        """When each row became visible, of those that did."""
        written = {}
        for wallet, (partition, offset) in self.spots.items():
            positions, seen_at = self.moves.get(partition, ([], []))
            first = bisect_right(positions, offset)
            if first < len(positions):
                written[wallet] = seen_at[first]
        return written

    def _watch_kafka(self) -> None:
        consumer = Consumer(
            librdkafka(
                self._settings,
                group_id=f"{self._settings.prefix}.latency",
                isolation_level="read_committed",
                auto_offset_reset="error",
                enable_auto_commit=False,
                fetch_wait_max_ms=FETCH_WAIT_MS,
            )
        )
        consumer.assign([TopicPartition(*at, found.end) for at, found in self._begin.items()])
        while not self._stop.is_set():
            message = consumer.poll(0.1)
            if message is None or message.error():
                continue
            wallet, partition, offset = message.key(), message.partition(), message.offset()
            if wallet is None or partition is None or offset is None:
                continue
            if message.topic() == self._topics.balances:
                self.balances[wallet] = time.monotonic()
            else:
                self.spots[wallet] = partition, offset
        consumer.close()

    def _watch_postgres(self) -> None:
        query = "SELECT partition, next_offset FROM sink_positions WHERE sink = 'ledger'"
        with connect(self._settings, READER) as connection:
            while not self._stop.wait(LOOK_EVERY_S):
                for partition, position in connection.execute(query).fetchall():
                    positions, seen_at = self.moves.setdefault(partition, ([], []))
                    if not positions or position > positions[-1]:
                        positions.append(position)
                        seen_at.append(time.monotonic())


def measure(pipeline: Running, rate: int, seconds: float) -> dict[str, dict[str, float]]:
    """p50 and p99 in milliseconds, of the balance and of the row, at `rate` transactions a second."""
    watchers = Watchers(pipeline.settings)
    try:
        sent = _send(pipeline.settings, rate, int(rate * seconds))
        deadline = time.monotonic() + PATIENCE_S
        while len(watchers.balances) < len(sent) or len(watchers.rows()) < len(sent):
            pipeline.children.raise_if_ended()
            if time.monotonic() > deadline:
                raise Stopped(f"of {len(sent)} sent, {len(watchers.balances)} balances became visible")
            time.sleep(0.2)
    finally:
        watchers.close()
    return {
        "balance visible in Kafka, read-committed": _percentiles(sent, watchers.balances),
        "row visible in PostgreSQL": _percentiles(sent, watchers.rows()),
    }


def _send(settings: Settings, rate: int, count: int) -> Times:
    """Send one transaction to each of `count` new wallets, evenly in time; when each was handed over."""
    producer = Producer(librdkafka(settings, acks="all", enable_idempotence=True, linger_ms=0))
    topic, header = Topics.of(settings).transactions, frame(FIXED_IDS.transaction)
    sent: Times = {}
    run = f"{time.time_ns():016x}"
    began = time.monotonic()
    for number in range(count):
        ahead_s = number / rate - (time.monotonic() - began)
        if ahead_s > 0:
            time.sleep(ahead_s)
        wallet = f"latency-{run}-{number}"
        one = Transaction(
            f"00000000-0000-4000-8000-{number:012d}", wallet, CREDIT, 100, "EUR", time.time_ns() // 1000
        )
        key = wallet.encode()
        sent[key] = time.monotonic()
        producer.produce(topic, header + encode_transaction(one), key, partition_of(key, settings.partitions))
        producer.poll(0)
    producer.flush(PATIENCE_S)
    return sent


def _percentiles(sent: Times, seen: Times) -> dict[str, float]:
    took_ms = [(seen[key] - at) * 1000 for key, at in sent.items()]
    hundredths = quantiles(took_ms, n=100)
    return {"p50_ms": hundredths[49], "p99_ms": hundredths[98], "max_ms": max(took_ms)}
