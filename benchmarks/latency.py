"""How long one transaction takes: until its balance can be read, and until its row can.

Three processes, so that none waits for another: one sends by a plan, one follows `balances` read-committed, one looks
at the ledger sink's position, which commits together with the rows. A transaction's time begins when the plan has it
sent, however late it was sent: when something stops for a second, every transaction of that second has waited.
"""

import multiprocessing
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from statistics import quantiles
from typing import Any
from uuid import uuid4

from confluent_kafka import KafkaError, Message, TopicPartition

from benchmarks.end_to_end import Running
from benchmarks.filling import wallet_name
from benchmarks.measurement import PATIENCE_S
from benchmarks.outcome import messages
from config.errors import Stopped
from config.settings import Settings
from schemas.codec import body_of, decode_entry, encode_transaction, frame
from schemas.native.balances import decode_balance
from schemas.partitioner import partition_of
from schemas.records import CREDIT, Transaction
from schemas.versions import FIXED_IDS
from sinks.postgres import READER, connect
from topics import clients
from topics.clients import standalone
from topics.cluster import offsets, quiet_admin
from topics.names import Topics

#: Not counted: Java's compiler is at work, which takes a third of a core from all others.
WARM_UP_S = 60.0
LOOK_EVERY_S = 0.004
#: A broker that holds back an empty answer does not notice in it that a transaction has ended: by default what is
#: measured would be how long it holds it back.
FETCH_WAIT_MS = 5

POSITIONS = "SELECT partition, next_offset FROM sink_positions WHERE sink = 'ledger'"

#: Partition and offset of a record.
Spot = tuple[int, int]
#: Of each key the offsets that were seen, rising, and when each was seen.
Seen = dict[Any, tuple[list[int], list[float]]]
#: Of each transaction when it was to be sent, its wallet, and its place in the input.
Sent = list[tuple[float, bytes, int, int]]

_spawn = multiprocessing.get_context("spawn")


def measure(pipeline: Running, rate: int, seconds: float) -> dict[str, dict[str, float]]:
    """p50, p99 and the longest in milliseconds, of the balance and of the row, at `rate` transactions a second."""
    settings = pipeline.settings
    topics = Topics.of(settings)
    names = dict.fromkeys((topics.ledger, topics.balances), settings.partitions)
    begin = {at: found.end for at, found in offsets(quiet_admin(settings), names).items()}
    stop = _spawn.Event()
    with (
        in_process(_follow_balances, settings, begin, stop) as balances,
        in_process(_look_at_rows, settings, stop) as rows,
    ):
        for one in (balances, rows):
            one.recv()
        with in_process(_send, settings, rate, seconds, pipeline.wallets) as sender:
            sent: Sent = sender.recv()
        places = _places(pipeline, sent, begin)
        stop.set()
        balances_seen, rows_seen = balances.recv(), rows.recv()
    counted = [one for one in sent if one[0] >= sent[0][0] + WARM_UP_S]
    return {
        "balance visible in Kafka, read-committed": percentiles(
            _first(balances_seen, wallet, offset) - at for at, wallet, _, offset in counted
        ),
        "row visible in PostgreSQL": percentiles(
            _first(rows_seen, partition, places[partition, offset] + 1) - at
            for at, _, partition, offset in counted
        ),
    }


@contextmanager
def in_process(work: Any, *arguments: Any) -> Iterator[Connection]:
    """Run `work` in a process of its own; yields the end of the pipe that it writes to."""
    here, there = _spawn.Pipe(duplex=False)
    process = _spawn.Process(target=work, args=(*arguments, there), daemon=True)
    process.start()
    there.close()
    try:
        yield here
    finally:
        process.terminate()
        process.join()


