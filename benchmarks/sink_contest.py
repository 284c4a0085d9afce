"""The ledger sink against Kafka Connect with Debezium's JDBC sink, over the entries of one worker."""

from functools import partial

from benchmarks import sink, worker
from benchmarks.contest import Contest
from benchmarks.measurement import Measurement, watch
from benchmarks.place import Place
from benchmarks.rivals import connect
from benchmarks.rivals.rival import Ready
from benchmarks.table_check import Held, held, table_differences
from benchmarks.worker_contest import committed
from config.settings import Settings
from sinks.postgres import databases, migrations
from topics.names import Topics


def filled(place: Place, events: int, wallets: int) -> Settings:
    """A pipeline whose worker has done its work."""
    settings = worker.filled(place, "sinks", events, wallets)
    worker.measure(place, settings, "worker", events)
    return settings


class SinkContest(Contest[Held]):
    """Both read the same ledger topic into empty tables."""

    def __init__(self, place: Place, pipeline: Settings, rows: int) -> None:
        super().__init__(place, "ledger sink", connect.NAME, "at least once, upserts")
        self._pipeline, self._rows = pipeline, rows

    def prepare(self) -> Ready:
        """Have it fetched."""
        return self.place.prepared(connect.prepare)

    def ours(self, number: int) -> tuple[Measurement, Held]:
        """One `wallet sink ledger` into a database of its own."""
        settings = self._database(f"ledger_sink_{number}")
        migrations.migrate(settings)
        measured = sink.measure(self.place, settings, "ledger", "ledger sink", self._rows)
        return measured, held(settings, "transactions")

    def theirs(self, number: int, ready: Ready) -> tuple[Measurement, Held]:
        """One Connect process with two tasks, likewise."""
        settings = self._database(f"connect_{number}")
        connect.create_table(settings)
        topic, prefix = Topics.of(settings).ledger, f"connect-{number}"
        total = sink.records_of(settings, topic)
        done = partial(committed, settings, topic, connect.group(prefix))
        with self.place.children(settings) as children:
            child = connect.start(children, ready, settings, topic, prefix, self.place.folder / prefix)
            beside = self.place.server_pids()
            measured = watch(
                connect.NAME,
                child.pid,
                done,
                total,
                children.raise_if_ended,
                events=self._rows,
                beside=beside,
            )
        return measured, held(settings, connect.TABLE)

    def differences(self, ours: Held, theirs: Held) -> list[str]:
        """Row by row, by digest."""
        return table_differences(ours, theirs)

    def _database(self, name: str) -> Settings:
        own = databases.create(self.place.settings, name)
        return self._pipeline.model_copy(update={"postgres": own.postgres})
