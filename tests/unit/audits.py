"""The audit over topics that are lists: what a fold wrote, and what somebody made of it."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from audit.contract import Contract
from audit.partition import PartitionAudit, Span, Stretch
from audit.report import Covered, Differences, Findings
from config.pipeline import Pipeline
from schemas.versions import FIXED_IDS
from streams.batch import Derived
from tests.unit.agreement import TOPIC, Written, folded
from tests.unit.strategies import PARTITION
from topics.names import Topics
from topics.source import Source

PREFIX = TOPIC.removesuffix(".transactions")
TOPICS = Topics(*(f"{PREFIX}.{name}" for name in Topics.__dataclass_fields__))


class InMemory:
    """Reads a list as it reads a topic."""

    def __init__(self, records: Sequence[Source]) -> None:
        self._records = records
        self._left: list[Source] = []

    def start(self, _: int, begin: int, end: int) -> None:
        """Begin at an offset."""
        self._left = [record for record in self._records if begin <= record.offset < end]

    def next(self, count: int) -> list[Source]:
        """The next records."""
        taken, self._left = self._left[:count], self._left[count:]
        return taken


@dataclass
class Pipe:
    """One partition of a pipeline, topic by topic."""

    pipeline: Pipeline
    topics: dict[str, list[Source]]

    @property
    def ledger(self) -> list[Source]:
        """The entries."""
        return self.topics[TOPICS.ledger]

    def audit(
        self,
        shown: int = 100,
        stretch: int | None = None,
        *,
        late: Mapping[str, int] | None = None,
        watch: Callable[[Stretch], None] = lambda _: None,
    ) -> tuple[Differences, Findings, Covered]:
        """Audit it as it is now; offsets of the derived topics are made anew.

        Topics that start `late` have lost so many of their first records to a finite retention.
        """
        for name, records in self.topics.items():
            if name != TOPICS.transactions:
                records[:] = [record._replace(offset=at) for at, record in enumerate(records)]
        ends = {name: len(records) for name, records in self.topics.items()}
        source = self.topics[TOPICS.transactions]
        end = source[-1].offset + 1 if source else 0
        span = Span(PARTITION, 0, end, end, dict.fromkeys(ends, 0) | dict(late or {}), ends)
        differences, findings = Differences(shown), Findings(shown)
        with tempfile.TemporaryDirectory() as folder:
            audit = PartitionAudit(
                Contract.of(TOPIC, self.pipeline, FIXED_IDS),
                TOPICS,
                span,
                lambda topic: InMemory(self.topics[topic]),
                Path(folder),
                differences,
                findings,
                late=[*(late or ())],
                watch=watch,
            )
            if stretch:
                audit.stretch_records = stretch
            covered = audit.run(lambda _: None, lambda: ())
        return differences, findings, covered

    def told(self) -> list[tuple[str, str, str, int | None]]:
        """The differences: check, topic, what, source offset."""
        return [
            (one.check, one.where.removeprefix(f"{PREFIX}."), one.what, one.source_offset)
            for one in self.audit(shown=10_000)[0].shown
        ]


def piped(pipeline: Pipeline, records: Sequence[Source], batch: int = 7) -> Pipe:
    """What a worker makes of an input, in batches of so many records."""
    batches = [records[at : at + batch] for at in range(0, len(records), batch)]
    return pipe_of(pipeline, records, folded(pipeline, batches))


def pipe_of(pipeline: Pipeline, records: Sequence[Source], written: Written) -> Pipe:
    """The topics of a partition whose worker wrote this."""
    return Pipe(
        pipeline,
        {
            TOPICS.transactions: [*records],
            TOPICS.ledger: _records(written.entries),
            TOPICS.rejections: _records(written.rejections),
            TOPICS.snapshots: _records(written.snapshots),
            TOPICS.balances: _records(written.changelog),
        },
    )


def _records(derived: Sequence[Derived]) -> list[Source]:
    return [
        Source(
            at,
            one.timestamp_ms,
            one.key,
            one.value,
            [
                # As librdkafka writes them.
                (name.partition("\0")[0], value.encode() if isinstance(value, str) else value)
                for name, value in one.headers or ()
            ],
        )
        for at, one in enumerate(derived)
    ]
