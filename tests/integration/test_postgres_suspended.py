"""A PostgreSQL that is suspended: connections stay, what is sent is taken, and nobody answers."""

import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from audit import questions, rows
from audit.digests import Digests
from config.errors import NotReachable
from config.settings import Settings
from local.stack import Stack
from operations.setup.init import initialise
from sinks import postgres
from sinks.ledger import LedgerSink
from sinks.metrics import Vitals
from sinks.positions import Origin
from sinks.postgres import Connection
from sinks.postgres.migrations import migrate
from sinks.postgres.one_state import audited
from sinks.postgres.questions import counts
from sinks.writer import Writer
from tests.effort import in_full
from tests.integration.workers import Worker
from tests.ledgers import Ledger, Waits, drain, publish_entries, running, wait_until
from topics.cluster import Offsets

pytestmark = pytest.mark.integration

HERE = Origin("this cluster", "this topic")


@pytest.fixture
def impatient(own_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setitem(postgres.PARAMETERS, "connect_timeout", 1)
    return own_settings.model_copy(update={"postgres_timeout_s": 1.0, "retry_wait_s": 0.5})


def test_a_sink_waits_for_a_postgres_that_is_suspended_and_goes_on_by_itself(
    own_stack: Stack, impatient: Settings
) -> None:
    initialise(impatient)
    small = impatient.model_copy(update={"sink_batch_rows": 40})
    ledgers = [Ledger(partition).post_many(1_000) for partition in range(4)]
    publish_entries(impatient, *ledgers)
    heard = Waits()
    with running(small, "ledger", observer=heard) as sinks:
        wait_until(lambda: counts(impatient)["transactions"] > 400, "some rows are in")
        with own_stack.suspended("postgres"):
            wait_until(lambda: bool(heard.reasons), "the sink says that it waits")
        sinks.wait_until_caught_up()
    assert sinks.failure is None
    assert "the server was silent for 1 s and answers no new connection either" in heard.reasons[0]
    assert counts(impatient)["transactions"] == 4_000


def test_a_sink_is_told_to_stop_while_postgres_is_suspended_and_stops(
    own_stack: Stack, impatient: Settings
) -> None:
    migrate(impatient)
    stop, heard = threading.Event(), Waits()
    with closing(Writer(impatient, LedgerSink("test.ledger"), "me", stop, heard)) as writer:
        writer.claim({0: Offsets(0, 0)}, HERE)
        with own_stack.suspended("postgres"):
            claiming = threading.Thread(target=writer.claim, args=({0: Offsets(0, 0)}, HERE))
            claiming.start()
            wait_until(lambda: bool(heard.reasons), "it waits")
            stop.set()
            claiming.join(60)
            assert not claiming.is_alive()


@pytest.mark.full
def test_the_sign_of_life_that_the_watchdog_asks_for_comes_to_an_end(
    own_stack: Stack, impatient: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(impatient)
    monkeypatch.setattr("sinks.metrics.SIGN_OF_LIFE_S", 1.0)
    with closing(Vitals(impatient, {"ledger": "test.ledger"})) as vitals:
        vitals.reached("ledger", {0: 0})
        assert [at.waits_for for at in vitals.standings()] == [None]
        with own_stack.suspended("postgres"):
            (at,) = vitals.standings()
            assert "answers no new connection" in (at.waits_for or "")
        assert [at.waits_for for at in vitals.standings()] == [None]


def asking(connection: Connection) -> None:
    connection.execute("SELECT 1")


def copying(connection: Connection) -> None:
    assert [*rows.count_entries(connection, (), Digests(b"key"), lambda at, _: at >= 0)] == []


def by_a_cursor(connection: Connection) -> None:
    assert list(questions.wrong_wallets(connection)) == []


@pytest.mark.parametrize("question", [copying, by_a_cursor, in_full(asking)])
def test_no_question_waits_for_ever(
    own_stack: Stack, impatient: Settings, question: Callable[[Connection], None]
) -> None:
    migrate(impatient)
    with pytest.raises(psycopg.OperationalError, match="silent"):  # noqa: PT012, SIM117 - all of it must come to an end
        with audited(impatient) as connection:
            question(connection)
            with own_stack.suspended("postgres"):
                question(connection)


def test_a_statement_that_takes_long_is_waited_for(impatient: Settings) -> None:
    with postgres.connect(impatient) as connection:
        assert connection.execute("SELECT 1 FROM pg_sleep(3)").fetchone() == (1,)


@pytest.mark.full
def test_a_command_says_in_one_line_that_postgres_does_not_answer(
    own_stack: Stack, impatient: Settings, tmp_path: Path
) -> None:
    initialise(impatient)
    drain(impatient, "ledger")
    brief = impatient.model_copy(update={"startup_wait_s": 1.0})
    with own_stack.suspended("postgres"):
        process = Worker(brief, tmp_path / "log", "verify")
        assert process.failed(NotReachable).startswith("wallet: PostgreSQL did not answer within")
