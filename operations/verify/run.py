"""`wallet verify`: an audit of a whole pipeline, which only reads.

The input is folded by the worker's own pure fold, and everything that a worker and the sinks wrote is held against
what comes out: topics record by record, tables row by row. Memory is bounded; the past of the fold is on disk.
"""

import gc
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from config.cluster import identity, quiet_admin, read_pipeline, wait_for_kafka
from config.errors import Refused
from config.logs import EventLog
from config.pipeline import Pipeline
from config.settings import Settings
from config.times import rfc3339
from config.topics import Topics
from operations.output import behind, progress
from operations.verify import point as verify_point
from operations.verify.cut import Cut, cuts, earlier
from operations.verify.digests import new_key
from operations.verify.expected import ExpectedRows
from operations.verify.fold import GroupSums
from operations.verify.options import Options
from operations.verify.partition import Audit, PartitionAudit
from operations.verify.point import Point
from operations.verify.postgres import DatabaseAudit
from operations.verify.report import Differences, Finding, Findings, Report
from operations.verify.topics import check_topics, finite
from schemas.partitioner import partition_of
from schemas.registry import schema_ids, writers
from sinks import audit as database
from streams.accepted import read_accepted
from streams.store import StoreMemory

log = EventLog("operations.verify")


def run(settings: Settings, options: Options) -> Report:
    """Verify and report; raises a WalletError where that is not possible."""
    options.check()
    began = time.monotonic()
    wait_for_kafka(settings)
    pipeline = read_pipeline(settings)
    if pipeline is None:
        raise Refused(f"topic {Topics.of(settings).pipeline} holds no pipeline record: run `wallet init`")
    settings = pipeline.rule(settings)
    with ExitStack() as stack, _few_collections():
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wallet-verify-")))
        report = _Verification(settings, pipeline, options, work, stack).run()
    report.took_s = time.monotonic() - began
    return report


