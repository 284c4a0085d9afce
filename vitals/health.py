"""The HTTP endpoints of a worker, sink or console: /live, /ready and /metrics, off unless `WALLET_HTTP_PORT` is set.

It answers from its own threads, so also while an event loop is blocked, and without asking a server: readiness and
metrics report what the watchdog saw last. Neither contains record contents.
"""

import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Protocol

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, disable_created_metrics
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric

from config.errors import ConfigurationError
from config.folders import make_private
from config.logs import EventLog
from config.settings import Settings
from vitals.metrics import standing_families, tell_build
from vitals.watchdog import Look, Watchdog, Watched

log = EventLog("vitals.health")

#: Seconds after which a silent client is dropped.
REQUEST_S = 10.0
TEXT = "text/plain; charset=utf-8"


class Subject(Watched, Protocol):
    """What health reports about a worker or sink; called from this module's threads."""

    @property
    def role(self) -> str:
        """`worker` or `sink`: part of the names of metrics."""

    def not_ready(self, look: Look) -> list[str]:
        """Why it is not ready, one line per reason; empty if it is."""

    def families(self) -> Iterable[Metric]:
        """Current gauges, in addition to the counters."""


@contextmanager
def observed(settings: Settings, subject: Subject) -> Iterator[str | None]:
    """Watch a worker or sink while it runs, and serve its health over HTTP; yields the address, if any.

    Raises ConfigurationError if the port is taken.
    """
    if not settings.watchdog_s and settings.http_port is None:
        yield None
        return
    watchdog = Watchdog(settings, subject)
    server = None if settings.http_port is None else _listen(settings)
    watchdog.start()
    try:
        if server is None:
            yield None
        else:
            with _serving(settings, server, WatchedReport(settings, subject, watchdog)) as address:
                yield address
    finally:
        watchdog.stop()


class Report(ABC):
    """Builds the answers of a process of this role; called from the server's threads."""

    def __init__(self, role: str, pipeline: str) -> None:
        self.role = role
        self._moment = CollectorRegistry()
        self._moment.register(self)
        # Switch off the extra `_created` series of each counter. The function is untyped.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        tell_build(role, pipeline)

    @abstractmethod
    def not_ready(self) -> list[str]:
        """Why the process is not ready; empty if it is."""

    @abstractmethod
    def collect(self) -> Iterator[Metric]:
        """Current metrics, for prometheus_client."""

    def answer(self, path: str) -> tuple[HTTPStatus, str, bytes]:
        """Status, content type and body for a path."""
        if path == "/live":
            return HTTPStatus.OK, TEXT, b"live\n"
        if path == "/ready":
            reasons = self.not_ready()
            status = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
            return status, TEXT, "".join(f"{line}\n" for line in reasons or ["ready"]).encode()
        if path == "/metrics":
            return (
                HTTPStatus.OK,
                CONTENT_TYPE_LATEST,
                generate_latest(REGISTRY) + generate_latest(self._moment),
            )
        return HTTPStatus.NOT_FOUND, TEXT, b"there are /live, /ready and /metrics\n"

    def describe(self) -> list[Metric]:
        """Nothing, so that registering does not collect."""
        return []


class WatchedReport(Report):
    """The answers of a worker or sink, from what its watchdog saw last."""

    def __init__(self, settings: Settings, subject: Subject, watchdog: Watchdog) -> None:
        super().__init__(subject.role, settings.prefix)
        self._subject, self._watchdog = subject, watchdog

    def not_ready(self) -> list[str]:
        """Why the process is not ready; empty if it is."""
        look = self._watchdog.look
        if look.at is None:
            return ["it has just started"]
        reasons = self._subject.not_ready(look)
        if look.problem is not None:
            reasons.append(f"the watchdog cannot look: {look.problem}")
        if not look.kafka_answers:
            reasons.append("Kafka does not answer")
        if (age_s := time.monotonic() - look.at) > self._watchdog.overdue_s:
            reasons.append(f"the watchdog has not looked for {age_s:.0f} s")
        return reasons + self._watchdog.still()

    def collect(self) -> Iterator[Metric]:
        """Current metrics, for prometheus_client."""
        reasons = self.not_ready()
        yield from self._subject.families()
        yield from standing_families(self.role, self._watchdog.look, ready=not reasons)


@contextmanager
def reported(settings: Settings, report: Report) -> Iterator[None]:
    """Serve a report over HTTP, if `WALLET_HTTP_PORT` is set; raises ConfigurationError if the port is taken."""
    if settings.http_port is None:
        yield
        return
    with _serving(settings, _listen(settings), report):
        yield


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    report: Report

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that disconnect."""


class _Handler(BaseHTTPRequestHandler):
    timeout = REQUEST_S
    server: _Server
    server_version = "wallet"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer from what is already known."""
        status, kind, body = self.server.report.answer(self.path.split("?")[0])
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is http.server's
        """Do not log requests."""


def _listen(settings: Settings) -> _Server:
    place = (settings.http_host, settings.http_port or 0)
    try:
        return _Server(place, _Handler)
    except OSError as failure:
        raise ConfigurationError(
            f"cannot listen on {place[0]}:{place[1]} ({failure.strerror}): set WALLET_HTTP_PORT to another "
            "port, or to 0 for any free one"
        ) from None


@contextmanager
def _serving(settings: Settings, server: _Server, report: Report) -> Iterator[str]:
    server.report = report
    host, port = settings.http_host, server.server_address[1]
    address = f"{host}:{port}"
    note = None if settings.http_port else _note(settings, report.role, address)
    log.info("listening", address=f"http://{address}", file=note or "none")
    Thread(target=server.serve_forever, name="http", daemon=True).start()
    try:
        yield address
    finally:
        server.shutdown()
        server.server_close()
        if note is not None:
            note.unlink(missing_ok=True)


def _note(settings: Settings, role: str, address: str) -> Path | None:
    """Write the address with a freely chosen port to a file for Prometheus's file_sd_configs."""
    folder = settings.state_dir / "http"
    note = folder / f"{role}-{os.getpid()}.json"
    try:
        make_private(settings.state_dir)
        folder.mkdir(exist_ok=True)
        for old in folder.glob("*-*.json"):
            if not _lives(old.stem.rpartition("-")[2]):
                old.unlink(missing_ok=True)
        target = {"targets": [address], "labels": {"role": role, "pipeline": settings.prefix}}
        writing = note.with_suffix(".new")
        writing.write_text(json.dumps([target]) + "\n")
        writing.replace(note)
    except OSError as failure:
        log.warning("address_not_written", folder=folder, reason=failure.strerror)
        return None
    return note


def _lives(pid: str) -> bool:
    """Whether this process exists; a killed one could not remove its file."""
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True
