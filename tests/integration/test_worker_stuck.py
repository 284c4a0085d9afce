"""What hangs without an error: a batch inside Kafka's client, a sink's write, a registry that does not say."""

import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from config.errors import Stalled, Stopped
from config.settings import Settings
from operations.setup.init import initialise
from schemas.codec import encode_transaction, frame
from schemas.registry import register, subjects
from schemas.versions import FIXED_IDS, schema_text
from tests.integration.exactness import assert_exact, found
from tests.integration.pipelines import Rig, Worker, as_record, small, transaction, wait_until, wallets_of
from tests.integration.test_watchdog import LOOKS, address_of, ask, value
from tests.ledgers import Ledger, publish_entries, stands
from tests.unit.registry_server import RegistryServer, running
from topics.names import Topics

pytestmark = pytest.mark.integration

#: SIGUSR1 makes every call that adds the input's offsets to a transaction hang, as librdkafka's has done.
HANGING_BATCH = """
import signal, time
from streams.transaction import PartitionProducer
def hang(*_):
    PartitionProducer._send_offsets = lambda *_: time.sleep(3600)
signal.signal(signal.SIGUSR1, hang)
from operations.main import main
main()
"""
#: Opening a partition takes as long as this file is there, and hears of nothing meanwhile.
SLOW_OPENING = """
import pathlib, time
from streams.writer import PartitionWriter
there, catch_up = pathlib.Path({file!r}), PartitionWriter._catch_up
def slow(*given):
    while there.exists():
        time.sleep(0.1)
    catch_up(*given)
PartitionWriter._catch_up = slow
from operations.main import main
main()
"""
#: SIGUSR1 makes a sink's writes hang.
HANGING_SINK = """
import signal, time
from sinks.writer import Writer
def hang(*_):
    Writer.write = lambda *_: time.sleep(3600)
signal.signal(signal.SIGUSR1, hang)
from operations.main import main
main()
"""


@pytest.mark.full
def test_a_batch_that_hangs_ends_its_worker_at_the_next_rebalance_and_another_goes_on(
    kafka_only_settings: Settings, tmp_path: Path
) -> None:
    with Rig(small(kafka_only_settings, transaction_timeout_s=5.0), tmp_path) as rig:
        hangs = rig.start(by=("-c", HANGING_BATCH))
        hangs.wait_until_told("ready", 4)
        rig.send(500)
        rig.wait_until_posted()
        hangs.signal(signal.SIGUSR1)
        rig.send(500)
        follows = rig.start()
        assert hangs.failed(Stopped) == "wallet: a batch in hand did not end within 15 s: start again"
        follows.wait_until_told("ready", 4)
        rig.wait_until_posted()
        assert_exact(rig.settings)


def test_a_worker_told_to_stop_grants_a_batch_that_hangs_so_long_and_is_heard_meanwhile(
    kafka_only_settings: Settings, tmp_path: Path
) -> None:
    program = f"from streams import worker\nworker.CLOSE_S = 8.0\n{HANGING_BATCH}"
    with Rig(small(kafka_only_settings, http_port=0), tmp_path) as rig:
        hangs = rig.start(by=("-c", program))
        hangs.wait_until_told("ready", 4)
        address = address_of(rig.settings, "worker")
        hangs.signal(signal.SIGUSR1)
        rig.send(500)
        wait_until(lambda: bool(rig.open_transactions()), "a batch is in hand", rig.check_workers)
        hangs.ask_to_stop()
        wait_until(lambda: "it is ending" in ask(address, "/ready")[1], "it says that it is ending")
        assert hangs.failed(Stopped) == "wallet: a batch in hand did not end within 8 s: start again"
        rig.start()
        rig.wait_until_posted()
        assert_exact(rig.settings)


@pytest.mark.full
def test_a_rebalance_does_not_wait_for_partitions_that_are_being_opened(
    kafka_only_settings: Settings, tmp_path: Path
) -> None:
    with Rig(small(kafka_only_settings, watchdog_s=4.0), tmp_path) as rig:
        rig.send(500)
        file = tmp_path / "opening takes long"
        file.touch()
        opens = rig.start(by=("-c", SLOW_OPENING.format(file=str(file))), watchdog_s=0.0)
        opens.wait_until_told("assigned")
        comes = rig.start(http_port=0)
        comes.wait_until_told("ready", 2)
        address = address_of(rig.settings, "worker")
        # Two looks a second: for longer than a session, in which the other one has gone on with its heartbeats.
        looks = value(ask(address, "/metrics")[1], LOOKS)
        wait_until(lambda: value(ask(address, "/metrics")[1], LOOKS) > looks + 16, "time has passed")
        assert len(comes.events("assigned")) == 1, comes.told()
        file.unlink()
        rig.wait_until_posted()
        assert_exact(rig.settings)