class _Verification:
    """One audit, step by step."""

    def __init__(
        self, settings: Settings, pipeline: Pipeline, options: Options, work: Path, stack: ExitStack
    ) -> None:
        self.settings, self.pipeline, self.options = settings, pipeline, options
        self.work, self.stack = work, stack
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
        """1. The tables, with the sinks' positions. 2. The cut. 3. The fold. 4. What differs. 5. What is kept."""
        report = self.report
        found_topics = check_topics(self.client, self.settings, self.report.differences)
        key = bytes.fromhex(self.point.key) if self.point else new_key()
        tables = self._tables(key)
        positions = tables.positions if tables else {}
        cut = self._cuts()
        expected = ExpectedRows(
            key, wanted=bool(tables or self.options.save), interval_only=self.options.to_an_end
        )
        if self.point:
            verify_point.restore_rows(self.point, expected, self.partitions)
        shared = Audit(
            settings=self.settings,
            topics=self.topics,
            pipeline=self.pipeline,
            ids=schema_ids(self.settings),
            writers=writers(self.settings),
            accepted=read_accepted(self.settings),  # after the cut: all that counts before it is there
            cluster=self.cluster,
            topic_id=self.topic_id,
            folder=self.work,
            memory=(memory := StoreMemory(self.settings.store_memory_mb)),
            groups=GroupSums(self.work / verify_point.GROUPS, memory),
            differences=report.differences,
            findings=report.findings,
            expected=expected,
            sink_positions=positions,
            late_topics=finite(found_topics),
        )
        try:
            starts = self._fold(shared, cut)
            self._tell_groups(shared.groups)
        finally:
            shared.close()
        if tables:
            tables.compare(expected, _known(shared, tables.suspected_wallets))
            report.functions = {} if self.options.to_an_end else tables.ask_functions(shared.samples)
        if self.options.save and report.clean:
            self._save(key, cut, starts, expected)
        return report

    def _tables(self, key: bytes) -> DatabaseAudit | None:
        """Read PostgreSQL, all of it in one snapshot."""
        if not self.options.postgres:
            return None
        tables = DatabaseAudit(self.settings, self.partitions, key, self.report.differences, self.limits)
        with database.looking(self.settings) as connection:
            written = database.positions(connection)
            total = sum(
                at
                for (topic, partition), at in written.items()
                if topic != self.topics.balances and partition in self.partitions
            )
            with progress("reading rows", total) as advance:
                # An audit that goes on from a point does not read again what was clean then.
                tables.read(connection, advance, seals_beside_topic=self.point is None)
        self.report.rows = {table: digests.total() for table, digests in tables.rows.items()}
        return tables

    def _cuts(self) -> list[Cut]:
        found = cuts(self.settings, self.client, self.partitions)
        for cut in found:
            begin = self.point.sources[str(cut.partition)] if self.point else 0
            if cut.input.begin > begin:
                raise Refused(
                    f"{self.topics.transactions} partition {cut.partition} begins at offset {cut.input.begin}: "
                    "retention (WALLET_RETENTION_TRANSACTIONS_DAYS) deleted the records before it, so only an audit "
                    "with --since a point that far can go on"
                )
            if self.limits.get(cut.partition, begin) < begin:
                raise Refused(
                    f"the verified point is at offset {begin} of partition {cut.partition}, beyond the end that was "
                    f"named, {self.limits[cut.partition]}: name a later end, or leave --since out"
                )
        return [
            earlier(cut, self.limits[cut.partition]) if cut.partition in self.limits else cut for cut in found
        ]

    def _fold(self, shared: Audit, found: list[Cut]) -> dict[str, dict[str, int]]:
        """Fold every partition; returns where the next audit begins in the derived topics."""
        starts: dict[str, dict[str, int]] = {}
        saved = self.point.sources if self.point else {}
        total = sum(cut.source - saved.get(str(cut.partition), cut.input.begin) for cut in found)
        began_s, began_cpu_s, done = time.monotonic(), time.process_time(), 0
        with progress("verifying", total) as advance:
            for cut in found:
                begins = self.point.starts[str(cut.partition)] if self.point else cut.begins
                one = PartitionAudit(shared, cut, begins)
                self.report.covered.append(one.run(behind(advance, done)))
                starts[str(cut.partition)] = one.next_offsets
                done += cut.source - one.covered.from_offset
            advance(total)
        self.report.folding_s = time.monotonic() - began_s
        self.report.folding_cpu_s = time.process_time() - began_cpu_s
        for cut in found:
            if cut.committed is None and cut.source > cut.input.begin:
                self.report.notes.append(
                    f"partition {cut.partition}: the group has no offset (Kafka forgets an idle group's after a week); "
                    f"compared up to the newest outcome"
                )
        return starts

    def _tell_groups(self, groups: GroupSums) -> None:
        if len(self.partitions) < self.pipeline.partitions:
            self.report.notes.append("groups are not summed up: their legs may lie in any partition")
            return
        for group_id, currency, total in groups.unbalanced():
            self.report.findings.add(
                Finding("unbalanced group", group_id, f"its legs sum to {total} {currency} (minor units)")
            )

    def _point(self) -> Point | None:
        if self.options.since is None:
            return None
        point = verify_point.load(self.options.since, self.work)
        verify_point.check(point, self.settings.prefix, self.cluster, self.topic_id)
        if missing := [at for at in self.partitions if str(at) not in point.sources]:
            raise Refused(
                f"the verified point does not have partition {missing[0]}: verify it from the start"
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


def _known(shared: Audit, wallets: set[str]) -> set[str]:
    """Those of these wallets that have entries by the fold."""
    known: set[str] = set()
    by_partition: dict[int, set[bytes]] = {}
    for wallet_id in wallets:
        wallet = wallet_id.encode()
        by_partition.setdefault(partition_of(wallet, shared.pipeline.partitions), set()).add(wallet)
    for partition, asked in by_partition.items():
        if not (shared.folder / str(partition)).exists():
            continue
        store = shared.store(partition)
        try:
            known |= {wallet.decode() for wallet in store.balances(asked)}
        finally:
            store.close()
    return known


@contextmanager
def _few_collections() -> Iterator[None]:
    """Look for cyclic garbage far less often: a batch makes tuples by the 10,000, and no cycles."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)
    try:
        yield
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
