"""Upstream by outbox, as clients/outbox says it: Kafka Connect with Debezium from a table to the input topic."""

import os
import re
import secrets
import signal
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from wallet_client import Transaction

from audit.contract import Reason
from config.settings import Settings
from local.database import Database
from local.jars import Jars, java
from local.state import free_port
from tests.conftest import CACHE, FOLDER
from tests.integration.exactness import assert_exact
from tests.integration.pipelines import Worker, wait_until
from tests.integration.verify_copies import decided, written
from tests.integration.workers import done
from tests.secured import spawned
from topics.cluster import offsets, quiet_admin
from topics.names import Topics

pytestmark = [pytest.mark.integration, pytest.mark.full, pytest.mark.timeout(1800)]

RECIPE = Path(__file__).parents[2] / "clients" / "outbox"
JARS = Jars("Debezium outbox", RECIPE / "pom.xml")
#: A kill comes before anything that was sent is noted, and all of it is sent again.
NEVER_NOTED = "offset.flush.interval.ms=3600000"
#: Connect needs 5 s to start, and ten times that where others share the machine.
PATIENCE_S = 300
#: Bytes of PostgreSQL's log; what the test writes is many times more.
LITTLE = 20_000
WALLETS = (
    "alice",
    "Zo\u00eb",
    "two\nlines",
    "\U0001f4b6",
    " ",
    *(f"wallet {number}" for number in range(20)),
)
BEGAN = datetime(2026, 11, 22, 10, tzinfo=UTC)


class Logical(Database):
    """The local PostgreSQL, whose log can be read."""

    def command(self) -> list[str]:
        """The server's command line."""
        return [*super().command(), "-c", "wal_level=logical"]


@pytest.fixture
def application() -> Iterator[psycopg.Connection]:
    """The application's own database, prepared as the recipe says."""
    # not in tmp_path: PostgreSQL, as `nobody` when we are root, could not reach it
    folder = FOLDER / f"outbox-{secrets.token_hex(4)}"
    database = Logical(folder, free_port(without=[]), secrets.token_hex(8))
    with spawned(database), psycopg.connect(database.address, autocommit=True) as connection:
        for statement in (RECIPE / "outbox.sql").read_text().split(";\n"):
            connection.execute(statement.encode())
        yield connection
    subprocess.run(["rm", "-rf", str(folder)], check=True)


@dataclass
class Connect:
    """Kafka Connect as the recipe starts it, to be killed and started again."""

    command: list[str]
    env: dict[str, str]
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self, more: str = "") -> None:
        """Start it in its folder, with more settings of the worker than the recipe has."""
        own = f"listeners=http://127.0.0.1:{free_port(without=[])}\n{more}\n"
        (self.folder / "worker.properties").write_text((RECIPE / "worker.properties").read_text() + own)
        with (self.folder / "connect.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command, cwd=self.folder, env=self.env, stdout=log, stderr=log
            )

    def end(self, how: signal.Signals) -> None:
        """End it, if it runs."""
        if self.process:
            self.process.send_signal(how)
            self.process.wait(60)

    def check_runs(self) -> None:
        """Fail if it has ended by itself, or says that it cannot."""
        log = (self.folder / "connect.log").read_text(errors="replace")
        assert self.process is not None
        assert self.process.poll() is None, log[-4_000:]
        assert "unrecoverable" not in log, log[-8_000:]


@pytest.fixture
def connect(application: psycopg.Connection, settings: Settings, tmp_path: Path) -> Iterator[Connect]:
    jars = JARS.fetched(CACHE.expanduser(), print, size_mb=40)
    files = ["worker.properties", str(RECIPE / "outbox.properties")]
    entry = "org.apache.kafka.connect.cli.ConnectStandalone"
    there = application.info
    env = {
        "WALLET_KAFKA": settings.kafka,
        "WALLET_INPUT": Topics.of(settings).transactions,
        "PGHOST": there.host,
        "PGPORT": str(there.port),
        "PGDATABASE": there.dbname,
        "PGUSER": "outbox",
        "PGPASSWORD": "any",
    }
    command = [str(java()), "-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", f"{jars}/*", entry, *files]
    connect = Connect(command, dict(os.environ) | env, tmp_path)
    try:
        yield connect
    finally:
        connect.end(signal.SIGKILL)


