"""The worker and a rival in turn, over one input that both read, each result held against the other."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import outcome, worker
from benchmarks.filling import fill, transactions, with_duplicates
from benchmarks.measurement import Measurement, watch
from benchmarks.place import Place, log
from benchmarks.rivals.rival import Ready, Rival
from config.errors import WalletError
from config.settings import Settings
from operations.setup.init import create
from topics import group_offsets
from topics.cluster import quiet_admin
from topics.names import LOG_APPEND_TIME, Topics, TopicSpec

#: One record in so many comes a second time.
DUPLICATE_ONE_IN = 100


@dataclass
class Comparison:
    """What rounds in turn found: pairs of ours and theirs. `lacking` says why a rival was not measured."""

    what: str
    rival: str
    guarantee: str
    rounds: list[tuple[Measurement, Measurement]] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)
    lacking: str = ""


@dataclass(frozen=True)
class Input:
    """A topic that is full, and how many records it holds."""

    topic: str
    records: int


def filled(place: Place, events: int, wallets: int) -> Input:
    """A topic with `events` transactions and their duplicates, for the worker and every rival."""
    topic = "contest.transactions"
    settings = place.settings.model_copy(update={"input": topic})
    create(quiet_admin(settings), [TopicSpec(topic, settings.partitions, LOG_APPEND_TIME)], 1)
    sent = [*with_duplicates(transactions(events, wallets, settings.partitions), DUPLICATE_ONE_IN)]
    fill(settings, sent, len(sent))
    return Input(topic, len(sent))


def run(place: Place, source: Input, rivals: list[Rival], rounds: int) -> Iterator[Comparison]:
    """Ours, a rival, ours, the next rival, and so on, as many rounds; a rival that is not to be had is left out."""
    contests = [_Contest(place, source, rival) for rival in rivals]
    for number in range(1, rounds + 1):
        for contest in contests:
            contest.round(number)
    return (contest.comparison for contest in contests)


class _Contest:
    """The worker against one rival."""

    def __init__(self, place: Place, source: Input, rival: Rival) -> None:
        self._place, self._source, self._rival = place, source, rival
        self.comparison = Comparison("worker", rival.name, rival.guarantee)
        self._ready: Ready | None = self._prepared()

    def round(self, number: int) -> None:
        """Ours, then theirs, then the check."""
        if self._ready is None:
            return
        prefix = f"{self._rival.name.lower().replace(' ', '-')}-{number}"
        ours, our_outcome = self._ours(f"beside-{prefix}")
        try:
            theirs, their_outcome = self._theirs(self._ready, prefix)
        except WalletError as failure:
            self._leave_out(failure)
            return
        found = outcome.differences(our_outcome, their_outcome)
        if found:
            self.comparison.differences += found
            log.error("different", rival=self._rival.name, what="; ".join(found))
            return
        self.comparison.rounds.append((ours, theirs))
        log.info(
            "round",
            rival=self._rival.name,
            compared=len(their_outcome.entries) + len(their_outcome.rejected),
            ours=f"{ours.warm_rate:.0f}/s {ours.warm_cpu_us:.1f} us",
            theirs=f"{theirs.warm_rate:.0f}/s {theirs.warm_cpu_us:.1f} us",
        )

    def _prepared(self) -> Ready | None:
        cache = self._place.settings.local_cache.expanduser()
        try:
            ready = self._rival.prepare(cache, lambda line: log.info("preparing", step=line))
        except WalletError as lack:
            self._leave_out(lack)
            return None
        self.comparison.versions = ready.versions
        return ready

    def _leave_out(self, why: WalletError) -> None:
        """Say why it is not measured, in one line, and do without it from now on."""
        self._ready, self.comparison.lacking = None, str(why).splitlines()[0]
        log.warning("left_out", rival=self._rival.name, why=str(why))

    def _ours(self, prefix: str) -> tuple[Measurement, outcome.Outcome]:
        settings = self._place.pipeline(prefix, input=self._source.topic)
        measured = worker.measure(self._place, settings, "worker", self._source.records)
        topics = Topics.of(settings)
        return measured, outcome.read(settings, topics.ledger, topics.rejections, topics.balances)

    def _theirs(self, ready: Ready, prefix: str) -> tuple[Measurement, outcome.Outcome]:
        settings = self._place.settings.model_copy(update={"prefix": prefix})
        ledger, rejections = f"{prefix}.ledger", f"{prefix}.rejections"
        create(quiet_admin(settings), [TopicSpec(name, settings.partitions) for name in (ledger, rejections)], 1)
        folder = self._place.folder / prefix
        folder.mkdir()
        measured = self._watched(ready, settings, prefix, folder)
        kept = self._rival.balances.format(prefix=prefix, input=self._source.topic)
        return measured, outcome.read(settings, ledger, rejections, kept)

    def _watched(self, ready: Ready, settings: Settings, prefix: str, folder: Path) -> Measurement:
        source = self._source.topic

        def done() -> int:
            found = group_offsets.committed(settings, source, range(settings.partitions), prefix, wait=False)
            return sum(max(0, at.offset) for at in found.values())

        arguments = (settings.kafka, source, prefix, str(settings.partitions), str(folder))
        with self._place.children(settings) as children:
            child = children.start_command("rival", *ready.command, *arguments)
            wanted = min(self._source.records, self._rival.events)
            return watch(
                self._rival.name, child.pid, done, wanted, children.check, beside=self._place.server_pids()
            )
