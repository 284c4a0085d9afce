"""Spans: who asks for them, what is refused, what they hold, and that they hold nothing up."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from config.errors import ConfigurationError
from tests.collector import Collector, Told, collecting, nothing_asks
from topics.source import Headers
from vitals import spans

ROOT = Path(__file__).parents[2]
ENDPOINT, EXPORTER = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_EXPORTER"
SOMEWHERE = {ENDPOINT: "http://127.0.0.1:4318"}


@pytest.fixture(autouse=True)
def _nothing_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing_asks(monkeypatch)


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    monkeypatch.setattr(spans, "END_S", 60.0)  # on a busy machine the last span may take a while
    with collecting() as one:
        monkeypatch.setenv(ENDPOINT, one.url)
        yield one


def parent(number: int) -> bytes:
    """What the producer's span of this number says of itself."""
    return f"00-{number:032x}-{number:016x}-01".encode()


def ids(*numbers: int) -> set[tuple[str, str]]:
    return {(f"{number:032x}", f"{number:016x}") for number in numbers}


def told_of(collector: Collector, *records: tuple[int, int, Headers]) -> Told:
    """The span of one batch of these records."""
    with spans.exported("worker", "wallet"):
        spans.batch("wallet.transactions", "wallet", records, 0.25, posted=len(records), rejected=0)
    [one] = collector.told
    return one