def _send(settings: Settings, rate: int, seconds: float, wallets: int, out: Connection) -> None:
    """Send credits to wallets that exist, evenly in time, for the warm-up and these seconds."""
    producer = clients.producer(settings, acks="all", enable_idempotence=True, linger_ms=0)
    topic, header = Topics.of(settings).transactions, frame(FIXED_IDS.transaction)
    keys = [wallet_name(number).encode() for number in range(wallets)]
    homes = [partition_of(key, settings.partitions) for key in keys]
    count = int(rate * (seconds + WARM_UP_S))
    spots: list[int] = [-1] * count
    began = time.monotonic()
    for number in range(count):
        while (ahead_s := began + number / rate - time.monotonic()) > 0:
            producer.poll(0)
            time.sleep(min(ahead_s, 0.001))
        which = number % wallets
        one = Transaction(str(uuid4()), keys[which].decode(), CREDIT, 100, "EUR", time.time_ns() // 1000)

        def delivered(error: KafkaError | None, message: Message, number: int = number) -> None:
            if error is None:
                spots[number] = message.offset() or 0

        producer.produce(topic, header + encode_transaction(one), keys[which], homes[which], delivered)
        producer.poll(0)
    producer.flush(PATIENCE_S)
    out.send(
        [
            (began + number / rate, keys[number % wallets], homes[number % wallets], offset)
            for number, offset in enumerate(spots)
            if offset >= 0
        ]
    )


def _follow_balances(
    settings: Settings, begin: dict[tuple[str, int], int], stop: Event, out: Connection
) -> None:
    """Note when the balance after each transaction came; keys are wallets, offsets the input's."""
    consumer = standalone(settings, f"{settings.prefix}.latency", fetch_wait_max_ms=FETCH_WAIT_MS)
    topic = Topics.of(settings).balances
    consumer.assign([TopicPartition(*at, offset) for at, offset in begin.items() if at[0] == topic])
    came: list[tuple[bytes, float]] = []
    out.send(None)
    while not stop.is_set():
        message = consumer.poll(0.1)
        if message is not None and message.error() is None:
            came.append((message.value() or b"", time.monotonic()))
    consumer.close()
    seen: Seen = {}
    for value, at in came:
        balance = decode_balance(body_of(value, FIXED_IDS.balance))
        _note(seen, balance.wallet_id.encode(), balance.source_offset, at)
    out.send(seen)


def _look_at_rows(settings: Settings, stop: Event, out: Connection) -> None:
    """Note how the ledger sink's positions move; keys are partitions, offsets the ledger's."""
    seen: Seen = {}
    with connect(settings, READER) as connection:
        out.send(None)
        while not stop.wait(LOOK_EVERY_S):
            for partition, position in connection.execute(POSITIONS).fetchall():
                if partition not in seen or position > seen[partition][0][-1]:
                    _note(seen, partition, position, time.monotonic())
    out.send(seen)


def _places(pipeline: Running, sent: Sent, begin: dict[tuple[str, int], int]) -> dict[Spot, int]:
    """Offset in the ledger of each transaction's entry, by its place in the input; all have their rows now."""
    settings = pipeline.settings
    ledger = Topics.of(settings).ledger
    read_to = {partition: offset for (topic, partition), offset in begin.items() if topic == ledger}
    places: dict[Spot, int] = {}

    def posted() -> bool:
        for message in messages(settings, ledger, read_to):
            partition, offset = message.partition() or 0, message.offset() or 0
            entry = decode_entry(body_of(message.value() or b"", FIXED_IDS.ledger_entry))
            places[entry.source_partition, entry.source_offset] = offset
            read_to[partition] = offset + 1
        return all((partition, offset) in places for _, _, partition, offset in sent)

    def written() -> bool:
        with connect(settings, READER) as connection:
            positions: dict[int, int] = dict(connection.execute(POSITIONS).fetchall())
        return all(positions[at[0]] > place for at, place in places.items())

    for is_so in (posted, written):
        deadline = time.monotonic() + PATIENCE_S
        while not is_so():
            pipeline.children.raise_if_ended()
            if time.monotonic() > deadline:
                raise Stopped(f"not all of {len(sent)} transactions had their rows within {PATIENCE_S:g} s")
            time.sleep(0.5)
    return places


def _note(seen: Seen, key: Any, offset: int, at: float) -> None:
    offsets_seen, times = seen.setdefault(key, ([], []))
    offsets_seen.append(offset)
    times.append(at)


def _first(seen: Seen, key: Any, offset: int) -> float:
    """When this offset or a later one of the key was seen first."""
    offsets_seen, times = seen[key]
    return times[bisect_left(offsets_seen, offset)]


def percentiles(took_s: Iterable[float]) -> dict[str, float]:
    """p50, p99 and the longest, in milliseconds."""
    took_ms = [one * 1000 for one in took_s]
    hundredths = quantiles(took_ms, n=100)
    return {"p50_ms": hundredths[49], "p99_ms": hundredths[98], "max_ms": max(took_ms)}
