"""One partition from its first record to its cut: folded, and every derived topic held against the fold."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from config.pipeline import Pipeline
from config.settings import Settings
from config.times import rfc3339
from config.topics import Topics
from operations.output import Advance
from operations.verify.balances import BalanceLane
from operations.verify.cut import Cut
from operations.verify.expected import ExpectedRows
from operations.verify.fold import GroupSums, WatchedFold
from operations.verify.kinds import LEDGER, REJECTIONS, SNAPSHOTS, Kind, Record
from operations.verify.lane import Lane
from operations.verify.reading import Reading
from operations.verify.report import Covered, Differences, Finding, Findings
from operations.verify.samples import Samples
from schemas.accepted import Accepted
from schemas.codec import HEADER_BYTES, decode_snapshot
from schemas.records import EPOCH, PERIOD
from schemas.registry import SchemaIds, Writers
from streams.accepted import ids_to_audit_with
from streams.batch import Derived, Outputs
from streams.incoming import Incoming
from streams.store import Cursor, Identity, PartitionStore, StoreMemory

#: Records folded at a time.
BATCH_RECORDS = 10_000


@dataclass
class Audit:
    """What all partitions of one audit share."""

    settings: Settings
    topics: Topics
    pipeline: Pipeline
    ids: SchemaIds
    writers: Writers
    accepted: dict[int, list[Accepted]]
    cluster: str
    topic_id: str
    folder: Path
    memory: StoreMemory
    groups: GroupSums
    differences: Differences
    findings: Findings
    expected: ExpectedRows
    sink_positions: dict[tuple[str, int], int]
    late_topics: frozenset[str]
    samples: Samples = field(default_factory=Samples)
    readings: dict[str, Reading] = field(default_factory=dict)
    _incoming: Incoming | None = None

    def reading(self, topic: str) -> Reading:
        """The consumer of a topic, one for all partitions."""
        if topic not in self.readings:
            self.readings[topic] = Reading(self.settings, topic)
        return self.readings[topic]

    def incoming(self) -> Incoming:
        """What reads the input, one for all partitions."""
        if self._incoming is None:
            self._incoming = Incoming(self.settings, self.topics.transactions, self.pipeline.max_record_bytes)
        return self._incoming

    def store(self, partition: int) -> PartitionStore:
        """The past of a partition's fold: on disk, so that memory is bounded."""
        identity = Identity(self.cluster, f"{self.settings.prefix} (verify)", self.topic_id, partition)
        path = self.folder / str(partition)
        return PartitionStore(path, identity, self.memory, self.settings.cached_wallets)

    def close(self) -> None:
        """Close the consumers and the sums of the groups."""
        if self._incoming is not None:
            self._incoming.close()
        for reading in self.readings.values():
            reading.close()
        self.groups.close()


