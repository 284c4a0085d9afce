"""Judge the partitions of an audit, in one or several processes, and combine the results."""

import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from shutil import rmtree
from typing import Any

from audit.contract import Contract
from audit.expected import ExpectedRows
from audit.groups import GroupSums
from audit.partition import STRETCH_RECORDS, PartitionAudit, Span, Stretch
from audit.report import Covered, Differences, Findings
from audit.samples import Samples
from audit.seals import MonthSpans
from config.pipeline import Pipeline
from config.settings import Settings
from operations.cli.output import Advance, behind
from schemas.accepted import AcceptedIds
from schemas.versions import SchemaIds
from topics.cluster import offsets_in, quiet_admin
from topics.incoming import Incoming
from topics.names import GROWTH_BYTES, Topics
from topics.source import Source
from vitals.collecting import few_collections

#: Seconds between updates of the bar from the processes.
LOOK_S = 0.5
GROUPS = "groups"


@contextmanager
def readers(settings: Settings, max_record_bytes: int) -> Iterator[Callable[[str], Incoming]]:
    """Readers of topics, by name, opened on first use."""
    input_topic = Topics.of(settings).transactions
    with ExitStack() as stack:

        @cache
        def reader(topic: str) -> Incoming:
            # Derived records are larger: they add an entry's numbers or a rejection's headers.
            most_bytes = max_record_bytes if topic == input_topic else 2 * max_record_bytes + GROWTH_BYTES
            return stack.enter_context(closing(Incoming(settings, topic, most_bytes)))

        yield reader


@dataclass(frozen=True)
class Task:
    """What the processes of one audit share."""

    settings: Settings
    pipeline: Pipeline
    ids: SchemaIds
    accepted: Mapping[int, AcceptedIds]
    late: frozenset[str]
    suspected: frozenset[str]
    work: Path
    shown: int
    #: Expected rows before this audit adds any.
    expected: Callable[[], ExpectedRows]


@dataclass
class Judgement:
    """The result of some partitions: where the next audit begins, and which suspected wallets have entries."""

    expected: ExpectedRows
    differences: Differences
    findings: Findings
    samples: Samples = field(default_factory=Samples)
    covered: list[Covered] = field(default_factory=list)
    places: MonthSpans = field(default_factory=MonthSpans)
    starts: dict[str, dict[str, int]] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)
    cpu_s: float = 0.0

    def take(self, other: "Judgement") -> None:
        """Add the result of other partitions."""
        self.expected.take(other.expected)
        self.differences.take(other.differences)
        self.findings.take(other.findings)
        self.samples.histories |= other.samples.histories
        self.covered = sorted([*self.covered, *other.covered], key=lambda one: one.partition)
        self.places.take(other.places)
        self.starts |= other.starts
        self.known |= other.known
        self.cpu_s += other.cpu_s


def contract_of(
    input_topic: str, pipeline: Pipeline, ids: Sequence[int], accepted: Mapping[int, AcceptedIds]
) -> Contract:
    """A pipeline's contract; the accepted schema ids are in the log, by partition."""

    def writer(partition: int, schema_id: int, offset: int) -> str | None:
        found = accepted[partition](schema_id, offset) if partition in accepted else None
        return None if found is None else found.text

    return Contract.of(input_topic, pipeline, ids, writer)


def judge_all(task: Task, spans: Sequence[Span], jobs: int, groups: GroupSums, advance: Advance) -> Judgement:
    """Judge these partitions in `jobs` processes; `advance` gets the number of input records so far."""
    if jobs == 1 or len(spans) < 2:
        return _judge(task, spans, groups, advance)
    context = multiprocessing.get_context("spawn")
    counts: Any = context.Array("q", jobs)
    together = Judgement(task.expected(), Differences(task.shown), Findings(task.shown))
    shares = [share for at in range(jobs) if (share := spans[at::jobs])]
    with ProcessPoolExecutor(len(shares), context, _begin, (counts,)) as pool:
        running = [pool.submit(_judge_apart, task, share, at) for at, share in enumerate(shares)]
        _watch(running, lambda: advance(sum(counts)))
        for at, one in enumerate(running):
            together.take(one.result())
            apart = task.work / f"{GROUPS}-{at}"
            groups.take(apart)
            # Not for a verified point: the next audit would add it again.
            rmtree(apart)
    return together


_counts: Any = ()


def _begin(counts: Any) -> None:
    global _counts  # noqa: PLW0603 - the one way to hand shared memory to a pool's processes
    _counts = counts


def _judge_apart(task: Task, spans: Sequence[Span], number: int) -> Judgement:
    with closing(GroupSums(task.work / f"{GROUPS}-{number}")) as groups:
        return _judge(task, spans, groups, partial(_count, number))


def _count(number: int, done: int) -> None:
    _counts[number] = done


def _watch(running: Sequence["Future[Judgement]"], look: Callable[[], None]) -> None:
    left: set[Future[Judgement]] = {*running}
    while left:
        done, left = wait(left, LOOK_S, FIRST_EXCEPTION)
        look()
        for one in done:
            one.result()


def _judge(task: Task, spans: Sequence[Span], groups: GroupSums, advance: Advance) -> Judgement:
    found = Judgement(task.expected(), Differences(task.shown), Findings(task.shown))
    topics, client, began_s = Topics.of(task.settings), quiet_admin(task.settings), time.process_time()

    def watch(stretch: Stretch) -> None:
        found.expected.add(stretch)
        judged = stretch.judged
        found.places.add(stretch.partition, judged.certified.recorded_ms, judged.offsets)
        found.samples.add(judged, stretch.wallets, stretch.partition)
        groups.add(judged)

    def newer(span: Span) -> Iterator[Source]:
        """Balances written after the span's end meanwhile."""
        topic, at = topics.balances, span.partition
        end = offsets_in(client, [(topic, at)])[topic, at].end
        for records in opened(topic).stretches(at, span.ends[topic], end, STRETCH_RECORDS):
            yield from records

    contract, done = contract_of(topics.transactions, task.pipeline, task.ids, task.accepted), 0
    with readers(task.settings, task.pipeline.max_record_bytes) as opened, few_collections():
        for span in spans:
            audit = PartitionAudit(
                contract,
                topics,
                span,
                opened,
                task.work,
                found.differences,
                found.findings,
                late=task.late,
                watch=watch,
            )
            found.places.begin(span.partition, audit.wallets.newest_ms)
            found.covered.append(audit.run(behind(advance, done), partial(newer, span)))
            audit.save(task.work)
            found.starts[str(span.partition)] = audit.next_offsets
            found.known |= {wallet for wallet in task.suspected if audit.has_entries(wallet)}
            done += span.source - span.begin
    found.cpu_s = time.process_time() - began_s
    return found
