"""Who writes, who makes months and who moves them lock `wallets` before `transactions`: no two wait for each other."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from config.settings import Settings
from sinks import postgres
from sinks.ledger import TRANSACTIONS
from sinks.postgres import Connection
from sinks.postgres.migrations import migrate
from sinks.postgres.one_state import audited
from sinks.rows import entry_row
from sinks.tables import copy, reconcile
from tests.integration.tables import write
from tests.ledgers import PATIENCE_S, Ledger, wait_until

pytestmark = pytest.mark.integration

#: Longer than the server waits before it looks for a deadlock.
LONG_MS = 30_000
NOW = datetime.now(UTC)
LONG_AGO = NOW - timedelta(days=400)


def to_ms(at: datetime) -> int:
    return int(at.timestamp() * 1_000)


@pytest.fixture
def ledger(settings: Settings) -> Ledger:
    """One old entry of a wallet in the tables, in a month that is sealed, and two new ones that are not there yet."""
    migrate(settings)
    ledger = Ledger(0, to_ms(LONG_AGO))
    ledger.post("wallet", 5)
    write(settings, ledger)
    with postgres.connect(settings, postgres.ARCHIVER) as archiver:
        seal = """SELECT seal_month(%s, '[{"partition": 0, "from_offset": 0, "to_offset": 1}]', 1, 5, sha256(''))"""
        archiver.execute(seal, [LONG_AGO.date()])
    for _ in range(2):
        ledger.post("wallet", 5, recorded_ms=to_ms(NOW))
    return ledger


@contextmanager
def waiting(settings: Settings, session: Connection) -> Iterator[Callable[[], bool]]:
    """Whether a session waits for a lock, as another one sees it."""
    with postgres.connect(settings) as other:
        asked = "SELECT EXISTS (SELECT FROM pg_locks WHERE pid = %s AND NOT granted)"
        yield lambda: other.execute(asked, [session.info.backend_pid]).fetchone() == (True,)


@pytest.mark.parametrize("way", [copy, reconcile])
def test_a_batch_that_opens_no_wallet_and_a_move_do_not_wait_for_each_other(
    settings: Settings, ledger: Ledger, way: Callable[..., object]
) -> None:
    rows = [entry_row(written.body).row for written in ledger.written[1:]]
    with (
        postgres.connect(settings) as third,
        postgres.connect(settings, postgres.WRITER) as writer,
        postgres.connect(settings, postgres.ARCHIVER) as archiver,
        waiting(settings, writer) as writer_waits,
        waiting(settings, archiver) as archiver_waits,
        ThreadPoolExecutor(2) as threads,
    ):
        writer.execute("SET lock_timeout = 0")

        def write_batch() -> None:
            with writer.transaction():
                way(writer, TRANSACTIONS, rows)

        with third.transaction():
            # The batch stops in the middle: it has locked what it locks first, and waits for the month.
            third.execute(f"LOCK TABLE ONLY transactions_{NOW:%Y_%m} IN ACCESS EXCLUSIVE MODE".encode())
            batch = threads.submit(write_batch)
            wait_until(writer_waits, "the batch waits for its month")
            move = threads.submit(
                archiver.execute, "SELECT archive_month(%s, %s)", [LONG_AGO.date(), LONG_MS]
            )
            wait_until(archiver_waits, "the move waits for the batch")
        batch.result(PATIENCE_S)
        assert move.result(PATIENCE_S).fetchone() != (None,)
        assert third.execute("SELECT count(*) FROM transactions").fetchone() == (2,)
        assert third.execute("SELECT count(*) FROM transaction_archive").fetchone() == (1,)


def test_an_audit_that_has_read_rows_and_a_move_do_not_wait_for_each_other(
    settings: Settings, ledger: Ledger
) -> None:
    with (
        postgres.connect(settings, postgres.ARCHIVER) as archiver,
        waiting(settings, archiver) as archiver_waits,
        ThreadPoolExecutor(1) as threads,
    ):
        with audited(settings) as reader:
            assert reader.execute("SELECT count(*) FROM transactions").fetchone() == (1,)
            move = threads.submit(
                archiver.execute, "SELECT archive_month(%s, %s)", [LONG_AGO.date(), LONG_MS]
            )
            wait_until(archiver_waits, "the move waits for the audit")
            assert reader.execute("SELECT count(*) FROM wallets").fetchone() == (1,)
        assert move.result(PATIENCE_S).fetchone() != (None,)