@pytest.mark.parametrize(
    ("variables", "asking"),
    [
        ({}, None),
        ({"OTEL_SERVICE_NAME": "me", "OTEL_RESOURCE_ATTRIBUTES": "a=b"}, None),
        (SOMEWHERE, ENDPOINT),
        ({ENDPOINT: " "}, None),
        (
            {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"},
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        ),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c:4318/v1/metrics"}, None),
        ({EXPORTER: "otlp"}, EXPORTER),
        ({EXPORTER: ""}, None),
        ({EXPORTER: "none"}, None),
        (SOMEWHERE | {EXPORTER: "none"}, None),
        (SOMEWHERE | {"OTEL_SDK_DISABLED": "True"}, None),
        (SOMEWHERE | {"OTEL_SDK_DISABLED": "false"}, ENDPOINT),
    ],
)
def test_spans_are_off_unless_a_variable_asks_for_them(variables: dict[str, str], asking: str | None) -> None:
    assert spans.asked_by(variables) == asking


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({EXPORTER: "console"}, "OTEL_TRACES_EXPORTER must be otlp or none"),
        ({EXPORTER: "otlp,console"}, "OTEL_TRACES_EXPORTER must be otlp or none"),
        (
            SOMEWHERE | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf",
        ),
        (
            SOMEWHERE | {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"},
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL must be http/protobuf",
        ),
        ({ENDPOINT: "me:secret@collector:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT must be an http or https URL"),
        ({ENDPOINT: "http:///v1"}, "OTEL_EXPORTER_OTLP_ENDPOINT must be an http or https URL"),
    ],
)
def test_what_we_cannot_do_is_refused_at_the_start(
    variables: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as refused, spans.exported("worker", "wallet"):
        pytest.fail("it began")
    assert str(refused.value) == told


@pytest.mark.parametrize("lacking", ["opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"])
def test_without_the_extra_there_are_no_spans_and_the_log_says_so(
    lacking: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(ENDPOINT, SOMEWHERE[ENDPOINT])
    for name in [name for name in sys.modules if name.startswith(lacking)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, lacking, None)
    with caplog.at_level("WARNING"), spans.exported("worker", "wallet"):
        assert spans._tracer is None
    assert "not_tracing" in caplog.text


def test_while_they_are_off_nothing_is_imported_and_no_record_looked_at() -> None:
    program = (
        "import sys\n"
        "import operations.main, streams.worker, sinks.consumer\n"
        "from vitals import spans\n"
        "def records():\n"
        "    raise AssertionError('looked at')\n"
        "    yield\n"
        "with spans.exported('worker', 'wallet'):\n"
        "    spans.batch('t', 'g', records(), 0.1)\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_a_batch_of_one_partition(collector: Collector) -> None:
    before_ns = time.time_ns()
    one = told_of(
        collector, (3, 120, ()), (3, 121, ()), (3, 125, [("other", b"x"), ("traceparent", parent(7))])
    )
    assert one.attributes == {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "wallet.transactions",
        "messaging.destination.partition.id": "3",
        "messaging.consumer.group.name": "wallet",
        "messaging.batch.message_count": 3,
        "wallet.first_offset": 120,
        "wallet.last_offset": 125,
        "wallet.posted": 3,
        "wallet.rejected": 0,
    }
    assert (one.span.name, one.span.kind) == ("process wallet.transactions", one.span.SPAN_KIND_CONSUMER)
    assert not one.span.parent_span_id
    assert one.links == ids(7)
    assert one.span.end_time_unix_nano - one.span.start_time_unix_nano == 250_000_000
    assert before_ns <= one.span.end_time_unix_nano <= time.time_ns()
    assert one.resource["service.name"] == "wallet-worker"
    assert one.resource["wallet.pipeline"] == "wallet"


def test_a_batch_of_several_partitions(collector: Collector) -> None:
    one = told_of(collector, (2, 7, ()), (0, 12, ()), (2, 9, ()), (0, 40, ()), (1, 5, ()))
    assert one.attributes["wallet.offsets"] == ["0:12-40", "1:5-5", "2:7-9"]
    assert "messaging.destination.partition.id" not in one.attributes


def test_the_environment_names_the_service(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "payments")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    one = told_of(collector, (0, 0, ()))
    assert one.resource["service.name"] == "payments"
    assert one.resource["deployment.environment.name"] == "test"


@pytest.mark.parametrize(
    ("headers", "linked"),
    [
        ([[]], set()),
        ([[("traceparent", parent(1))], [("traceparent", parent(1))], [("traceparent", parent(2))]], {1, 2}),
        ([[("traceparent", parent(1))], [("traceparent", parent(1)[:-2] + b"00")]], {1}),
        ([[("traceparent", parent(1)), ("traceparent", parent(2))]], {2}),
        ([[("traceparent", None)], [("traceparent", b"")], [("Traceparent", parent(1))]], set()),
        ([[("traceparent", b"\xff\xfe" * 20)], [("traceparent", parent(1) + b"-more")]], set()),
        ([[("traceparent", b"01" + parent(1)[2:] + b"-more")]], {1}),
        ([[("traceparent", b"01" + parent(1)[2:] + b"-" + b"x" * 500)]], set()),
        ([[("traceparent", b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01")]], set()),
    ],
)
def test_a_link_to_each_trace_that_a_producer_told(
    collector: Collector, headers: list[Headers], linked: set[int], caplog: pytest.LogCaptureFixture
) -> None:
    one = told_of(collector, *((0, offset, each) for offset, each in enumerate(headers)))
    assert one.links == ids(*linked)
    assert len(one.span.links) == len(linked)
    assert {record.name for record in caplog.records} <= {"vitals.spans"}, (
        "what a producer sends is not for the log"
    )


def test_links_are_bounded_and_no_tracestate_is_kept(collector: Collector) -> None:
    state = ("tracestate", b"vendor=" + b"x" * 100)
    malformed: tuple[int, int, Headers] = (0, 0, [("traceparent", b"no trace")])
    traced = ((0, n, [("traceparent", parent(n)), state]) for n in range(1, 1_000))
    one = told_of(collector, malformed, *traced)
    assert one.links == ids(*range(1, 1 + spans.MOST))
    assert not any(link.trace_state for link in one.span.links)


def test_offsets_of_many_partitions_are_bounded(collector: Collector) -> None:
    one = told_of(collector, *((partition, 0, ()) for partition in range(1_000)))
    assert len(one.attributes["wallet.offsets"]) == spans.MOST


def test_all_spans_come_and_none_afterwards(collector: Collector) -> None:
    with spans.exported("sink", "wallet"):
        for offset in range(spans.QUEUE_SPANS // 2):
            spans.batch("wallet.ledger", "wallet.sink.ledger", [(0, offset, ())], 0.0, sink="ledger")
    after = iter([(0, 10_000, ())])
    spans.batch("wallet.ledger", "wallet.sink.ledger", after, 0.0, sink="ledger")
    assert list(after), "it was looked at"
    assert [one.attributes["wallet.first_offset"] for one in collector.told] == [
        *range(spans.QUEUE_SPANS // 2)
    ]


def test_a_collector_that_does_not_answer_holds_up_neither_batches_nor_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(spans, "END_S", 0.5)
    with closing(socket.create_server(("127.0.0.1", 0))) as mute:
        monkeypatch.setenv(ENDPOINT, f"http://127.0.0.1:{mute.getsockname()[1]}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "20")
        began_s = time.monotonic()
        with spans.exported("worker", "wallet"):
            for offset in range(4 * spans.QUEUE_SPANS):
                spans.batch("t", "g", [(0, offset, ())], 0.0)
            batches_s = time.monotonic() - began_s
        assert batches_s < 10
        assert time.monotonic() - began_s - batches_s < 10
    assert "spans_dropped" in caplog.text
    assert "Queue full" in caplog.text