def recipe() -> Any:
    """`to_outbox` of the recipe's page."""
    [code] = re.findall(r"```python\n(.+?)```", (RECIPE / "README.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 - our own page
    return names["to_outbox"]


class Application:
    """Moves money, and writes each movement to the outbox in the same transaction; knows what it has committed."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection, self._to_outbox, self._number = connection, recipe(), 0
        connection.execute("CREATE TABLE orders (number int)")
        self.committed: dict[str, list[str]] = defaultdict(list)

    @property
    def count(self) -> int:
        """Transactions committed."""
        return sum(map(len, self.committed.values()))

    def work(self, orders: int) -> None:
        """Take so many orders; every tenth is rolled back, every third leaves no row behind."""
        for number in range(self._number, self._number + orders):
            one = Transaction(
                transaction_id=f"00000000-0000-4000-8000-{number:012d}",
                wallet_id=WALLETS[number % len(WALLETS)],
                type="DEBIT" if number % 3 else "CREDIT",
                amount=100 + number,
                currency="EUR",
                occurred_at=BEGAN + timedelta(seconds=number),
                metadata={"order": str(number)} if number % 2 else {},
            )
            with self._connection.transaction(force_rollback=number % 10 == 9):
                self._connection.execute("INSERT INTO orders VALUES (%s)", (number,))
                self._to_outbox(self._connection, one)
                if number % 3 == 0:
                    self._connection.execute("DELETE FROM outbox")
            if number % 10 != 9:
                self.committed[one.wallet_id].append(one.transaction_id)
        self._number += orders


def test_what_is_committed_is_posted_once_and_what_is_rolled_back_never(
    application: psycopg.Connection, connect: Connect, settings: Settings, tmp_path: Path
) -> None:
    topic = Topics.of(settings).transactions

    def sent() -> int:
        ends = offsets(quiet_admin(settings), {topic: settings.partitions})
        return sum(at.end for at in ends.values())

    def kept() -> int:
        [(kept,)] = application.execute(
            "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn) FROM pg_replication_slots"
        ).fetchall()
        return int(kept)

    def until(condition: Callable[[], bool], what: str) -> None:
        wait_until(condition, what, connect.check_runs, patience_s=PATIENCE_S)

    done(settings, tmp_path, "init")
    with (
        Worker(settings, tmp_path / "sink.log", "sink") as sink,
        Worker(settings, tmp_path / "worker.log") as worker,
    ):
        app = Application(application)
        app.work(400)  # before Connect has ever run: the slot has it
        connect.start(NEVER_NOTED)
        until(lambda: sent() == app.count, "what was there before is sent")
        app.work(400)
        until(lambda: sent() > app.count // 2, "more is sent")
        connect.end(signal.SIGKILL)
        app.work(400)
        connect.start(NEVER_NOTED)
        until(lambda: sent() > app.count, "it is sent again")
        connect.end(signal.SIGKILL)
        (tmp_path / "outbox.offsets").unlink(missing_ok=True)
        app.work(400)
        connect.start()
        until(lambda: sent() > app.count and kept() < LITTLE, "everything is sent, and PostgreSQL told so")
        connect.end(signal.SIGTERM)
        wait_until(lambda: decided(settings) == sent(), "all input is decided", worker.check_runs)
        wait_until(lambda: written(settings), "all rows are written", sink.check_runs)
        worker.stop()
        sink.stop()

    exact = assert_exact(settings)
    assert exact.reasons == {Reason.DUPLICATE}
    assert "everything is as the input says" in done(settings, tmp_path, "verify")
    with psycopg.connect(settings.postgres.get_secret_value()) as tables:
        posted: dict[str, list[str]] = defaultdict(list)
        for wallet, transaction in tables.execute(
            "SELECT wallet_id, transaction_id::text FROM transactions ORDER BY wallet_id, sequence"
        ):
            posted[wallet].append(transaction)
    assert posted == app.committed, "each once, and in the order of the commits"
