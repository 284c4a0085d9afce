"""A sink alone: one process fills a table from a topic that a worker has finished."""

from benchmarks.measurement import Measurement, watch
from benchmarks.place import Place
from config.errors import Stopped
from config.settings import Settings
from sinks.postgres import questions
from topics.cluster import offsets, quiet_admin
from topics.names import Topics

#: A topic's last record is followed by the mark of its transaction's commit.
MARK = 1
TABLES = {"ledger": "transactions", "snapshots": "transaction_snapshots"}


def measure(place: Place, settings: Settings, sink: str, name: str, rows: int) -> Measurement:
    """Run a sink to the end of its topic, from its first batch in Postgres to its last."""
    total = records_of(settings, getattr(Topics.of(settings), sink))
    with place.children(settings) as children:
        process = children.start(f"sink {sink}", "sink", sink)
        # Offsets count commit marks too, one for thousands of records: they move evenly with the rows.
        measured = watch(
            name,
            process.pid,
            lambda: moved(settings, sink),
            total,
            children.raise_if_ended,
            events=rows,
            beside=place.server_pids(),
        )
    found = questions.counts(settings)[TABLES[sink]]
    if found != rows:
        raise Stopped(f"{TABLES[sink]} has {found} rows, not {rows}")
    return measured


def records_of(settings: Settings, topic: str) -> int:
    """How many offsets of a topic's partitions are to be read, their last marks left out."""
    ends = offsets(quiet_admin(settings), {topic: settings.partitions})
    return sum(max(0, at.end - MARK) for at in ends.values())


def moved(settings: Settings, sink: str) -> int:
    """How far a sink is, all partitions together."""
    return sum(at.next_offset for at in questions.positions(settings) if at.sink == sink)
