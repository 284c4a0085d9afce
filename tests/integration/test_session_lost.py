"""A session that PostgreSQL ends in the middle: for a command one line, for a sink a reason to wait."""

import threading
from contextlib import closing
from pathlib import Path

import pytest

from config.errors import NotReachable
from config.settings import Settings
from sinks import postgres, writer
from sinks.ledger import LedgerSink
from sinks.observer import Observer
from sinks.postgres import Connection
from sinks.postgres.migrations import check, migrate
from sinks.writer import Writer
from tests.integration.workers import Worker, wait_until

pytestmark = pytest.mark.integration

END_WAITING = """
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


def test_a_command_whose_session_is_ended_says_so_in_one_line(settings: Settings, tmp_path: Path) -> None:
    migrate(settings)
    with postgres.connect(settings) as blocking, postgres.connect(settings) as ending, blocking.transaction():
        blocking.execute("LOCK TABLE wallets")
        command = Worker(settings, tmp_path / "balance.log", "balance", "wallet-1")
        wait_until(lambda: ending.execute(END_WAITING).fetchone() == (1,), "it waits", command.check_runs)
        command.failed(NotReachable)
    assert command.text() == (
        "wallet: PostgreSQL broke off: terminating connection due to administrator command; "
        "the transaction is rolled back, run the command again\n"
    )


def test_a_sink_whose_session_is_ended_while_it_starts_looks_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(settings)
    looks = []

    def ended_at_first(connection: Connection) -> None:
        looks.append(connection)
        if len(looks) == 1:
            with postgres.connect(settings) as other:
                other.execute("SELECT pg_terminate_backend(%s)", [connection.info.backend_pid])
        check(connection)

    monkeypatch.setattr(writer, "check", ended_at_first)
    with closing(Writer(settings, LedgerSink("test.ledger"), "me", threading.Event(), Observer())):
        assert len(looks) == 2
