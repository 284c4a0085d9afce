"""A real worker and real sinks tell a collector of their batches, and are not held up by one that is not there."""

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from config.settings import Settings
from local.state import free_port
from operations.sending.generator import ProducerRecord
from operations.setup.init import initialise
from tests.collector import Collector, Told, collecting, nothing_asks
from tests.integration.exactness import assert_exact
from tests.integration.pipelines import Rig, as_record, small, transaction, wait_until
from tests.integration.workers import WALLET
from topics.names import Topics

pytestmark = pytest.mark.integration

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
#: Without what the extra installs.
BARE = "import sys; sys.modules['opentelemetry.sdk'] = None; from operations.main import main; main()"


@pytest.fixture(autouse=True)
def _nothing_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing_asks(monkeypatch)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With tables."""
    settings = small(settings)
    initialise(settings)
    return settings


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collecting() as one:
        monkeypatch.setenv(ENDPOINT, one.url)
        yield one


def traced(record: ProducerRecord, number: int) -> ProducerRecord:
    """The record as it comes from a producer's span of this number."""
    return record._replace(headers=[("traceparent", f"00-{number:032x}-{number:016x}-01".encode())])


def credits_of(first: int, end: int) -> list[ProducerRecord]:
    """One to each wallet of these numbers, from the span of that number."""
    return [traced(as_record(transaction(n, f"wallet-{n}")), n) for n in range(first, end)]


def rows(settings: Settings) -> int:
    """How many entries are in PostgreSQL."""
    with psycopg.connect(settings.postgres.get_secret_value()) as connection:
        [found] = connection.execute("SELECT count(*) FROM transactions").fetchone() or [0]
    return int(found)


def links(told: list[Told]) -> set[int]:
    """The producers' spans that these link to."""
    found = {one for each in told for one in each.links}
    assert all(int(trace, 16) == int(span, 16) for trace, span in found)
    return {int(trace, 16) for trace, _ in found}


def offsets(told: list[Told], partition: int) -> list[int]:
    """Every offset of a partition that a span of one partition tells, in order."""
    ranges = sorted(
        (one.attributes["wallet.first_offset"], one.attributes["wallet.last_offset"])
        for one in told
        if one.attributes["messaging.destination.partition.id"] == str(partition)
    )
    return [offset for first, last in ranges for offset in range(first, last + 1)]


def test_batches_are_told_and_link_to_their_producers(
    settings: Settings, tmp_path: Path, collector: Collector
) -> None:
    topics = Topics.of(settings)
    with Rig(settings, tmp_path) as rig:
        worker, sink = rig.start(), rig.start("sink", "all")
        # 1 to 40 are posted, 41 and 42 rejected; the mixed stream has no traces.
        good = credits_of(1, 41)
        bad = [traced(as_record(transaction(n, "wallet-1"))._replace(value=b"no"), n) for n in (41, 42)]
        rig.upstream.send([*good, *bad])
        rig.send(300)
        rig.wait_until_posted()
        wait_until(
            lambda: links(collector.of(topics.rejections)) == {41, 42}, "the sink told", sink.check_runs
        )
        worker.stop()
        sink.stop()
        sent = rig.upstream.next_offsets
        assert_exact(settings)

    posted = collector.of(topics.transactions)
    assert links(posted) == {*range(1, 43)}
    assert {partition: offsets(posted, partition) for partition in sent} == {
        partition: [*range(end)] for partition, end in sent.items()
    }
    for one in posted:
        decided = one.attributes["wallet.posted"] + one.attributes["wallet.rejected"]
        assert one.attributes["messaging.batch.message_count"] == decided
        assert one.attributes["messaging.consumer.group.name"] == settings.group
        assert one.resource["service.name"] == "wallet-worker"
        assert one.resource["wallet.pipeline"] == settings.prefix
    # Entries hold what they always held, and no headers: there is nothing to link to.
    stored = collector.of(topics.ledger)
    assert sum(one.attributes["messaging.batch.message_count"] for one in stored) == sum(
        one.attributes["wallet.posted"] for one in posted
    )
    assert links(stored) == set()
    assert {one.attributes["messaging.consumer.group.name"] for one in stored} == {
        f"{settings.prefix}.sink.ledger"
    }
    assert {one.resource["service.name"] for one in stored} == {"wallet-sink"}
    rejected = collector.of(topics.rejections)
    assert sum(one.attributes["messaging.batch.message_count"] for one in rejected) == sum(
        one.attributes["wallet.rejected"] for one in posted
    )


def test_while_nothing_asks_for_spans_nothing_is_imported(settings: Settings, tmp_path: Path) -> None:
    with Rig(settings, tmp_path) as rig:
        listing = [rig.start(command, by=("-X", "importtime", *WALLET)) for command in ("worker", "sink")]
        rig.upstream.send(credits_of(1, 41))
        rig.wait_until_posted()
        wait_until(lambda: rows(settings) == 40, "the sink has written them", rig.check_workers)
        for one in listing:
            one.stop()
            assert " vitals.spans" in one.text()
            assert "opentelemetry" not in one.text()


@pytest.mark.parametrize("silent", [True, False], ids=["silent", "away"])
def test_a_collector_that_does_not_answer_holds_up_nothing(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent: bool
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as mute, Rig(settings, tmp_path) as rig:
        port = mute.getsockname()[1] if silent else free_port(without=[])
        monkeypatch.setenv(ENDPOINT, f"http://127.0.0.1:{port}")
        # A request is under way at any moment, and takes longer than the end may.
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "60")
        worker, sink = rig.start(), rig.start("sink", "all")
        for first in (1, 51, 101):
            rig.upstream.send(credits_of(first, first + 50))
            rig.wait_until_posted()
        worker.ask_to_stop()
        sink.ask_to_stop()
        for one in (worker, sink):
            assert one.wait() == 0, one.told()
            # Its own bound ended the wait: the SDK's would have, too, in half a minute and without a word.
            assert one.events("spans_dropped"), one.told()
        assert_exact(settings)


def test_without_the_extra_a_pipeline_runs_without_spans(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    with Rig(settings, tmp_path) as rig:
        for command in ("worker", "sink"):
            rig.start(command, by=("-c", BARE))
        rig.upstream.send(credits_of(1, 21))
        wait_until(lambda: rows(settings) == 20, "the rows are written")
        for one in rig.workers:
            assert one.events("not_tracing"), one.told()
        assert_exact(settings)
