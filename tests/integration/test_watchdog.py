"""The watchdog and health on a real Kafka: what it ends, what it does not, and what is told meanwhile."""

import json
import re
import shutil
import signal
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from confluent_kafka import Producer

from config.errors import ConfigurationError, Stalled
from config.settings import Settings
from local.stack import Stack
from operations.setup.init import initialise
from schemas.partitioner import partition_of
from schemas.records import Reason
from tests.integration.exactness import assert_exact
from tests.integration.pipelines import (
    Rig,
    Worker,
    as_record,
    initialise_topics,
    open_transaction,
    small,
    transaction,
    wait_until,
    wallets_of,
)
from tests.ledgers import LEDGER_FRAME, Ledger, ends, publish_entries, stands
from topics.clients import librdkafka
from topics.lag import LagReader
from topics.names import Topics
from vitals.watchdog import LOOKS_IN_LIMIT

pytestmark = pytest.mark.integration

METRICS_DOC = Path(__file__).parents[2] / "docs" / "operations" / "metrics.md"
LOOKS = "wallet_watchdog_looks_total"
#: SIGUSR1 blocks the main thread of a `wallet` command, which in a worker is the one of its event loop.
BLOCKABLE = """
import signal, sys, time
signal.signal(signal.SIGUSR1, lambda *_: time.sleep(3600))
from operations.main import main
main()
"""
#: SIGUSR1 makes it keep the interpreter's lock, so that no Python thread runs any more.
STUCK = """
import ctypes, signal
signal.signal(signal.SIGUSR1, lambda *_: ctypes.PyDLL(None).sleep(3600))
from vitals import watchdog
watchdog.STUCK_LEAST_S = 4.0
from operations.main import main
main()
"""


@pytest.fixture
def rig(kafka_only_settings: Settings, tmp_path: Path) -> Iterator[Rig]:
    with Rig(small(kafka_only_settings, http_port=0, watchdog_s=3.0), tmp_path) as rig:
        yield rig


def ask(address: str, path: str) -> tuple[int, str]:
    """Status and body of an answer."""
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()


def addresses(settings: Settings, role: str) -> list[str]:
    """Where the processes of this role listen, as their files say."""
    notes = sorted((settings.state_dir / "http").glob(f"{role}-*.json"))
    return [json.loads(note.read_text())[0]["targets"][0] for note in notes]


def address_of(settings: Settings, role: str) -> str:
    wait_until(lambda: bool(addresses(settings, role)), f"a {role} has told its address")
    (address,) = addresses(settings, role)
    return address


def wait_until_ready(address: str) -> None:
    wait_until(lambda: ask(address, "/ready")[0] == 200, f"{address} is ready")


def value(metrics: str, series: str) -> float:
    """The value of one series, as it is written."""
    (line,) = [line for line in metrics.splitlines() if line.startswith(f"{series} ")]
    return float(line.rpartition(" ")[2])


def test_a_worker_is_ready_when_its_partitions_are_and_tells_what_it_did(rig: Rig) -> None:
    worker = rig.start()
    address = address_of(rig.settings, "worker")
    assert ask(address, "/live") == (200, "live\n")
    wait_until_ready(address)
    rig.send(600)
    rig.wait_until_posted()
    expected = assert_exact(rig.settings)
    metrics = ask(address, "/metrics")[1]
    entries = sum(len(entries) for entries in expected.ledger.values())
    assert value(metrics, 'wallet_worker_records_total{outcome="posted"}') == entries
    assert value(metrics, 'wallet_worker_records_total{outcome="rejected"}') == 600 - entries
    rejections = [line for line in metrics.splitlines() if line.startswith("wallet_worker_rejections_total{")]
    assert sum(float(line.rpartition(" ")[2]) for line in rejections) == 600 - entries
    assert {line.split('"')[1] for line in rejections} == {reason.value for reason in Reason}
    assert value(metrics, "wallet_worker_batch_records_sum") == 600
    assert value(metrics, 'wallet_worker_partitions{state="ready"}') == 4
    wait_until(
        lambda: value(ask(address, "/metrics")[1], 'wallet_worker_lag_records{partition="0"}') == 0,
        "the lag is told to be none",
    )
    worker.stop()
    assert addresses(rig.settings, "worker") == []


