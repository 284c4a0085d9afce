"""`wallet verify`: audit a whole pipeline. It only reads.

The `audit` package, which shares no code with the worker, judges the topics; rows in PostgreSQL are compared with what
it certifies.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from confluent_kafka.admin import AdminClient

from audit.database import DatabaseAudit
from audit.digests import new_key
from audit.expected import ExpectedRows
from audit.groups import GroupSums
from audit.partition import STRETCH_RECORDS, Span
from audit.report import Difference, Differences, Findings, Report
from config.errors import ConfigurationError, Refused
from config.pipeline import Pipeline
from config.settings import Settings
from config.times import rfc3339
from operations.cli.arguments import partitions_of
from operations.cli.output import progress
from operations.looking.time_lookup import offsets_at
from operations.verify import point as verify_point
from operations.verify.cut import Cut, cuts, earlier
from operations.verify.judging import GROUPS, Judgement, Task, judge_all, readers
from operations.verify.point import Point
from operations.verify.report import export, refuse_unwritable
from schemas.registry import Writers, schema_ids
from sinks.postgres.one_state import audited
from streams.accepted import ids_to_audit_with, read_accepted
from topics.cluster import (
    FoundTopic,
    describe,
    differences,
    identity,
    initialised,
    input_bytes,
    offsets_in,
    quiet_admin,
    specs,
)
from topics.names import Topics
from topics.source import Source


@dataclass(frozen=True)
class Options:
    """What to verify: all partitions or one, from the start or a verified point, up to an end."""

    partition: int | None = None
    to_offset: int | None = None
    to_time: datetime | None = None
    since: Path | None = None
    save: Path | None = None
    postgres: bool = True
    shown: int = 20
    jobs: int = 1
    export: Path | None = None

    @property
    def to_an_end(self) -> bool:
        """Whether an end is given."""
        return self.to_offset is not None or self.to_time is not None

    def refuse_contradictions(self) -> None:
        """Raise ConfigurationError for contradictory options."""
        if self.to_offset is not None and self.partition is None:
            raise ConfigurationError("--to-offset needs one partition: add --partition N")
        if self.to_offset is not None and self.to_time is not None:
            raise ConfigurationError("use either --to-offset or --to, not both")
        if self.to_time and self.to_time > datetime.now(UTC):
            raise ConfigurationError(f"--to {rfc3339(self.to_time)} is in the future: leave it out for now")
        if self.save and self.to_an_end:
            raise ConfigurationError(
                "--save saves the state at the newest decided records: leave out --to-offset and --to"
            )
        if self.save:
            verify_point.refuse_to_replace(self.save)
        self._check_export()

    def refuse_what_needs_servers(self) -> None:
        """Raise ConfigurationError for options that do not work with an export."""
        if self.to_an_end or self.since or self.save or self.jobs > 1:
            raise ConfigurationError(
                "--folder can be combined only with --partition, --limit, --json and --export"
            )
        self._check_export()

    def _check_export(self) -> None:
        if self.export:
            refuse_unwritable(self.export)

    def partitions(self, pipeline: Pipeline) -> list[int]:
        """The partitions to verify; raises ConfigurationError if one does not exist."""
        return partitions_of(pipeline.partitions, self.partition)

    def limits(self, settings: Settings, partitions: Sequence[int]) -> dict[int, int]:
        """The given ends, by partition; empty if the newest decided records are the end."""
        if self.to_offset is not None:
            return dict.fromkeys(partitions, self.to_offset)
        if self.to_time is not None:
            found = offsets_at(settings, partitions, self.to_time)
            return {at: offset for at, offset in found.items() if offset is not None}
        return {}


def run(settings: Settings, options: Options) -> Report:
    """Verify and report; raises a WalletError if that is not possible."""
    options.refuse_contradictions()
    began = time.monotonic()
    pipeline = initialised(settings)
    settings = pipeline.rule(settings)
    with tempfile.TemporaryDirectory(prefix="wallet-verify-") as work:
        verification = _Verification(settings, pipeline, options, Path(work))
        report = verification.run()
    report.took_s = time.monotonic() - began
    if options.export:
        export(report, verification.cluster, verification.topic_id, options.export)
    return report


class _Verification:
    """One audit, step by step."""

    def __init__(self, settings: Settings, pipeline: Pipeline, options: Options, work: Path) -> None:
        self.settings, self.pipeline, self.options = settings, pipeline, options
        self.work = work
        self.topics = Topics.of(settings)
        self.client = quiet_admin(settings)
        self.cluster, self.topic_id = identity(self.client, self.topics.transactions)
        self.report = Report(
            settings.prefix, asdict(pipeline), Differences(options.shown), Findings(options.shown)
        )
        self.partitions = options.partitions(pipeline)
        self.point = self._point()
        self.limits = options.limits(settings, self.partitions)

    def run(self) -> Report:
        """1. Read tables and sinks' positions, 2. find the cut, 3. judge topics, 4. compare rows, 5. save the point."""
        report = self.report
        found_topics = check_topics(self.client, self.settings, self.report.differences)
        key = bytes.fromhex(self.point.key) if self.point else new_key()
        tables = self._tables(key)
        cut = self._cuts()
        rows = partial(
            ExpectedRows,
            key,
            self.topics,
            tables.positions if tables else {},
            wanted=bool(tables or self.options.save),
            interval_only=self.options.to_an_end,
        )
        suspected = frozenset(tables.suspected_wallets if tables else ())
        judged = self._judge(self._task(rows, suspected, finite(found_topics)), cut)
        expected = judged.expected
        if self.point:
            verify_point.restore_rows(self.point, expected, self.partitions)
        if tables:
            tables.compare(expected, judged.known, judged.places, self._records)
            report.notes += [
                f"rows of {table} were not compared, its columns are not as shipped: see the differences of `catalog`"
                for table in tables.unread
            ]
            for table, count in tables.unwritten(expected).items():
                report.notes.append(
                    f"{table}: {count:,} rows are not written yet according to sink_positions and were not compared"
                )
            report.functions = {} if self.options.to_an_end else tables.ask_functions(judged.samples)
        if self.options.save and report.clean:
            self._save(key, cut, judged.starts, expected)
        return report

    def _tables(self, key: bytes) -> DatabaseAudit | None:
        if not self.options.postgres:
            return None
        tables = DatabaseAudit(
            partial(audited, self.settings),
            self.topics,
            self.partitions,
            self.settings.partitions,
            key,
            self.report.differences,
            self.limits,
        )
        tables.read(partial(progress, "reading rows"))
        self.report.rows = tables.rows
        return tables

    def _records(self, topic: str, partition: int, end: int) -> Iterator[list[Source]]:
        """One partition of a topic, from its first record up to an offset (excluded)."""
        with readers(self.settings, self.pipeline.max_record_bytes) as opened:
            begin = offsets_in(self.client, [(topic, partition)])[topic, partition].begin
            yield from opened(topic).stretches(partition, begin, end, STRETCH_RECORDS)

    def _cuts(self) -> list[Cut]:
        found = cuts(self.settings, self.client, self.partitions)
        for cut in found:
            begin = self.point.sources[str(cut.partition)] if self.point else 0
            if cut.input.begin > begin:
                raise Refused(
                    f"{self.topics.transactions} partition {cut.partition} begins at offset {cut.input.begin}: "
                    "retention (WALLET_RETENTION_TRANSACTIONS_DAYS) deleted the records before it; "
                    "add --since with a verified point at that offset or later"
                )
            for topic, start in self.point.starts[str(cut.partition)].items() if self.point else ():
                if start < cut.begins[topic]:
                    raise Refused(
                        f"{topic} partition {cut.partition} begins at offset {cut.begins[topic]}, the verified point "
                        f"is at {start}: retention deleted the records between; verify without --since"
                    )
            if self.limits.get(cut.partition, begin) < begin:
                raise Refused(
                    f"the verified point is at offset {begin} of partition {cut.partition}, after the given "
                    f"end {self.limits[cut.partition]}: give a later end, or leave out --since"
                )
        return [
            earlier(cut, self.limits[cut.partition]) if cut.partition in self.limits else cut for cut in found
        ]

    def _task(
        self, rows: Callable[[], ExpectedRows], suspected: frozenset[str], late: frozenset[str]
    ) -> Task:
        settings, pipeline = self.settings, self.pipeline
        kept = read_accepted(settings)  # after the cut, so that every id accepted before it is included
        known = Writers(settings)
        accepted = {at: ids_to_audit_with(settings, pipeline, known, kept, at) for at in self.partitions}
        late = frozenset() if self.point else late
        return Task(
            settings,
            pipeline,
            schema_ids(settings),
            accepted,
            late,
            suspected,
            self.work,
            self.options.shown,
            rows,
        )

    def _judge(self, task: Task, found: list[Cut]) -> Judgement:
        spans = [self._span(cut) for cut in found]
        total = sum(span.source - span.begin for span in spans)
        began_s = time.monotonic()
        with closing(GroupSums(self.work / GROUPS)) as groups:
            with progress("verifying", total) as advance:
                judged = judge_all(task, spans, self.options.jobs, groups, advance)
                advance(total)
            self._tell_groups(groups)
        report = self.report
        report.covered = judged.covered
        report.differences.take(judged.differences)
        report.findings.take(judged.findings)
        report.folding_s, report.folding_cpu_s = time.monotonic() - began_s, judged.cpu_s
        for cut in found:
            if cut.committed is None and cut.source > cut.input.begin:
                report.notes.append(
                    f"partition {cut.partition}: the group has no offset (Kafka forgets it after an idle week); "
                    f"compared up to the newest outcome"
                )
        return judged

    def _span(self, cut: Cut) -> Span:
        at, point = str(cut.partition), self.point
        begin = point.sources[at] if point else cut.input.begin
        starts = point.starts[at] if point else cut.begins
        return Span(cut.partition, begin, cut.source, cut.input.end, starts, cut.ends)

    def _tell_groups(self, groups: GroupSums) -> None:
        if len(self.partitions) < self.pipeline.partitions:
            self.report.notes.append("groups were not summed: their legs may be in any partition")
            return
        for finding in groups.unbalanced():
            self.report.findings.add(finding)

    def _point(self) -> Point | None:
        if self.options.since is None:
            return None
        point = verify_point.load(self.options.since, self.work)
        verify_point.refuse_another(point, self.settings.prefix, self.cluster, self.topic_id)
        if missing := [at for at in self.partitions if str(at) not in point.sources]:
            raise Refused(
                f"the verified point does not have partition {missing[0]}: verify from the start, without --since"
            )
        self.report.since = f"{self.options.since}, saved at {point.saved_at}"
        return point

    def _save(
        self, key: bytes, found: list[Cut], starts: dict[str, dict[str, int]], expected: ExpectedRows
    ) -> None:
        point = Point(
            self.settings.prefix,
            self.cluster,
            self.topic_id,
            rfc3339(datetime.now(UTC)),
            key.hex(),
            {str(cut.partition): cut.source for cut in found},
            starts,
            verify_point.rows_of(expected.rows),
        )
        if self.options.save:
            verify_point.save(point, self.work, self.options.save)
            self.report.saved = str(self.options.save)


def check_topics(client: AdminClient, settings: Settings, told: Differences) -> dict[str, FoundTopic]:
    """Refuse missing topics; report settings that were changed by hand as differences."""
    topics = Topics.of(settings)
    found = describe(client, (*topics.partitioned, topics.pipeline))
    # A history is loaded with its own times.
    for spec in specs(settings, input_bytes(settings, found), any_input_time=True):
        there = found.get(spec.name)
        if there is None or there.partitions != spec.partitions:
            raise Refused("; ".join(differences(spec, there)))
        for text in differences(spec, there):
            told.add(Difference(spec.name, "altered", detail=text))
    return found


def finite(found: dict[str, FoundTopic]) -> frozenset[str]:
    """Topics with finite retention, which `init` allows with a warning."""
    return frozenset(
        name
        for name, topic in found.items()
        if topic.config.get("retention.ms", "-1") != "-1" or topic.config.get("retention.bytes", "-1") != "-1"
    )
