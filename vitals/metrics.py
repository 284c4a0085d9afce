"""Metrics that workers and sinks share: position, end and lag of the partitions they have now.

They are made on request from what the watchdog saw last: a partition that moved elsewhere is no longer reported, and
an unknown value is left out rather than guessed.
"""

import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import Info
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from vitals.watchdog import Look

BUILD = Info("wallet_build", "Version of this program and the pipeline it works for.")

#: Histogram buckets: records in a batch, and seconds that one takes.
RECORD_BUCKETS = (1, 10, 100, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000)
SECOND_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


def tell_build(role: str, pipeline: str) -> None:
    """Set `wallet_build_info`."""
    try:
        number = version("wallet-ledger")
    except PackageNotFoundError:  # run from a folder, not installed
        number = "not installed"
    BUILD.info({"version": number, "role": role, "pipeline": pipeline})


def gauge(
    name: str, text: str, labels: tuple[str, ...] = (), value: float | None = None
) -> GaugeMetricFamily:
    """A gauge without labels, with its value; or one to be filled with `add_metric`."""
    return GaugeMetricFamily(name, text, value, labels or None)


def standing_families(role: str, look: Look, *, ready: bool) -> Iterator[Metric]:
    """Gauges `wallet_<role>_...` of every partition that this process has, by reader and partition."""
    labels = ("sink", "partition") if role == "sink" else ("partition",)
    position = gauge(f"wallet_{role}_position", "Next offset to handle.", labels)
    stable = gauge(f"wallet_{role}_last_stable_offset", "Offset up to which records can be read.", labels)
    end = gauge(f"wallet_{role}_end_offset", "Offset at which the partition ends (high watermark).", labels)
    held = gauge(
        f"wallet_{role}_held_back_offsets",
        "Offsets beyond the last stable one, held back by open transactions of the topic's producers.",
        labels,
    )
    records = gauge(
        f"wallet_{role}_lag_records", "Records not yet handled, up to the last stable offset.", labels
    )
    seconds = gauge(
        f"wallet_{role}_lag_seconds",
        "Age of the oldest record not yet handled, 0 if there is none.",
        labels,
    )
    now = time.time()
    for one in look.standings:
        values = [one.reader, str(one.partition)] if role == "sink" else [str(one.partition)]
        if one.position is not None:
            position.add_metric(values, one.position)
        if (lag := look.lags.get(one.place)) is None:
            continue
        stable.add_metric(values, lag.stable_end)
        end.add_metric(values, lag.end)
        held.add_metric(values, lag.end - lag.stable_end)
        if lag.records is not None:
            age_s = 0.0 if lag.oldest_ms is None else max(0.0, now - lag.oldest_ms / 1000)
            records.add_metric(values, lag.records)
            seconds.add_metric(values, age_s)
    yield from (position, stable, end, held, records, seconds)
    facts = {
        "ready": ("1 if /ready says so, else 0.", ready),
        "kafka_answers": ("1 if Kafka answered at the last look, else 0.", look.kafka_answers),
    }
    for name, (text, is_so) in facts.items():
        family = gauge(f"wallet_{role}_{name}", text)
        family.add_metric([], float(is_so))
        yield family
