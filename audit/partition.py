"""Audit one partition from its first record to its cut: compare every record that a worker wrote with the input.

For each stretch of the input, in this order: 1. each record has one outcome, 2. the entries, 3. the rejections,
4. snapshots and balances, 5. the newly certified balances. Ids are judged at the end.
"""

from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import numpy as np

from audit import avro, fold
from audit.certify import (
    Certified,
    Certifier,
    Inputs,
    Judged,
    contents,
    id_and_content,
    would_be_recorded,
)
from audit.columns import Longs
from audit.contract import (
    DAY_MS,
    FRAME_BYTES,
    PERIOD,
    REJECTION_HEADERS,
    Contract,
    Reason,
    Transaction,
)
from audit.derived import BalanceLane, SnapshotLane, due
from audit.identity import (
    CONFLICT,
    DUPLICATE,
    ENTRY,
    LATER,
    MISSING,
    Events,
    Identities,
    Twin,
    events,
    halves,
)
from audit.lanes import Lane, Reads, entry_sources, rejection_sources
from audit.refusals import Refusals, rejection
from audit.report import Covered, Differences, Finding, Findings, Teller, What
from audit.wallets import Wallets
from config.times import rfc3339
from topics.names import Topics
from topics.source import Source

#: What an outcome says of its id.
SAID = {
    ENTRY: "it was posted",
    DUPLICATE: "it was rejected as DUPLICATE",
    CONFLICT: "it was rejected as CONFLICT",
    LATER: "it was rejected for a later reason",
}
#: Records of the input judged at a time.
STRETCH_RECORDS = 20_000


class Span(NamedTuple):
    """The part of a partition to audit: the input up to `source` (excluded), and ranges of the derived topics.

    From `source` to `input_end` (excluded) outcomes are in flight.
    """

    partition: int
    begin: int
    source: int
    input_end: int
    starts: dict[str, int]
    ends: dict[str, int]


class Stretch(NamedTuple):
    """The result of a stretch of the input, for `watch`: entries and snapshots as they must be, and rejections.

    `not_kept` are rejections that retention has deleted; their detail is not the original.
    """

    partition: int
    wallets: Wallets
    judged: Judged
    rejections: list[Source]
    not_kept: list[Source]
    snapshots: list[Source]


