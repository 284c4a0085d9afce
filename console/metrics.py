"""What the console says of itself at /ready and /metrics (`vitals.health`)."""

from collections.abc import Iterator

from fastapi import FastAPI
from prometheus_client import Counter, Histogram
from prometheus_client.metrics_core import Metric
from starlette.types import Scope

from config.settings import Settings
from console.live import Live
from vitals.health import Report
from vitals.metrics import SECOND_BUCKETS, gauge

REQUESTS = Counter(
    "wallet_console_requests",
    "Requests answered, by the route that took them.",
    ("method", "route", "status"),
)
SECONDS = Histogram(
    "wallet_console_request_duration_seconds",
    "From a request to the beginning of its answer, what it waits for included.",
    ("route",),
    buckets=SECOND_BUCKETS,
)
METHODS = frozenset({"GET", "HEAD", "POST"})


def route_of(scope: Scope) -> str:
    """The route of a request and not its address, which may contain anything."""
    return str(getattr(scope.get("route"), "path", "none"))


def count(scope: Scope, status: int, seconds: float) -> None:
    """Count an answer that begins."""
    route, method = route_of(scope), scope["method"]
    REQUESTS.labels(method if method in METHODS else "other", route, str(status)).inc()
    SECONDS.labels(route).observe(seconds)


class ConsoleReport(Report):
    """Whether a console follows Kafka, and who waits."""

    def __init__(self, settings: Settings, app: FastAPI) -> None:
        super().__init__("console", settings.prefix)
        self._app = app

    @property
    def _live(self) -> Live | None:
        return getattr(self._app.state, "live", None)

    def not_ready(self) -> list[str]:
        """Why it cannot answer what Kafka alone knows."""
        if self._live is None:
            return ["it has just started"]
        return [] if self._live.problem is None else [f"Kafka cannot be followed: {self._live.problem}"]

    def collect(self) -> Iterator[Metric]:
        """Who waits now."""
        if self._live is not None:
            outcomes = self._live.outcomes
            for name, text, value in (
                ("waiting_requests", "Requests that wait for an outcome.", outcomes.waiting),
                ("feeds", "Live feeds that are open.", outcomes.feeds),
                ("known_outcomes", "Outcomes in memory.", outcomes.known),
            ):
                yield gauge(f"wallet_console_{name}", text, value=value)
        yield gauge("wallet_console_ready", "1 if /ready says so, else 0.", value=not self.not_ready())
