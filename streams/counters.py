"""What a worker counts of its batches: once a batch, never once a record."""

import time
from collections import Counter as Tally
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Counter, Histogram

from schemas.records import Reason
from streams.batch import Outputs
from streams.endings import Aborted, Fenced
from vitals.metrics import RECORD_BUCKETS, SECOND_BUCKETS

RECORDS = Counter("wallet_worker_records", "Records decided and committed, by outcome.", ["outcome"])
REJECTIONS = Counter("wallet_worker_rejections", "Records rejected, by reason.", ["reason"])
SNAPSHOTS = Counter("wallet_worker_snapshots", "Snapshots written.")
BATCH = Histogram(
    "wallet_worker_batch_records", "Records decided in one Kafka transaction.", buckets=RECORD_BUCKETS
)
BATCH_SECONDS = Histogram(
    "wallet_worker_batch_duration_seconds",
    "Time from fetched records to the written store: decide, commit, store.",
    buckets=SECOND_BUCKETS,
)
TRANSACTION_SECONDS = Histogram(
    "wallet_worker_transaction_duration_seconds",
    "Time of a committed Kafka transaction, from begin to the broker's answer.",
    buckets=SECOND_BUCKETS,
)
TRANSACTIONS = Counter(
    "wallet_worker_transactions",
    "Kafka transactions by result: committed, aborted (and tried again), fenced, failed.",
    ["result"],
)
RECOVERY_SECONDS = Histogram(
    "wallet_worker_recovery_duration_seconds",
    "Time to open a partition: fence its former owner, catch its store up, find its position.",
    buckets=(*SECOND_BUCKETS, 300.0, 1_800.0, 7_200.0),
)
RECOVERED = Counter("wallet_worker_recovered_records", "Records read to catch stores up.")

#: Where a rejection has its reason: upstream may send any headers, the fold's six come last (streams.posting).
REASON = -6

for outcome in ("posted", "rejected"):
    RECORDS.labels(outcome)
for one in Reason:
    REJECTIONS.labels(one.value)
for result in ("committed", "aborted", "fenced", "failed"):
    TRANSACTIONS.labels(result)


@contextmanager
def transaction() -> Iterator[None]:
    """Count how the Kafka transaction inside ends, and how long it took to commit."""
    started = time.monotonic()
    try:
        yield
    except Aborted:
        TRANSACTIONS.labels("aborted").inc()
        raise
    except Fenced:
        TRANSACTIONS.labels("fenced").inc()
        raise
    except BaseException:
        TRANSACTIONS.labels("failed").inc()
        raise
    TRANSACTION_SECONDS.observe(time.monotonic() - started)
    TRANSACTIONS.labels("committed").inc()


def recovered(records: int, took_s: float) -> None:
    """Count a partition that was opened."""
    RECOVERED.inc(records)
    RECOVERY_SECONDS.observe(took_s)


def posted(outputs: Outputs, took_s: float) -> None:
    """Count a batch that is committed and in the store."""
    entries, rejections = len(outputs.entries), len(outputs.rejections)
    RECORDS.labels("posted").inc(entries)
    RECORDS.labels("rejected").inc(rejections)
    if rejections:
        reasons = Tally(rejection.headers[REASON][1] for rejection in outputs.rejections if rejection.headers)
        for reason, count in reasons.items():
            REJECTIONS.labels(reason.decode() if isinstance(reason, bytes) else reason).inc(count)
    SNAPSHOTS.inc(len(outputs.snapshots))
    BATCH.observe(entries + rejections)
    BATCH_SECONDS.observe(took_s)