@pytest.mark.full
def test_a_sink_whose_writes_hang_is_ended_by_its_watchdog_and_another_goes_on(
    settings: Settings, tmp_path: Path
) -> None:
    watched = small(settings, watchdog_s=3.0)
    initialise(watched)
    ledger = Ledger(0).post_many(50)
    publish_entries(watched, ledger)
    with Worker(watched, tmp_path / "hangs.log", "sink", "ledger", by=("-c", HANGING_SINK)) as hangs:
        wait_until(lambda: stands(watched, "ledger").get(0) == 50, "rows are in", hangs.check_runs)
        hangs.signal(signal.SIGUSR1)
        publish_entries(watched, ledger.post_many(50), start=50)
        why = hangs.failed(Stalled)
        assert why.startswith("wallet: the watchdog ended this process: ledger of ")
        assert "in <lambda>" in hangs.text(), "its stacks are told"
    with Worker(watched, tmp_path / "follows.log", "sink", "ledger") as follows:
        wait_until(lambda: stands(watched, "ledger").get(0) == 100, "all rows are in", follows.check_runs)
        follows.stop()


@pytest.fixture
def registry() -> Iterator[RegistryServer]:
    with running() as server:
        yield server


@pytest.fixture
def registered(kafka_only_settings: Settings, registry: RegistryServer) -> Settings:
    """Of a pipeline whose schemas are in the registry."""
    settings = small(kafka_only_settings, registry=registry.url, retry_wait_s=0.2)
    assert register(settings) == FIXED_IDS
    return settings


@pytest.fixture
def theirs(registered: Settings, registry: RegistryServer) -> int:
    """The id of a producer's own schema."""
    schema = schema_text("transaction", 1).replace('"doc"', '"was"')
    return registry.add(subjects(registered)["transaction"], schema)


def test_a_record_whose_schema_the_registry_cannot_tell_just_now_is_waited_for_and_not_rejected(
    registered: Settings, registry: RegistryServer, theirs: int, tmp_path: Path
) -> None:
    here, elsewhere = next(wallets_of(0)), next(wallets_of(1))
    with Rig(registered, tmp_path) as rig:
        worker = rig.start()
        worker.wait_until_told("ready", 4)
        registry.before += [(503, "away")] * 20
        one = transaction(1, here)
        rig.upstream.send([as_record(one)._replace(value=frame(theirs) + encode_transaction(one))])
        wait_until(lambda: f"what schema id {theirs} is" in worker.text(), "it waits", worker.check_runs)
        rig.upstream.send([as_record(transaction(2, elsewhere))])
        wait_until(lambda: rig.committed().get(1) == 1, "the other partition goes on", worker.check_runs)
        rig.wait_until_posted()
        assert not registry.before, "it has asked until it was answered"
        names = Topics.of(registered)
        entries = {at: found(registered, names.ledger).get(at, []) for at in (0, 1)}
        assert {at: [entry.key for entry in of] for at, of in entries.items()} == {
            0: [here.encode()],
            1: [elsewhere.encode()],
        }
        assert not any(found(registered, names.rejections).values())
        worker.stop()


def test_a_rebalance_does_not_wait_for_a_batch_that_waits_for_the_registry(
    registered: Settings, registry: RegistryServer, theirs: int, tmp_path: Path
) -> None:
    with Rig(registered, tmp_path) as rig:

        def told_to_wait(worker: Worker) -> bool:
            return f"what schema id {theirs} is" in worker.text()

        waits, goes = rig.start(), rig.start()
        rig.wait_until_shared_by(2)
        registry.before += [(503, "away")] * 10_000
        for at in range(4):
            one = transaction(at, next(wallets_of(at)))
            rig.upstream.send([as_record(one)._replace(value=frame(theirs) + encode_transaction(one))])
        for worker in (waits, goes):
            wait_until(partial(told_to_wait, worker), "it waits", worker.check_runs)
        goes.stop()
        rig.wait_until_shared_by(1)
        registry.before.clear()
        rig.wait_until_posted()
        assert sum(len(of) for of in found(registered, Topics.of(registered).ledger).values()) == 4
        waits.stop()


@pytest.mark.full
def test_workers_that_come_and_go_at_the_same_time_all_end_in_order(rig: Rig) -> None:
    """One that is stopping may be given partitions yet: opened then, they would be open when its folder is free."""
    rig.send(500)
    for number in range(24):
        rig.start().wait_until_told("assigned")
        if number >= 3:
            rig.workers[number - 3].stop()
    rig.wait_until_posted()
    assert_exact(rig.settings)
