"""A tiny OpenTelemetry collector: takes OTLP over HTTP, in protobuf, and keeps the spans."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, NamedTuple

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span


def nothing_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unset every variable of OpenTelemetry that this test's environment has."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


class Told(NamedTuple):
    """A span as it came: `resource` and `attributes` as plain values, `links` as trace and span id in hex."""

    resource: dict[str, Any]
    attributes: dict[str, Any]
    links: set[tuple[str, str]]
    span: Span


class Collector:
    """What was told so far, and where to tell it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.told: list[Told] = []

    def of(self, topic: str) -> list[Told]:
        """The spans of this topic's batches."""
        return [one for one in self.told if one.attributes["messaging.destination.name"] == topic]

    def take(self, body: bytes) -> None:
        """A request's body."""
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            about = _plain(resource.resource.attributes)
            for scope in resource.scope_spans:
                for span in scope.spans:
                    links = {(link.trace_id.hex(), link.span_id.hex()) for link in span.links}
                    self.told.append(Told(about, _plain(span.attributes), links, span))


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector that listens meanwhile."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found = self.path == "/v1/traces"
            if found:
                collector.take(body)
            self.send_response(200 if found else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing: a test's output is its own."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector = Collector(f"http://127.0.0.1:{server.server_port}")
        serving = Thread(target=server.serve_forever, args=(0.02,), name="collector")
        serving.start()
        try:
            yield collector
        finally:
            server.shutdown()
            serving.join()


def _plain(attributes: Sequence[KeyValue]) -> dict[str, Any]:
    return {one.key: _value(one.value) for one in attributes}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind) if kind else None
