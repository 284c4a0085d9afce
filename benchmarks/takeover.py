"""How long a partition stands still when one of three workers is stopped, is killed, and comes back.

Transactions come evenly all the time. A pause is the longest time between two entries of one partition that a
read-committed reader of the ledger sees, in any partition, from just before the act until it is over.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, pairwise

from confluent_kafka import TopicPartition

from benchmarks.filling import transactions
from benchmarks.place import Place, log
from config.errors import Stopped
from config.settings import Settings
from operations.cli.children import Child, Children
from topics import clients
from topics.clients import standalone
from topics.cluster import offsets, quiet_admin
from topics.names import Topics

WORKERS, ROUNDS = 3, 3
RATE, WALLETS = 500, 2_000
#: Records from the beginning of a run that are there before the first worker stops.
SETTLE_S = 6.0
#: A little more than the rebalances that an act causes take.
WATCH_S = 6.0
#: Before an act, so that the pause that it causes has its beginning.
BEFORE_S = 0.5

STOPPED, KILLED, BACK = "one of three stopped (SIGTERM)", "one of three killed (SIGKILL)", "one comes back"


class Arrivals:
    """When each partition's entries became visible."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._seen: dict[int, list[float]] = {number: [] for number in range(settings.partitions)}
        self._stop = threading.Event()
        ends = offsets(quiet_admin(settings), {Topics.of(settings).ledger: settings.partitions})
        self._begin = [TopicPartition(*at, found.end) for at, found in ends.items()]

    def longest_pause_s(self, since: float) -> float:
        """The longest time between two entries of one partition since then, and until now."""
        now = time.monotonic()
        return max(
            later - earlier
            for seen in self._seen.values()
            for earlier, later in pairwise([since, *(at for at in seen[:] if at > since), now])
        )

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watch in a thread of its own."""
        thread = threading.Thread(target=self._watch)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _watch(self) -> None:
        consumer = standalone(self._settings, f"{self._settings.prefix}.takeover")
        consumer.assign(self._begin)
        while not self._stop.is_set():
            for message in consumer.consume(500, 0.05):
                if not message.error():
                    self._seen[message.partition() or 0].append(time.monotonic())
        consumer.close()


@contextmanager
def _flowing(settings: Settings) -> Iterator[None]:
    """Send `RATE` transactions a second, evenly, until the block ends."""
    stop = threading.Event()

    def flow() -> None:
        producer = clients.producer(settings, acks="all", enable_idempotence=True, linger_ms=2)
        topic, began = Topics.of(settings).transactions, time.monotonic()
        for number, record in zip(count(), transactions(10**9, WALLETS, settings.partitions), strict=False):
            if stop.wait(max(0.0, number / RATE - (time.monotonic() - began))):
                break
            producer.produce(topic, record.value, record.key, record.partition)
            producer.poll(0)
        producer.flush(30)

    thread = threading.Thread(target=flow)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def measure(place: Place, prefix: str) -> dict[str, list[float]]:
    """The longest pause in seconds after each act, a list of as many as there were rounds."""
    settings = place.pipeline(prefix)
    pauses: dict[str, list[float]] = {STOPPED: [], KILLED: [], BACK: []}
    arrivals = Arrivals(settings)
    with place.children(settings) as children, arrivals.watched(), _flowing(settings):
        workers = [children.start(f"worker {number}", "worker") for number in range(WORKERS)]
        time.sleep(settings.session_timeout_s + SETTLE_S)
        for number in range(WORKERS, WORKERS + 2 * ROUNDS):
            what = STOPPED if number % 2 else KILLED
            began = time.monotonic() - BEFORE_S
            _end(children, workers.pop(0), kill=what is KILLED)
            time.sleep(WATCH_S + (settings.session_timeout_s if what is KILLED else 0))
            pauses[what].append(arrivals.longest_pause_s(began))
            began = time.monotonic() - BEFORE_S
            workers.append(children.start(f"worker {number}", "worker"))
            time.sleep(WATCH_S + SETTLE_S)
            pauses[BACK].append(arrivals.longest_pause_s(began))
            children.raise_if_ended()
            log.info("paused", what=what, seconds=f"{pauses[what][-1]:.2f}", back=f"{pauses[BACK][-1]:.2f}")
    if min(map(min, pauses.values())) <= 0:
        raise Stopped("a pause of no length: nothing was watched")
    return pauses


def _end(children: Children, worker: Child, *, kill: bool) -> None:
    if not kill:
        worker.ask_to_stop()
        worker.wait()
    children.kill(worker)
