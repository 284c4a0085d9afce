"""OpenTelemetry spans, one a batch, linked to the traces of the producers whose records it holds.

Off unless an `OTEL_*` variable asks for them; nothing of OpenTelemetry is imported then. They never hold anything up:
the SDK's own thread sends them, what it cannot send is dropped, and the end of the process waits `END_S` for it.
"""

import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from threading import Thread
from typing import TYPE_CHECKING

from config.errors import ConfigurationError
from config.logs import EventLog
from topics.source import Headers

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Link, Tracer

log = EventLog("vitals.spans")

#: The header in which a producer tells its trace (W3C Trace Context), and how long one may be.
PARENT, PARENT_BYTES = "traceparent", 512
#: Links of one span, and partitions whose offsets it tells.
MOST = 128
#: Spans that wait to be sent, and that are sent together. One with all its links takes 80 KB.
QUEUE_SPANS, SENT_SPANS = 256, 64
#: Seconds that the end of the process waits until the last spans are sent.
END_S = 3.0
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
#: What a variable must match if it is set, and how we say so: other values would fail later, span after span.
MUST_BE = {
    "OTEL_TRACES_EXPORTER": ("otlp", "otlp or none"),
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": ("http/protobuf", "http/protobuf"),
    "OTEL_EXPORTER_OTLP_PROTOCOL": ("http/protobuf", "http/protobuf"),
    **dict.fromkeys(ENDPOINTS, (r"https?://[^/\s]+\S*", "an http or https URL")),
}

#: A record's partition, offset and headers.
Read = tuple[int, int, Headers]

#: What makes spans while they are exported; one a process, as its metrics are.
_tracer: "Tracer | None" = None


@contextmanager
def exported(role: str, pipeline: str) -> Iterator[None]:
    """Export the spans of what runs inside, if a variable asks for it; `role` is `worker` or `sink`.

    Without the optional libraries it only logs that there will be none. Raises ConfigurationError if a variable asks
    for what we cannot do.
    """
    global _tracer  # noqa: PLW0603 - see there
    asking = asked_by(os.environ)
    if asking is None:
        yield
        return
    try:
        provider = _provider(role, pipeline)
    except ImportError:
        # A platform may set these variables for everything that it runs, and no ledger should stand still for that.
        log.warning("not_tracing", asked_by=asking, reason="wallet-ledger[otel] is not installed")
        yield
        return
    _tracer = provider.get_tracer("wallet-ledger")
    log.info("tracing", asked_by=asking)
    try:
        yield
    finally:
        _tracer = None
        # In a thread: the SDK's own bound is half a minute.
        ending = Thread(target=provider.shutdown, name="last-spans", daemon=True)
        ending.start()
        ending.join(END_S)
        if ending.is_alive():
            log.warning("spans_dropped", after_s=END_S, reason="the collector does not answer")


def asked_by(variables: Mapping[str, str]) -> str | None:
    """The variable that asks for spans, None if none does; an empty one counts as not set."""
    if variables.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    if exporter := variables.get("OTEL_TRACES_EXPORTER", "").strip():
        return None if exporter == "none" else "OTEL_TRACES_EXPORTER"
    return next((name for name in ENDPOINTS if variables.get(name, "").strip()), None)


def _provider(role: str, pipeline: str) -> "TracerProvider":
    for name, (form, told) in MUST_BE.items():
        # Not the value: an address may hold a password.
        if (text := os.environ.get(name, "").strip()) and not re.fullmatch(form, text):
            raise ConfigurationError(f"{name} must be {told}")
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    ours = Resource.create({"service.name": f"wallet-{role}", "wallet.pipeline": pipeline})
    try:
        provider = TracerProvider(
            resource=ours.merge(OTELResourceDetector().detect()), shutdown_on_exit=False
        )
        sending = BatchSpanProcessor(OTLPSpanExporter(), QUEUE_SPANS, max_export_batch_size=SENT_SPANS)
    except ValueError as wrong:
        raise ConfigurationError(f"a variable OTEL_* is wrong: {wrong}") from None
    provider.add_span_processor(sending)
    return provider


def batch(topic: str, group: str, records: Iterable[Read], took_s: float, **outcome: str | int) -> None:
    """Tell of a batch that was just committed and took so long; does nothing while spans are off.

    `records` are in the order of their offsets, and not looked at while spans are off; `outcome` becomes attributes in
    `wallet.`. The other names are those of OpenTelemetry's semantic conventions for messaging.
    """
    tracer = _tracer
    if tracer is None:
        return
    from opentelemetry.context import Context
    from opentelemetry.trace import SpanKind

    ended_ns, read = time.time_ns(), list(records)
    attributes = {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": topic,
        "messaging.consumer.group.name": group,
        "messaging.batch.message_count": len(read),
        **_places(read),
        **{f"wallet.{name}": value for name, value in outcome.items()},
    }
    began_ns = ended_ns - int(took_s * 1e9)
    span = tracer.start_span(
        f"process {topic}", Context(), SpanKind.CONSUMER, attributes, _links(read), began_ns
    )
    span.end(ended_ns)


def _places(read: Sequence[Read]) -> dict[str, str | int | list[str]]:
    """The first and last offset; where there are several partitions, `partition:first-last` of each."""
    lasts = {partition: offset for partition, offset, _ in read}
    firsts = {partition: offset for partition, offset, _ in reversed(read)}
    if len(lasts) == 1:
        [(partition, last)] = lasts.items()
        one = {"wallet.first_offset": firsts[partition], "wallet.last_offset": last}
        return {"messaging.destination.partition.id": str(partition), **one}
    return {"wallet.offsets": [f"{one}:{firsts[one]}-{lasts[one]}" for one in islice(sorted(lasts), MOST)]}


def _links(read: Iterable[Read]) -> "list[Link]":
    """A link to each trace that a producer has told, to the first ones if there are many.

    Only by `traceparent`, which is small: a `tracestate` may be as large as its record, and spans wait in memory.
    """
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, get_current_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    extract = TraceContextTextMapPropagator().extract
    # Many records of one producer have the same parent, which need not be read again.
    seen, links = set[bytes](), dict[tuple[int, int], Link]()
    for _, _, headers in read:
        parent = dict(headers).get(PARENT) if headers else None
        if not parent or parent in seen or len(parent) > PARENT_BYTES:
            continue
        seen.add(parent)
        told = extract({PARENT: parent.decode("ascii", "replace")}, Context())
        producer = get_current_span(told).get_span_context()
        if producer.is_valid:
            links.setdefault((producer.trace_id, producer.span_id), Link(producer))
        if len(links) == MOST:
            break
    return [*links.values()]