def families(metrics: str) -> set[str]:
    """The names of our metrics, as their types are declared."""
    lines = [line.split() for line in metrics.splitlines() if line.startswith("# TYPE wallet_")]
    return {name for _, _, name, _ in lines}


def test_the_metrics_are_all_in_the_docs_and_pass_promtool(settings: Settings, tmp_path: Path) -> None:
    watched = small(settings, http_port=0)
    initialise(watched)
    documented = set(re.findall(r"^\| `(wallet_\w+)", METRICS_DOC.read_text(), re.MULTILINE))
    told = []
    with Rig(watched, tmp_path) as rig:
        rig.send(100)
        rig.start()
        rig.start("sink")
        rig.start("console", console_port=0)
        for role in ("worker", "sink", "console"):
            address = address_of(watched, role)
            wait_until_ready(address)
            told.append(ask(address, "/metrics")[1])
    assert set.union(*map(families, told)) == documented
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed (Debian: the package prometheus)")
    for metrics in told:
        done = subprocess.run(
            ["promtool", "check", "metrics"], input=metrics.encode(), capture_output=True, check=False
        )
        assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()


def test_nothing_of_what_records_hold_is_in_logs_or_metrics(settings: Settings, tmp_path: Path) -> None:
    watched = small(settings, http_port=0)
    initialise(watched)
    mark = "only-the-record-knows-this"
    wallet = next(name for number in range(99) if partition_of((name := f"{mark}-{number}").encode(), 4) == 0)
    one = transaction(1, wallet, group_id=mark, metadata=((mark, mark),))
    accepted = as_record(one)
    rejected = [
        as_record(one._replace(amount=7)),
        as_record(one._replace(transaction_id=mark)),
        accepted._replace(value=mark.encode(), headers=[(mark, mark.encode())]),
    ]
    with Rig(watched, tmp_path) as rig:
        rig.upstream.send([accepted, accepted, *rejected])
        worker, sink = rig.start(), rig.start("sink")
        rig.wait_until_posted()
        written = 'wallet_sink_records_total{sink="rejections"}'
        wait_until(
            lambda: (
                bool(addresses(watched, "sink"))
                and value(ask(address_of(watched, "sink"), "/metrics")[1], written) == 4
            ),
            "the rejections are in",
        )
        told = [ask(address_of(watched, role), "/metrics")[1] for role in ("worker", "sink")]
        worker.stop()
        sink.stop()
        for text in (worker.text(), sink.text(), *told):
            assert mark not in text


def test_a_worker_whose_event_loop_is_blocked_ends_with_its_stacks_and_code_7(rig: Rig) -> None:
    worker = rig.start(by=("-c", BLOCKABLE))
    address = address_of(rig.settings, "worker")
    wait_until_ready(address)
    worker.signal(signal.SIGUSR1)
    rig.send(100)
    assert ask(address, "/live")[0] == 200
    why = worker.failed(Stalled)
    assert why.startswith("wallet: the watchdog ended this process: worker of ")
    # The stack of the thread that hangs, down to the line: the second of the program above.
    assert 'File "<string>", line 3 in <lambda>' in worker.text()
    rig.start()
    rig.wait_until_posted()
    assert_exact(rig.settings)


@pytest.mark.full
def test_a_worker_none_of_whose_threads_can_run_ends_too(rig: Rig) -> None:
    worker = rig.start(by=("-c", STUCK), watchdog_s=1.0)
    wait_until_ready(address_of(rig.settings, "worker"))
    worker.signal(signal.SIGUSR1)
    assert worker.wait() == 1, worker.told()
    assert "Timeout (" in worker.text()


