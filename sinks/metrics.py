"""Metrics and readiness of a process's sinks: rows, batches, positions, and what they wait for.

It hears of each batch once it is in PostgreSQL, and itself checks whether PostgreSQL answers.
"""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from threading import Event, Lock

import psycopg
from prometheus_client import Counter, Histogram
from prometheus_client.metrics_core import Metric

from config.errors import WalletError
from config.settings import Settings
from sinks.names import LEDGER
from sinks.observer import Observer
from sinks.postgres import READER, Connection, connect, one_line
from sinks.tables import TableRows
from vitals.metrics import RECORD_BUCKETS, SECOND_BUCKETS, gauge
from vitals.watchdog import Look, Standing

RECORDS = Counter("wallet_sink_records", "Records written to PostgreSQL with their position.", ["sink"])
ROWS = Counter("wallet_sink_rows", "Rows added, or compared if they were there already.", ["sink", "table"])
BATCH = Histogram(
    "wallet_sink_batch_records", "Records in one PostgreSQL transaction.", ["sink"], buckets=RECORD_BUCKETS
)
BATCH_SECONDS = Histogram(
    "wallet_sink_batch_duration_seconds",
    "Time to write a batch, including waits for PostgreSQL.",
    ["sink"],
    buckets=SECOND_BUCKETS,
)
ATTEMPTS_FAILED = Counter(
    "wallet_sink_waits", "Attempts that failed because PostgreSQL or Kafka did not answer.", ["sink"]
)
FENCES = Counter("wallet_sink_fences", "Partitions that another owner took.", ["sink"])

#: How long one attempt takes at most; at each one the sink repeats what it waits for.
ATTEMPT_S = 30.0
#: PostgreSQL counts as away if a check takes longer.
SIGN_OF_LIFE_S = 5.0
CLOSE_S = 0.5


class Vitals(Observer):
    """The state of one process's sinks, for its watchdog, readiness and metrics.

    Each sink has its own thread, and health has others: dicts are replaced, never changed, so that
    they can be read without the lock.
    """

    role = "sink"
    #: None: sinks read our own topics, not the input.
    oldest = None

    def __init__(self, settings: Settings, topics: Mapping[str, str]) -> None:
        self._settings = settings
        self._impatient = settings.model_copy(update={"postgres_timeout_s": SIGN_OF_LIFE_S})
        self._topics = topics
        self._positions: dict[str, dict[int, int]] = {}
        self._waits: dict[str, tuple[str, float]] = {}
        self._newest_ms = 0
        self._postgres: str | None = "PostgreSQL has not been asked yet"
        self._connection: Connection | None = None
        self._closed = Event()
        self._writing, self._asking = Lock(), Lock()
        for sink in topics:
            for counter in (RECORDS, ATTEMPTS_FAILED, FENCES):
                counter.labels(sink)

    # -- called by the sinks, from their threads

    def reached(self, sink: str, offsets: Mapping[int, int]) -> None:
        """Remember the partitions of this sink (all of them), each with the next offset to write."""
        with self._writing:
            self._positions = self._positions | {sink: dict(offsets)}

    def assigned(self, sink: str, partitions: Collection[int]) -> None:  # noqa: ARG002 - Observer's signature
        """Forget what it waited for: it has its partitions."""
        self.goes_on(sink)

    def wrote(self, sink: str, records: int, seconds: float) -> None:
        """Count a batch that is written."""
        RECORDS.labels(sink).inc(records)
        BATCH.labels(sink).observe(records)
        BATCH_SECONDS.labels(sink).observe(seconds)
        self.goes_on(sink)

    def rows(self, sink: str, tables: Sequence[TableRows], newest_ms: int | None) -> None:
        """Count the rows of a batch that is written, and remember how new its newest record is."""
        for table, rows in tables:
            ROWS.labels(sink, table.name).inc(len(rows))
        if sink == LEDGER and newest_ms is not None:
            self._newest_ms = max(self._newest_ms, newest_ms)

    def fenced(self, sink: str, partitions: Collection[int]) -> None:
        """Count partitions that another owner took."""
        FENCES.labels(sink).inc(len(partitions))

    def waiting(self, sink: str, reason: str) -> None:
        """Remember what it waits for."""
        ATTEMPTS_FAILED.labels(sink).inc()
        with self._writing:
            self._waits = self._waits | {sink: (reason, time.monotonic())}

    def goes_on(self, sink: str) -> None:
        """Forget what it waited for."""
        if sink in self._waits:
            with self._writing:
                self._waits = {name: wait for name, wait in self._waits.items() if name != sink}

    # -- called by health, from its threads

    def standings(self) -> list[Standing]:
        """The state of each partition of each sink; also checks whether PostgreSQL answers."""
        self._probe()
        return [
            Standing(sink, self._topics[sink], partition, position, None, self._postgres or self._wait(sink))
            for sink, offsets in sorted(self._positions.items())
            for partition, position in sorted(offsets.items())
        ]

    def not_ready(self, look: Look) -> list[str]:  # noqa: ARG002 - of the protocol; Kafka's silence is reported elsewhere
        """Why the process is not ready: PostgreSQL is away, or a sink has no partitions yet or waits for something."""
        reasons = [self._postgres] if self._postgres else []
        for sink in self._topics:
            if sink not in self._positions:
                reasons.append(f"the group has not assigned the sink {sink} its partitions yet")
            if wait := self._wait(sink):
                reasons.append(f"the sink {sink} waits: {wait}")
        return reasons

    def families(self) -> Iterable[Metric]:
        """Whether PostgreSQL answers, the partitions of each sink, and how new the newest balance is."""
        answers = gauge("wallet_sink_postgres_answers", "1 if PostgreSQL answered when last asked, else 0.")
        answers.add_metric([], float(self._postgres is None))
        count = gauge("wallet_sink_partitions", "Partitions of a sink in this process.", ("sink",))
        for sink in self._topics:
            count.add_metric([sink], len(self._positions.get(sink, {})))
        newest = gauge(
            "wallet_sink_newest_balance_age_seconds",
            "Age of the newest balance by recorded_at that this process wrote to PostgreSQL.",
        )
        if self._newest_ms:
            newest.add_metric([], max(0.0, time.time() - self._newest_ms / 1000))
        return [answers, count, newest]

    def _wait(self, sink: str) -> str | None:
        """What a sink waits for according to its last report, unless that is long ago."""
        reason, said = self._waits.get(sink, ("", 0.0))
        recent = time.monotonic() - said < self._settings.retry_wait_s + ATTEMPT_S
        return reason if reason and recent else None

    def _probe(self) -> None:
        """Check on a separate connection that PostgreSQL answers, and remember the result."""
        with self._asking:
            if self._closed.is_set():
                return
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = connect(self._impatient, READER, wait_s=0, name="wallet health")
                self._connection.execute("SELECT 1")
            except WalletError as failure:
                self._postgres = str(failure)
            except psycopg.Error as failure:
                self._postgres = f"PostgreSQL does not answer: {one_line(failure)}"
                self._close_connection()
            else:
                self._postgres = None
            if self._closed.is_set():  # by somebody who did not wait for this
                self._close_connection()

    def close(self) -> None:
        """Stop asking PostgreSQL. A check that is still unanswered is left alone: ending must not wait for it."""
        self._closed.set()
        if self._asking.acquire(timeout=CLOSE_S):
            try:
                self._close_connection()
            finally:
                self._asking.release()

    def _close_connection(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