class PartitionAudit:
    """The audit of one partition; `reads` opens a topic, `watch` gets every stretch."""

    def __init__(
        self,
        contract: Contract,
        topics: Topics,
        span: Span,
        reads: Callable[[str], Reads],
        folder: Path,
        differences: Differences,
        findings: Findings,
        *,
        late: Collection[str] = (),
        without_balances: bool = False,
        watch: Callable[[Stretch], None] = lambda _: None,
    ) -> None:
        self._without_balances = without_balances
        self._watch, self._late, self._folder = watch, late, folder / str(span.partition)
        self._unwitnessed: fold.Unwitnessed | None = None
        self._first_kept: dict[str, int] = {}
        #: What the slow fold makes of records of the stretch, and those whose rejection is gone.
        self._folded: dict[int, Source | Reason] = {}
        self._deleted: list[Source] = []
        self._contract, self._topics, self._span, self._reads = contract, topics, span, reads
        self._findings = findings
        at = span.partition
        self._input = self._started(topics.transactions, span.begin, span.source)
        self._entry = Teller(topics.ledger, at, differences, avro.read_entry)
        self._rejection = Teller(topics.rejections, at, differences, None)
        snapshot = Teller(topics.snapshots, at, differences, avro.read_snapshot)
        balance = Teller(topics.balances, at, differences, avro.read_balance)
        self.wallets = Wallets(at, contract.partitions)
        self._ledger = Lane(self._derived(topics.ledger), entry_sources, _strays(self._entry), span.input_end)
        self._rejections = Lane(
            self._derived(topics.rejections), rejection_sources, _strays(self._rejection), span.input_end
        )
        self.wallets.load(folder / str(at))
        self._certifier = Certifier(contract, at, self.wallets, self._entry)
        self._refusals = Refusals(contract, at, self.wallets, self._rejection)
        self._snapshots = SnapshotLane(
            contract,
            at,
            self.wallets,
            self._derived(topics.snapshots),
            snapshot,
            starts_late=self._is_late(topics.snapshots),
        )
        self._balances = BalanceLane(contract, at, self.wallets, self._derived(topics.balances), balance)
        self._identities = Identities(folder / str(at))
        self.stretch_records = STRETCH_RECORDS
        self._entries_hash, self._rejections_hash = sha256(), sha256()
        self.covered = Covered(at, span.begin, span.source, span.input_end - span.source)
        #: Where the next audit begins in the derived topics.
        self.next_offsets: dict[str, int] = {}

    def run(self, advance: Callable[[int], None], newer: Callable[[], Iterable[Source]]) -> Covered:
        """Judge everything; `advance` gets the number of input records so far; for `newer` see `BalanceLane.finish`."""
        try:
            while records := self._input.next(self.stretch_records):
                self._stretch(Inputs(records))
                self.covered.records += len(records)
                advance(self.covered.records)
            self._finish(newer)
            self.covered.entries_hash = self._entries_hash.hexdigest()
            self.covered.rejections_hash = self._rejections_hash.hexdigest()
            for twin in self._identities.judge(self._contract.id_window_ms, self._span.begin):
                self._tell_twin(twin)
        finally:
            self._identities.close()
            if self._unwitnessed is not None:
                self._unwitnessed.close()
        return self.covered

    def _sum_up(self, judged: Judged, rejections: list[Source]) -> None:
        """What another audit of the same records must come to as well."""
        signed = judged.columns.transaction.signed
        # In two parts, of which no sum leaves 64 bits.
        self.covered.amount += (int((signed >> 32).sum()) << 32) + int((signed & 0xFFFFFFFF).sum())
        self._entries_hash.update(b"".join(judged.certified.links))
        for one in rejections:
            for _, value in one.headers[-len(REJECTION_HEADERS) :]:
                self._rejections_hash.update(value or b"")

    def has_entries(self, wallet_id: str) -> bool:
        """Whether a wallet has a certified entry here."""
        number = self.wallets.number(wallet_id.encode())
        return number >= 0 and bool(self.wallets.sequence[number])

    def save(self, folder: Path) -> None:
        """Save what the next audit continues from; the ids are already there."""
        self.wallets.save(folder / str(self._span.partition), self._certifier.recorded_ms)

    def _stretch(self, inputs: Inputs) -> None:
        before = inputs.records[-1].offset + 1
        self._fold(inputs)
        entries, sources = self._entries(before)
        rejections, rejected = self._rejections.take(before)
        covered = self.covered
        covered.entries += len(entries)
        covered.rejections += len(rejections)
        missing = self._conserve(inputs, entries, sources, rejections, rejected)
        entries, sources = _of(inputs, entries, sources)
        newest_ms = self._certifier.recorded_ms
        judged = self._certifier.judge(inputs, entries, sources, missing)
        certified = judged.certified
        refused = self._refusals.judge(inputs, rejections, rejected, certified, newest_ms)
        # Those without an outcome first: what they would have posted is no earlier twin of theirs.
        unanswered = self._is_missing(inputs, missing, certified, newest_ms)
        self._identities.add(np.concatenate([unanswered, judged.events, refused]))
        wanted = due(certified, self.wallets, self._contract.snapshot_every)
        covered.snapshots += len(wanted.wallet)
        snapshots = self._snapshots.compare(wanted)
        self._sum_up(judged, rejections)
        self._watch(Stretch(self._span.partition, self.wallets, judged, rejections, self._deleted, snapshots))
        self._take_over(certified)
        if not self._without_balances:
            self._balances.compare(certified, before)

    def _is_late(self, topic: str) -> bool:
        """Whether a finite retention has deleted the first records of a topic."""
        return topic in self._late and self._span.starts[topic] > 0

    def _entries(self, before: int) -> tuple[list[Source], list[int]]:
        """The entries of a stretch; those that retention deleted as the slow fold makes them."""
        first = self._first_of(self._topics.ledger, self._ledger)
        entries, sources = self._ledger.take(before)
        made = {
            source: one for source, one in self._folded.items() if isinstance(one, Source) and source < first
        }
        self.covered.not_kept += len(made)
        return [*made.values(), *entries], [*made, *sources]

    def _fold(self, inputs: Inputs) -> None:
        """What became of the records whose outcomes retention may have deleted."""
        late = max(
            self._first_of(self._topics.ledger, self._ledger),
            self._first_of(self._topics.rejections, self._rejections),
        )
        self._folded, self._deleted = {}, []
        if late and self._unwitnessed is None:
            self._unwitnessed = fold.Unwitnessed(self._contract, self._span.partition, self._folder)
        for record in inputs.records:
            if self._unwitnessed is not None and record.offset < late:
                self._folded[record.offset] = self._unwitnessed.outcome(record)

    def _first_of(self, topic: str, lane: Lane) -> int:
        """The source of the first record that a topic has kept; 0 where it has kept all of them."""
        if not self._is_late(topic):
            return 0
        if topic not in self._first_kept:
            first = lane.first()
            self._first_kept[topic] = self._span.input_end if first is None else first
        return self._first_kept[topic]

    def _conserve(
        self,
        inputs: Inputs,
        entries: list[Source],
        sources: list[int],
        rejections: list[Source],
        rejected: list[int],
    ) -> Longs:
        """Each record of the input has one outcome, and there is no other; the places of those without any."""
        outcomes = np.zeros(len(inputs.offsets), np.int64)
        for teller, records, at in ((self._entry, entries, sources), (self._rejection, rejections, rejected)):
            places, there = inputs.places(at)
            outcomes[places[there]] += 1
            for row in np.flatnonzero(~there).tolist():
                teller("conservation", "extra", records[row], None, "the input has no such record")
        twice = {inputs.records[place].offset for place in np.flatnonzero(outcomes > 1).tolist()}
        for record, source in zip(rejections, rejected, strict=True):
            if source in twice:
                self._rejection("conservation", "extra", record, None, "the record was posted, too")
        return self._not_kept(inputs, np.flatnonzero(outcomes == 0))

    def _not_kept(self, inputs: Inputs, missing: Longs) -> Longs:
        """Those without an outcome, but for those that were rejected, so that retention has deleted it."""
        first = self._first_of(self._topics.rejections, self._rejections)
        kept = []
        for place, offset in zip(missing.tolist(), inputs.offsets[missing].tolist(), strict=True):
            outcome = self._folded.get(offset)
            if offset < first and isinstance(outcome, Reason):
                came = inputs.records[place]
                self._deleted.append(rejection(self._contract, self._span.partition, came, outcome, b""))
            else:
                kept.append(place)
        self.covered.not_kept += len(missing) - len(kept)
        return np.array(kept, np.int64)

    def _is_missing(self, inputs: Inputs, missing: Longs, certified: Certified, newest_ms: int) -> Events:
        """Report records without an outcome; returns id events of transactions, which show what is missing."""
        unanswered: list[tuple[Source, Transaction]] = []
        for place in missing.tolist():
            record = inputs.records[place]
            what = fold.read(self._contract, self._span.partition, record)
            if isinstance(what, Reason):
                self._rejection.at_source("conservation", "missing", record.offset, None, f"it is {what}")
            else:
                unanswered.append((record, what))
        said = [id_and_content(what) for _, what in unanswered]
        return events(
            self.wallets.numbers([what.wallet_id.encode() for _, what in unanswered]),
            MISSING,
            *halves([one for one, _ in said]),
            np.array([record.offset for record, _ in unanswered], np.int64),
            would_be_recorded([record for record, _ in unanswered], certified, newest_ms)[1],
            contents([content for _, content in said]),
        )

    def _take_over(self, certified: Certified) -> None:
        """The newest certified balance of each wallet."""
        wallets, number = self.wallets, certified.wallet
        for column in ("currency", "balance", "sequence", "recorded_ms", "source"):
            getattr(wallets, column)[number] = getattr(certified, column)
        for one, link in zip(number.tolist(), certified.links, strict=True):
            wallets.links[one] = link

    def _finish(self, newer: Callable[[], Iterable[Source]]) -> None:
        """Records beyond the cut are in flight or extra."""
        span, topics = self._span, self._topics
        for topic, lane, teller in (
            (topics.ledger, self._ledger, self._entry),
            (topics.rejections, self._rejections, self._rejection),
        ):
            first = None
            for record, source in lane.rest():
                if not span.source <= source < span.input_end:
                    teller("conservation", "extra", record, None, "the input has no such record")
                elif first is None:
                    first = record.offset
            self.next_offsets[topic] = span.ends[topic] if first is None else first
        first = self._snapshots.finish(self._snapshot_in_flight)
        self.next_offsets[topics.snapshots] = span.ends[topics.snapshots] if first is None else first
        self.covered.not_kept += self._snapshots.not_kept
        if not self._without_balances:
            first = self._balances.finish(span.source, span.input_end, newer)
            self.next_offsets[topics.balances] = span.ends[topics.balances] if first is None else first
            self.covered.balances = self._balances.found

    def _snapshot_in_flight(self, record: Source) -> bool:
        """A PERIOD closes the entry before the one that causes it, which may be the last one that is certified."""
        span = self._span
        if span.source >= span.input_end:
            return False
        try:
            snapshot = avro.read_snapshot((record.value or b"")[FRAME_BYTES:])
        except avro.Undecodable:
            return False
        if span.source <= snapshot.source_offset < span.input_end:
            return True
        number = self.wallets.number(snapshot.wallet_id.encode())
        return (
            snapshot.reason == PERIOD
            and number >= 0
            and int(self.wallets.sequence[number]) == snapshot.sequence
        )

    def _tell_twin(self, twin: Twin) -> None:
        name = self.wallets.names[twin.wallet].decode(errors="replace")
        transaction_id = str(UUID(bytes=twin.transaction_id))
        if twin.kind == MISSING:
            teller = self._entry if twin.posted_source is None else self._rejection
            teller.at_source(
                "conservation", "missing", twin.source, name, "the record has neither entry nor rejection"
            )
            return
        if twin.forgotten and twin.kind == ENTRY:
            at = f"wallet {name} sequence {twin.sequence}, partition {self._span.partition} source offset {twin.source}"
            before = _time(twin.posted_ms)
            days = (self._contract.id_window_ms or 0) // DAY_MS
            ago = f"longer ago than the {days} days that this pipeline remembers"
            detail = f"{at}: the id was posted before at {before}, {ago}"
            self._findings.add(Finding("posted again", transaction_id, detail))
            return
        content = "the same" if twin.same_content else "other"
        earlier = (
            "was not posted before"
            if twin.posted_source is None
            else f"was posted by the record at {twin.posted_source} with {content} content"
        )
        detail = f"{SAID[twin.kind]}, but its id {transaction_id} {earlier}"
        what: What = "extra" if twin.kind == ENTRY else "altered"
        teller = self._entry if twin.kind == ENTRY else self._rejection
        teller.at_source("identity", what, twin.source, name, detail)

    def _started(self, topic: str, begin: int, end: int) -> Reads:
        reading = self._reads(topic)
        reading.start(self._span.partition, begin, end)
        return reading

    def _derived(self, topic: str) -> Reads:
        return self._started(topic, self._span.starts.get(topic, 0), self._span.ends.get(topic, 0))


def _of(inputs: Inputs, entries: list[Source], sources: list[int]) -> tuple[list[Source], list[int]]:
    """Entries whose source exists; the others are already reported."""
    _, there = inputs.places(sources)
    if there.all():
        return entries, sources
    rows = np.flatnonzero(there).tolist()
    return [entries[row] for row in rows], [sources[row] for row in rows]


def _strays(teller: Teller) -> Callable[[What, Source, int], None]:
    def tell(what: What, record: Source, source: int) -> None:
        detail = "it names no record of the input" if source < 0 else ""
        teller("conservation", what, record, None, detail)

    return tell


def _time(ms: int) -> str:
    """A time for people; Kafka's may lie in years that no calendar here has."""
    try:
        return rfc3339(datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=ms))
    except OverflowError:
        return f"{ms} ms since the epoch"