class PartitionAudit:
    """The audit of one partition; `starts` are the offsets of the derived topics to begin at, by topic."""

    def __init__(self, audit: Audit, cut: Cut, starts: dict[str, int]) -> None:
        self._audit = audit
        self._cut = cut
        self._starts = starts
        self._store = audit.store(cut.partition)
        topics = audit.topics
        self._fold = WatchedFold(
            topics.transactions,
            cut.partition,
            audit.pipeline,
            ids_to_audit_with(audit.settings, audit.pipeline, audit.writers, audit.accepted, cut.partition),
            audit.ids,
            self._store,
        )
        expected = audit.expected
        self._ledger = self._lane(LEDGER, topics.ledger, expected.entry_beyond)
        self._rejections = self._lane(REJECTIONS, topics.rejections, expected.rejection_beyond)
        self._snapshots = self._lane(SNAPSHOTS, topics.snapshots, expected.snapshot_beyond)
        self._balances = BalanceLane(
            self._started(topics.balances), cut, self._fold.balance_frame, self._store, audit.differences
        )
        begin = self._store.cursor.source or cut.input.begin
        self.covered = Covered(cut.partition, begin, cut.source, cut.input.end - cut.source)
        #: Where the next audit begins in the derived topics.
        self.next_offsets: dict[str, int] = {}

    def run(self, advance: Advance) -> Covered:
        """Fold and compare; `advance` is told of the records folded so far."""
        try:
            self._run(advance)
            self._finish()
        finally:
            self._store.close()
        return self.covered

    def _run(self, advance: Advance) -> None:
        audit, fold, store, covered = self._audit, self._fold, self._store, self.covered
        incoming = audit.incoming()
        incoming.start(self._cut.partition, covered.from_offset, self._cut.source)
        while records := incoming.next(BATCH_RECORDS):
            audit.writers.forget_unknown()
            fold.entered, fold.again = [], []
            out = fold.post(records, store.cursor.source, store.cursor.recorded_ms)
            self._compare(out)
            cursor = Cursor(0, 0, out.next_offset, out.recorded_ms)
            store.write(out.balances, out.changelog, out.new_ids, cursor)
            self._balances.compare(fold.entered, out.next_offset)
            self._tell_again()
            audit.groups.add(fold.entered)
            audit.samples.add(fold.entered)
            covered.records += len(records)
            covered.entries += len(out.entries)
            covered.rejections += len(out.rejections)
            covered.snapshots += len(out.snapshots)
            advance(covered.records)

    def _tell_again(self) -> None:
        """Ids that were accepted twice: as the pipeline's policy has it, but upstream may not have meant it."""
        for balance, transaction, posted_ms in self._fold.again:
            before = rfc3339(EPOCH + timedelta(milliseconds=posted_ms))
            self._audit.findings.add(
                Finding(
                    "posted again",
                    transaction.transaction_id,
                    f"wallet {balance.wallet_id} sequence {balance.sequence}, partition {balance.source_partition} "
                    f"source offset {balance.source_offset}: the id was posted before at {before}, longer ago than "
                    f"the {self._audit.pipeline.id_window_days} days that this pipeline remembers",
                )
            )

    def _compare(self, out: Outputs) -> None:
        self._ledger.compare(out.entries)
        self._rejections.compare(out.rejections)
        self._snapshots.compare(out.snapshots)
        self._audit.expected.add(self._cut.partition, out, self._fold.entered)

    def _finish(self) -> None:
        """What the topics hold beyond the fold must be in flight."""
        topics, ends = self._audit.topics, self._cut.ends
        for topic, first in (
            (topics.ledger, self._ledger.finish(self._source_in_flight(LEDGER))),
            (topics.rejections, self._rejections.finish(self._source_in_flight(REJECTIONS))),
            (topics.snapshots, self._snapshots.finish(self._snapshot_in_flight)),
            (topics.balances, self._balances.finish()),
        ):
            self.next_offsets[topic] = ends[topic] if first is None else first
        self.covered.balances = self._balances.found
        self.covered.not_kept = sum(
            lane.not_kept for lane in (self._ledger, self._rejections, self._snapshots)
        )

    def _source_in_flight(self, kind: Kind) -> Callable[[Record], bool]:
        def in_flight(record: Record) -> bool:
            source = kind.identity(record)
            return isinstance(source, int) and self._cut.source <= source < self._cut.input.end

        return in_flight

    def _snapshot_in_flight(self, record: Record) -> bool:
        """A PERIOD closes the entry before the one that causes it, which may be the last one folded."""
        if self._cut.everything_decided:
            return False
        try:
            snapshot = decode_snapshot((record[1] or b"")[HEADER_BYTES:])
        except (ValueError, IndexError):
            return False
        if self._cut.source <= snapshot.source_offset < self._cut.input.end:
            return True
        newest = self._store.balance(snapshot.wallet_id.encode())
        return snapshot.reason == PERIOD and newest is not None and newest.sequence == snapshot.sequence

    def _lane(self, kind: Kind, topic: str, beyond: Callable[..., None]) -> Lane:
        partition = self._cut.partition
        return Lane(
            kind,
            self._started(topic),
            partition,
            self._audit.differences,
            sink_at=self._audit.sink_positions.get((topic, partition), 0),
            beyond=lambda derived: beyond(partition, derived),
            worded=lambda derived, found: self._audit.expected.rejection_worded(
                partition, derived, Derived(found[0], found[1], found[2], [*(found[3] or ())])
            ),
            starts_late=topic in self._audit.late_topics and self._starts[topic] > 0,
        )

    def _started(self, topic: str) -> Reading:
        reading = self._audit.reading(topic)
        reading.start(self._cut.partition, self._starts[topic], self._cut.ends[topic])
        return reading