def test_records_that_come_during_a_look_are_not_taken_for_held_back(kafka_only_settings: Settings) -> None:
    initialise_topics(kafka_only_settings)
    topic = Topics.of(kafka_only_settings).transactions
    upstream, is_over = Producer(librdkafka(kafka_only_settings, linger_ms=0)), threading.Event()

    def send() -> None:
        while not is_over.wait(0.0005):
            upstream.produce(topic, b"", partition=0)
            upstream.poll(0)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        with closing(LagReader(kafka_only_settings)) as lags:
            looks = [lags.look({(topic, 0): None})[topic, 0] for _ in range(100)]
    finally:
        is_over.set()
        sender.join()
        upstream.flush(30)
    assert looks[-1].end > looks[0].end
    assert [one for one in looks if one.end != one.stable_end] == []


@pytest.mark.full
def test_a_worker_with_nothing_to_do_is_left_alone_behind_an_open_upstream_transaction(rig: Rig) -> None:
    wallet = next(wallets_of(0))
    worker = rig.start(watchdog_s=1.0)
    address = address_of(rig.settings, "worker")

    def told(series: str) -> float:
        return value(ask(address, "/metrics")[1], f'wallet_worker_{series}{{partition="0"}}')

    wait_until_ready(address)
    rig.upstream.send([as_record(transaction(1, wallet))])
    rig.wait_until_posted()
    with open_transaction(
        rig.settings, Topics.of(rig.settings).transactions, as_record(transaction(2, wallet))
    ):
        rig.upstream.send([as_record(transaction(3, wallet))])
        worker.wait_until_told("held_by_open_transaction")
        assert "partition=0 offset=1 end=3" in worker.events("held_by_open_transaction")[0]
        assert (told("held_back_offsets"), told("last_stable_offset"), told("lag_records")) == (2, 1, 0)
        assert ask(address, "/ready")[0] == 200
    worker.wait_until_told("open_transaction_ended")
    rig.wait_until_posted()
    # The mark of the transaction is the end of the log now: an offset, but no record to wait for.
    wait_until(lambda: told("end_offset") == 4, "the mark is seen")
    wait_until(lambda: told("lag_records") == 0, "it is no lag")
    worker.stop()


@pytest.mark.full
def test_a_worker_waits_for_a_kafka_that_is_away_for_longer_than_the_watchdogs_limit(
    own_settings: Settings, own_stack: Stack, tmp_path: Path
) -> None:
    watched = small(own_settings, http_port=0, watchdog_s=1.0)
    with Rig(watched, tmp_path) as rig:
        worker = rig.start()
        address = address_of(watched, "worker")
        wait_until_ready(address)
        own_stack.stop("kafka")
        wait_until(lambda: "Kafka does not answer" in ask(address, "/ready")[1], "it says that Kafka is away")
        # More looks than fit into its limit, none of which tells any end.
        looks = value(ask(address, "/metrics")[1], LOOKS)
        wait_until(
            lambda: not worker.runs or value(ask(address, "/metrics")[1], LOOKS) > looks + LOOKS_IN_LIMIT,
            "the watchdog looks on",
        )
        own_stack.start("kafka")
        if not worker.runs:
            assert worker.wait() != Stalled.exit_code, worker.told()
            worker = rig.start()
            address = address_of(watched, "worker")
        wait_until_ready(address)
        rig.send(100)
        rig.wait_until_posted()


@pytest.mark.full
def test_a_port_that_is_taken_is_told_in_one_line(rig: Rig) -> None:
    rig.start()
    port = int(address_of(rig.settings, "worker").rpartition(":")[2])
    second = rig.start(http_port=port)
    assert f"cannot listen on 127.0.0.1:{port}" in second.failed(ConfigurationError)


# -- sinks


