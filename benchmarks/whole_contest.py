"""From the input topic to committed rows: worker and ledger sink against Kafka Streams and Kafka Connect."""

import contextlib
from collections.abc import Iterator

from benchmarks import end_to_end
from benchmarks.contest import Contest
from benchmarks.measurement import Measurement
from benchmarks.place import Place
from benchmarks.rivals import connect, kafka_streams
from benchmarks.rivals.rival import Ready
from benchmarks.table_check import Held, held, table_differences
from benchmarks.worker_contest import arguments, committed, output_topics
from config.errors import Stopped
from config.settings import Settings
from operations.cli.children import Children
from operations.setup.init import create
from sinks import postgres
from sinks.postgres import databases
from topics.cluster import quiet_admin
from topics.names import LOG_APPEND_TIME, Topics, TopicSpec

RIVAL = "Kafka Streams and Connect"
#: Records before anything is measured: Java's compiler wants more than a thousand.
WARM = 30_000


class WholeContest(Contest[Held]):
    """The same transactions are sent to both; their times, and so their hashes, are not the same."""

    def __init__(self, place: Place, events: int, wallets: int) -> None:
        super().__init__(place, "end to end", RIVAL, "exactly once, then upserts")
        self._events, self._wallets = events, wallets
        self._sink: Ready | None = None

    def prepare(self) -> Ready:
        """Have both fetched."""
        self._sink, engine = map(self.place.prepared, (connect.prepare, kafka_streams.prepare))
        return Ready(engine.command, engine.versions | self._sink.versions)

    def ours(self, number: int) -> tuple[Measurement, Held]:
        """Worker and ledger sink."""
        with end_to_end.running(self.place, f"whole-{number}", WARM, self._wallets) as pipeline:
            measured, _ = end_to_end.measure(pipeline, self._events, self._wallets, "worker and sink")
            return measured, held(pipeline.settings, "transactions", content=False)

    def theirs(self, number: int, ready: Ready) -> tuple[Measurement, Held]:
        """Kafka Streams and Kafka Connect."""
        if self._sink is None:
            raise Stopped("Kafka Connect was not prepared")
        prefix = f"streams-connect-{number}"
        with _running(self.place, ready, self._sink, prefix, self._wallets) as pipeline:
            measured, _ = end_to_end.measure(pipeline, self._events, self._wallets, RIVAL)
            return measured, held(pipeline.settings, connect.TABLE, content=False)

    def differences(self, ours: Held, theirs: Held) -> list[str]:
        """Rows, balances and chains."""
        return table_differences(ours, theirs)


@contextlib.contextmanager
def _running(
    place: Place, engine: Ready, sink: Ready, prefix: str, wallets: int
) -> Iterator[end_to_end.Running]:
    """The two rivals that make a pipeline together."""
    own = databases.create(place.settings, prefix.replace("-", "_"))
    settings = own.model_copy(update={"prefix": prefix})
    topics, folder = Topics.of(settings), place.folder / prefix
    folder.mkdir()
    connect.create_table(settings)
    create(quiet_admin(settings), [TopicSpec(topics.transactions, settings.partitions, LOG_APPEND_TIME)], 1)
    ledger, _ = output_topics(settings)
    with place.children(settings) as children:
        called = arguments(settings, topics.transactions, folder)
        started = {
            "Streams": children.start_command("streams", *engine.command, *called),
            "Connect": connect.start(children, sink, settings, ledger, prefix, folder / "connect"),
        }
        pipeline = end_to_end.Running(
            place,
            settings,
            children,
            started,
            lambda wanted: _rows_are_there(settings, children, wanted),
            WARM,
            wallets,
        )
        pipeline.open()
        yield pipeline


def _rows_are_there(settings: Settings, children: Children, wanted: int) -> None:
    """Wait for the engine by its offsets and then for the rows by their number: counting costs the database."""
    topic = Topics.of(settings).transactions

    def done() -> int:
        read = min(wanted, committed(settings, topic, settings.prefix))
        return read + (_count(settings) if read == wanted else 0)

    told = f"{RIVAL}, of {wanted} records to read and as many rows to write,"
    end_to_end.until_through(children, done, lambda now: now >= 2 * wanted, told)


def _count(settings: Settings) -> int:
    with postgres.connect(settings) as connection:
        row = connection.execute("SELECT count(*) FROM rival_transactions").fetchone()
    return int(row[0]) if row else 0
