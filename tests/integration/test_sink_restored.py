"""A Postgres that is restored from a backup while the sinks run: they go on from the restored positions."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from operator import itemgetter
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from config.settings import Settings
from operations.setup.init import initialise
from sinks import postgres
from sinks.postgres import questions
from tests.ledgers import DAY_MS, Ledger, drain, publish_entries, running, wait_until

pytestmark = pytest.mark.integration


class Backup:
    """A copy of a database in the same server, and how it takes the database's place."""

    def __init__(self, settings: Settings, operator: psycopg.Connection[tuple[object, ...]]) -> None:
        self._operator = operator
        self._name = urlsplit(settings.postgres.get_secret_value()).path.removeprefix("/")

    def take(self) -> None:
        """Copy the database; nobody may be connected to it."""
        self._end_sessions()
        self._execute("CREATE DATABASE {copy} TEMPLATE {database}")

    def put_back(self) -> None:
        """End everybody's sessions and put the copy in the database's place."""
        self._execute("ALTER DATABASE {database} ALLOW_CONNECTIONS false")
        self._end_sessions()
        self._execute("ALTER DATABASE {database} RENAME TO {gone}")
        self._execute("ALTER DATABASE {copy} RENAME TO {database}")

    def clean_up(self) -> None:
        """Remove what is not the database itself."""
        self._execute("DROP DATABASE IF EXISTS {copy} WITH (FORCE)")
        self._execute("DROP DATABASE IF EXISTS {gone} WITH (FORCE)")

    def _end_sessions(self) -> None:
        self._operator.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", [self._name]
        )

    def _execute(self, statement: str) -> None:
        names = {"database": self._name, "copy": f"{self._name}_copy", "gone": f"{self._name}_gone"}
        identifiers = {key: sql.Identifier(name) for key, name in names.items()}
        self._operator.execute(sql.SQL(statement).format(**identifiers))


@pytest.fixture
def pipeline(settings: Settings) -> Settings:
    initialise(settings)
    return settings.model_copy(update={"sink_batch_rows": 40, "retry_wait_s": 0.5})


@pytest.fixture
def backup(pipeline: Settings) -> Iterator[Backup]:
    server = urlsplit(pipeline.postgres.get_secret_value())._replace(path="/postgres").geturl()
    with psycopg.connect(server, autocommit=True) as operator:
        backup = Backup(pipeline, operator)
        yield backup
        backup.clean_up()


def ledgers_of(pipeline: Settings) -> list[Ledger]:
    """Ledgers whose first entries are published and in the tables."""
    ledgers = [Ledger(partition).post_many(100) for partition in range(4)]
    publish_entries(pipeline, *ledgers)
    drain(pipeline, "ledger")
    return ledgers


def assert_exact(pipeline: Settings, ledgers: list[Ledger]) -> None:
    with postgres.connect(pipeline) as connection:
        rows = connection.execute("SELECT * FROM transactions").fetchall()
    wanted = [written.row for ledger in ledgers for written in ledger.written]
    assert sorted(rows, key=itemgetter(0, 1)) == sorted(wanted, key=itemgetter(0, 1))


def owners(pipeline: Settings) -> set[str]:
    return {at.owner for at in questions.positions(pipeline)}


def test_idle_sinks_go_on_from_the_positions_of_a_restored_backup(pipeline: Settings, backup: Backup) -> None:
    ledgers = ledgers_of(pipeline)
    backup.take()
    with running(pipeline, "ledger") as first, running(pipeline, "ledger") as second:
        # Also another month, whose table the backup does not have.
        publish_entries(pipeline, *(each.post_many(100, step_ms=DAY_MS) for each in ledgers), start=100)
        wait_until(lambda: len(owners(pipeline)) == 2, "both own partitions")
        first.wait_until_caught_up()
        backup.put_back()
        first.wait_until_caught_up()
        assert_exact(pipeline, ledgers)
        publish_entries(pipeline, *(each.post_many(50) for each in ledgers), start=200)
        second.wait_until_caught_up()
    assert (first.failure, second.failure) == (None, None)
    assert_exact(pipeline, ledgers)


@contextmanager
def written_without_end(pipeline: Settings, ledgers: list[Ledger]) -> Iterator[None]:
    """Entries that come all the while."""
    enough = threading.Event()

    def write() -> None:
        while not enough.wait(0.01):
            start = len(ledgers[0].written)
            publish_entries(pipeline, *(each.post_many(20) for each in ledgers), start=start)

    writing = threading.Thread(target=write)
    writing.start()
    try:
        yield
    finally:
        enough.set()
        writing.join()


def test_busy_sinks_go_on_from_the_positions_of_a_restored_backup(pipeline: Settings, backup: Backup) -> None:
    ledgers = ledgers_of(pipeline)
    backup.take()
    with running(pipeline, "ledger") as first, running(pipeline, "ledger") as second:
        with written_without_end(pipeline, ledgers):
            wait_until(lambda: questions.counts(pipeline)["transactions"] > 1_000, "some rows are in")
            backup.put_back()
            wait_until(
                lambda: questions.counts(pipeline)["transactions"] > 2_000, "they are in again, and more"
            )
        first.wait_until_caught_up()
        second.wait_until_caught_up()
    assert (first.failure, second.failure) == (None, None)
    assert_exact(pipeline, ledgers)


@pytest.mark.full
def test_a_backup_in_which_nothing_but_the_owners_is_older_is_noticed(
    pipeline: Settings, backup: Backup
) -> None:
    ledgers = ledgers_of(pipeline)
    backup.take()
    former = owners(pipeline)
    with running(pipeline, "ledger") as sinks:
        wait_until(lambda: not former & owners(pipeline), "the positions are owned")
        backup.put_back()
        wait_until(lambda: not former & owners(pipeline), "the positions are owned again")
        publish_entries(pipeline, *(each.post_many(10) for each in ledgers), start=100)
        sinks.wait_until_caught_up()
    assert sinks.failure is None
    assert_exact(pipeline, ledgers)