def test_a_sink_whose_postgres_is_away_is_not_ready_until_it_is_back(
    own_settings: Settings, own_stack: Stack, tmp_path: Path
) -> None:
    watched = small(own_settings, http_port=0, watchdog_s=1.0)
    initialise(watched)
    ledger = Ledger(0).post_many(50)
    publish_entries(watched, ledger)
    with Worker(watched, tmp_path / "sink.log", "sink", "ledger") as sink:
        address = address_of(watched, "sink")
        wait_until_ready(address)
        wait_until(
            lambda: stands(watched, "ledger")[0] == ends(watched, ledger_topic(watched))[0], "rows are in"
        )
        own_stack.stop("postgres")
        publish_entries(watched, ledger.post_many(50), start=50)
        wait_until(
            lambda: bool(sink.events("waiting_for_postgres")), "it waits for Postgres", sink.check_runs
        )
        status, reasons = ask(address, "/ready")
        assert status == 503
        assert "the sink ledger waits: " in reasons
        # The writer's own reason may be the same words: only the metric says that the look met it, too.
        wait_until(
            lambda: value(ask(address, "/metrics")[1], "wallet_sink_postgres_answers") == 0,
            "it asked by itself, too",
        )
        wait_until(lambda: "PostgreSQL did not answer" in ask(address, "/ready")[1], "and says so")
        # Longer than the watchdog's limit, which is shorter than the pauses between attempts become.
        waits = 'wallet_sink_waits_total{sink="ledger"}'
        wait_until(lambda: value(ask(address, "/metrics")[1], waits) >= 6, "it tries again", sink.check_runs)
        own_stack.start("postgres")
        wait_until_ready(address)
        wait_until(
            lambda: value(ask(address, "/metrics")[1], 'wallet_sink_records_total{sink="ledger"}') == 100,
            "all are in",
            sink.check_runs,
        )
        metrics = ask(address, "/metrics")[1]
        assert value(metrics, 'wallet_sink_rows_total{sink="ledger",table="transactions"}') == 100
        assert value(metrics, "wallet_sink_newest_balance_age_seconds") >= 0
        sink.stop()


@pytest.mark.full
def test_a_sink_at_the_end_of_its_topics_has_no_lag_and_a_spare_one_is_ready(
    settings: Settings, tmp_path: Path
) -> None:
    watched = small(settings, http_port=0, watchdog_s=1.0, partitions=1)
    initialise(watched)
    ledger = Ledger(0).post_many(50)
    producer = Producer(librdkafka(watched, transactional_id=f"{watched.prefix}-0"))
    producer.init_transactions(30)
    producer.begin_transaction()
    for written in ledger.written:
        key = written.entry.transaction.wallet_id.encode()
        producer.produce(ledger_topic(watched), LEDGER_FRAME + written.body, key, 0)
    producer.commit_transaction(30)
    with (
        Worker(watched, tmp_path / "first.log", "sink", "ledger") as first,
        Worker(watched, tmp_path / "second.log", "sink", "ledger") as second,
    ):
        wait_until(lambda: len(addresses(watched, "sink")) == 2, "both have told their addresses")
        for address in addresses(watched, "sink"):
            wait_until_ready(address)
        labels = '{partition="0",sink="ledger"}'

        def told(series: str) -> bool:
            return any(series in ask(address, "/metrics")[1] for address in addresses(watched, "sink"))

        # The mark of the transaction is an offset beyond the last record, which is no lag.
        wait_until(lambda: told(f"wallet_sink_position{labels} 50.0"), "all rows are in")
        wait_until(lambda: told(f"wallet_sink_last_stable_offset{labels} 51.0"), "the mark is seen")
        wait_until(lambda: told(f"wallet_sink_lag_records{labels} 0.0"), "there is no lag")
        first.stop()
        second.stop()


def ledger_topic(settings: Settings) -> str:
    return Topics.of(settings).ledger
