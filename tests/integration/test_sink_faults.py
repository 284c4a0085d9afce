"""Sinks while Postgres goes away: nothing lost, nothing twice. And servers without any of our roles."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from config.settings import Settings
from local.stack import Addresses, Stack
from operations.setup.init import initialise
from sinks import postgres
from sinks.postgres.migrations import migrate, shipped
from tests.ledgers import Ledger, Waits, publish_entries, running, wait_until
from topics.cluster import quiet_admin

pytestmark = pytest.mark.integration


@pytest.fixture
def four_databases(
    own_stack: Stack, new_settings: Callable[[Addresses], Settings]
) -> Iterator[list[Settings]]:
    addresses = own_stack.addresses_if_up()
    assert addresses
    yield [new_settings(addresses) for _ in range(4)]
    own_stack.up()


@pytest.mark.full
def test_inits_of_several_databases_at_once_bear_each_others_roles(four_databases: list[Settings]) -> None:
    with postgres.connect(four_databases[0]) as connection:
        # Only here may a test take the roles away: the servers are its own.
        connection.execute("DROP ROLE IF EXISTS wallet_writer; DROP ROLE IF EXISTS wallet_reader")
    with ThreadPoolExecutor(4) as threads:
        applied = list(threads.map(migrate, four_databases))
    assert applied == [[migration.name for migration in shipped()]] * 4


def count(settings: Settings) -> tuple[int, int]:
    with postgres.connect(settings) as connection:
        row = connection.execute(
            "SELECT count(*), count(DISTINCT (source_partition, source_offset)) FROM transactions"
        ).fetchone()
    assert row
    return row[0], row[1]


@pytest.mark.full
def test_postgres_killed_while_rows_are_written_loses_and_doubles_nothing(
    own_stack: Stack, own_settings: Settings
) -> None:
    initialise(own_settings)
    small = own_settings.model_copy(update={"sink_batch_rows": 40, "retry_wait_s": 0.5})
    ledgers = [Ledger(partition).post_many(1_000) for partition in range(4)]
    publish_entries(own_settings, *ledgers)
    heard = Waits()
    with running(small, "ledger", observer=heard) as sinks:
        for part in (1, 2):
            wait_until(lambda part=part: count(own_settings)[0] >= part * 1_000, "some rows are in")  # type: ignore[misc]
            own_stack.kill("postgres")
            heard.reasons.clear()
            wait_until(lambda: bool(heard.reasons), "the sink waits for Postgres")
            own_stack.start("postgres")
        sinks.wait_until_caught_up()
    assert sinks.failure is None
    assert count(own_settings) == (4_000, 4_000)


def test_a_sink_told_to_stop_while_postgres_is_away_stops(own_stack: Stack, own_settings: Settings) -> None:
    initialise(own_settings)
    ledger = Ledger(0).post_many(10)
    publish_entries(own_settings, ledger)
    heard = Waits()
    with running(own_settings, "ledger", observer=heard) as sinks:
        sinks.wait_until_caught_up()
        own_stack.stop("postgres")
        publish_entries(own_settings, ledger.post_many(10), start=10)
        wait_until(lambda: bool(heard.reasons), "the sink waits for Postgres")
    assert sinks.failure is None
    own_stack.start("postgres")
    assert count(own_settings) == (10, 10)
    with running(own_settings, "ledger") as sinks:
        sinks.wait_until_caught_up()
    assert count(own_settings) == (20, 20)


def test_the_group_waits_for_a_sink_behind_a_postgres_that_is_away_only_so_long(
    own_stack: Stack, own_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sinks.topic.REBALANCE_S", 6.0)
    brief = own_settings.model_copy(
        update={"session_timeout_s": 6.0, "postgres_timeout_s": 2.0, "retry_wait_s": 0.5}
    )
    initialise(brief)
    ledger = Ledger(0).post_many(10)
    publish_entries(brief, ledger)
    client, group, heard = quiet_admin(brief), brief.sink_group("ledger"), Waits()

    def members() -> int:
        return len(client.describe_consumer_groups([group], request_timeout=10)[group].result(20).members)

    with running(brief, "ledger", observer=heard) as sinks:
        sinks.wait_until_caught_up()
        assert members() == 1
        own_stack.stop("postgres")
        publish_entries(brief, ledger.post_many(10), start=10)
        wait_until(lambda: bool(heard.reasons), "the sink waits for Postgres")
        # With one batch in hand it goes on to gather the next one; now it has two.
        publish_entries(brief, ledger.post_many(10), start=20)
        wait_until(lambda: members() == 0, "the group is not kept waiting")
        own_stack.start("postgres")
        wait_until(lambda: members() == 1, "the sink is back in its group")
        publish_entries(brief, ledger.post_many(10), start=30)
        sinks.wait_until_caught_up()
    assert sinks.failure is None
    assert count(brief) == (40, 40)


@pytest.mark.full
def test_kafka_restarted_while_rows_are_written_loses_and_doubles_nothing(
    own_stack: Stack, own_settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    initialise(own_settings)
    small = own_settings.model_copy(update={"sink_batch_rows": 40})
    ledgers = [Ledger(partition).post_many(500) for partition in range(4)]
    publish_entries(own_settings, *ledgers)
    with caplog.at_level("INFO"), running(small, "ledger") as sinks:
        wait_until(lambda: count(own_settings)[0] > 0, "some rows are in")
        own_stack.kill("kafka")
        wait_until(lambda: "waiting_for_kafka" in caplog.messages, "it is said")
        own_stack.start("kafka")
        publish_entries(own_settings, *(ledger.post_many(100) for ledger in ledgers), start=500)
        wait_until(lambda: count(own_settings)[0] == 2_400, "all rows are in")
        wait_until(lambda: "kafka_is_back" in caplog.messages, "that is said, too")
    told = [event for event in caplog.messages if event in {"waiting_for_kafka", "kafka_is_back"}]
    assert told == ["waiting_for_kafka", "kafka_is_back"] * (len(told) // 2)
    assert len(told) <= 4
    assert sinks.failure is None
    assert count(own_settings) == (2_400, 2_400)
