"""The worker against another engine, over one input that both read."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import outcome, worker
from benchmarks.contest import Contest
from benchmarks.filling import fill, transactions, with_duplicates
from benchmarks.measurement import Measurement, watch
from benchmarks.outcome import Outcome
from benchmarks.place import Place
from benchmarks.rivals.rival import Ready, Rival
from config.settings import Settings
from operations.sending.generator import ProducerRecord
from operations.setup.init import create
from topics import group_offsets
from topics.cluster import quiet_admin
from topics.names import COMPACTED, LOG_APPEND_TIME, Topics, TopicSpec

#: One record in so many comes a second time.
DUPLICATE_ONE_IN = 100
#: A rival that is slower than expected is stopped after so long.
LONGEST_S = 40.0


@dataclass(frozen=True)
class Input:
    """A topic that is full, and how many records it holds."""

    topic: str
    records: int


def filled(place: Place, events: int, wallets: int) -> Input:
    """A topic with `events` transactions and their duplicates, for the worker and every rival."""
    sent = with_duplicates(transactions(events, wallets, place.settings.partitions), DUPLICATE_ONE_IN)
    return topic_of(place, "contest.transactions", [*sent])


def topic_of(place: Place, topic: str, records: Sequence[ProducerRecord]) -> Input:
    """A topic that holds these records."""
    settings = place.settings.model_copy(update={"input": topic})
    create(quiet_admin(settings), [TopicSpec(topic, settings.partitions, LOG_APPEND_TIME)], 1)
    fill(settings, records, len(records))
    return Input(topic, len(records))


class WorkerContest(Contest[Outcome]):
    """The worker and one engine; a slow engine is stopped when it has done its share."""

    def __init__(self, place: Place, source: Input, rival: Rival) -> None:
        super().__init__(place, "worker", rival.name, rival.guarantee)
        self._source, self._rival = source, rival

    def prepare(self) -> Ready:
        """Have it fetched."""
        return self.place.prepared(self._rival.prepare)

    def ours(self, number: int) -> tuple[Measurement, Outcome]:
        """A new pipeline over the input."""
        settings = self.place.pipeline(f"beside-{self._prefix(number)}", input=self._source.topic)
        measured = worker.measure(self.place, settings, "worker", self._source.records)
        topics = Topics.of(settings)
        return measured, outcome.read(settings, topics.ledger, topics.rejections, topics.balances)

    def theirs(self, number: int, ready: Ready) -> tuple[Measurement, Outcome]:
        """The rival with outputs, group and folder of its own."""
        prefix = self._prefix(number)
        settings = self.place.settings.model_copy(update={"prefix": prefix})
        ledger, rejections = output_topics(settings)
        made = [
            TopicSpec(name.format(prefix=prefix), settings.partitions, COMPACTED)
            for name in self._rival.makes
        ]
        create(quiet_admin(settings), made, 1)
        folder = self.place.folder / prefix
        folder.mkdir()
        measured = self._watched(ready, settings, folder)
        kept = self._rival.balances.format(prefix=prefix, input=self._source.topic)
        return measured, outcome.read(settings, ledger, rejections, kept)

    def differences(self, ours: Outcome, theirs: Outcome) -> list[str]:
        """Record by record, as far as the rival came."""
        return outcome.differences(ours, theirs)

    def _prefix(self, number: int) -> str:
        return f"{self._rival.name.lower().replace(' ', '-')}-{number}"

    def _watched(self, ready: Ready, settings: Settings, folder: Path) -> Measurement:
        source = self._source.topic
        done = partial(committed, settings, source, settings.prefix)
        with self.place.children(settings) as children:
            child = children.start_command("rival", *ready.command, *arguments(settings, source, folder))
            wanted = min(self._source.records, self._rival.events)
            beside = self.place.server_pids()
            return watch(
                self._rival.name,
                child.pid,
                done,
                wanted,
                children.raise_if_ended,
                beside=beside,
                longest_s=LONGEST_S,
            )


def output_topics(settings: Settings) -> tuple[str, str]:
    """Make what a rival of this prefix writes to: its ledger and its rejections."""
    names = f"{settings.prefix}.ledger", f"{settings.prefix}.rejections"
    create(quiet_admin(settings), [TopicSpec(name, settings.partitions) for name in names], 1)
    return names


def arguments(settings: Settings, source: str, folder: Path) -> tuple[str, ...]:
    """What every rival's program is called with."""
    return settings.kafka, source, settings.prefix, str(settings.partitions), str(folder)


def committed(settings: Settings, topic: str, group: str) -> int:
    """How far a group is in a topic, all partitions together."""
    found = group_offsets.committed(settings, topic, range(settings.partitions), group, wait=False)
    return sum(max(0, at.offset) for at in found.values())
