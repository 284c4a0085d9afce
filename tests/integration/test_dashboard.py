"""The Grafana dashboard: a real Prometheus, scraping a loaded pipeline, answers each of its queries."""

import json
import re
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from pydantic import SecretStr

from config.settings import Settings
from operations.setup.init import initialise
from tests.integration.consoles import TOKEN, Console
from tests.integration.pipelines import Rig, small
from tests.integration.test_watchdog import address_of, ask, wait_until_ready
from tests.integration.workers import wait_until

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
DASHBOARD: dict[str, Any] = json.loads((ROOT / "config/deployment/grafana-dashboard.json").read_text())
DOCS = (ROOT / "docs/operations/metrics.md").read_text()
#: Of the scrape configuration (docs/operations/metrics.md).
OF_TARGETS = {"pipeline", "instance", "job", "role"}
#: At least four scrapes.
RATE_INTERVAL = "8s"
SCRAPE_S = 1
ROLES = {"worker", "sink", "console"}
POSTED = {
    "wallet_id": "w1",
    "type": "CREDIT",
    "amount": "1",
    "currency": "EUR",
    "occurred_at": "2026-01-01T00:00:00Z",
}


class Query(NamedTuple):
    """One line of a panel."""

    panel: str
    expr: str
    legend: str

    @property
    def metrics(self) -> set[str]:
        """The metrics that it names."""
        return set(re.findall(r"\b(?:wallet|process)_\w+\b", self.expr))

    @property
    def labels(self) -> set[str]:
        """The labels that it selects and groups by, and those of its legend."""
        grouped = re.findall(r"\b(?:by|on) \(([^)]*)\)", self.expr)
        return (
            {name.strip() for names in grouped for name in names.split(",")}
            | set(re.findall(r"(\w+)(?:=~|!=|!~|=)\"", self.expr))
            | set(re.findall(r"{{(\w+)}}", self.legend))
        )


QUERIES = [
    Query(panel["title"], target["expr"], target["legendFormat"])
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", ())
]


class Prometheus:
    """A server that scrapes the processes of one state folder."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        found = {"files": [f"{settings.state_dir}/http/*.json"], "refresh_interval": "1s"}
        scraped = {"job_name": "wallet", "file_sd_configs": [found]}
        conf = {"global": {"scrape_interval": f"{SCRAPE_S}s"}, "scrape_configs": [scraped]}
        (folder / "prometheus.yml").write_text(json.dumps(conf))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.log = (folder / "prometheus.log").open("w")
        self.process = subprocess.Popen(
            [
                "prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address={self.address}",
            ],
            stdout=self.log, stderr=self.log,
        )  # fmt: skip

    def is_ready(self) -> bool:
        """Whether it answers."""
        assert self.process.poll() is None
        try:
            return ask(self.address, "/-/ready")[0] == 200
        except (urllib.error.URLError, OSError):
            return False

    def get(self, path: str, **query: str) -> Any:
        """The data of an answer."""
        url = f"http://{self.address}/api/v1/{path}?{urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                found = json.load(answer)
        except urllib.error.HTTPError as refused:
            with refused:
                pytest.fail(f"{query}: {refused.read().decode()}")
        return found["data"]

    def close(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(30)
        self.log.close()


@contextmanager
def scraping(settings: Settings, folder: Path) -> Iterator[Prometheus]:
    server = Prometheus(settings, folder)
    try:
        wait_until(server.is_ready, "Prometheus is ready")
        yield server
    finally:
        server.close()


def as_grafana_asks(expr: str) -> str:
    return expr.replace("$__rate_interval", RATE_INTERVAL).replace("$pipeline", ".*")


def test_every_query_has_an_answer_and_names_what_there_is(settings: Settings, tmp_path: Path) -> None:
    if not shutil.which("prometheus"):
        pytest.skip("promtool is not installed (Debian: the package prometheus)")
    watched = small(
        settings, http_port=0, console_port=0, console_writes=True, console_token=SecretStr(TOKEN)
    )
    initialise(watched)
    with Rig(watched, tmp_path) as rig, scraping(watched, tmp_path) as prometheus:
        rig.send(100)
        rig.start()
        rig.start("sink")
        console = Console(watched, tmp_path / "console.log")
        rig.workers.append(console.process)
        addresses = [address_of(watched, role) for role in ROLES]
        for address in addresses:
            wait_until_ready(address)

        def is_scraped_under_load() -> bool:
            rig.send(50)
            assert console.post(POSTED | {"transaction_id": str(uuid4())}).status == 201
            rates, posts = (
                prometheus.get("query", query=f"sum by (role) (rate({name}[{RATE_INTERVAL}]))")["result"]
                for name in ("process_cpu_seconds_total", "wallet_console_requests_total")
            )
            return {one["metric"]["role"] for one in rates} == ROLES and bool(posts)

        wait_until(is_scraped_under_load, "all are scraped often enough")
        declared = set[str]()
        for address in addresses:
            for name, kind in re.findall(r"^# TYPE (\S+) (\S+)", ask(address, "/metrics")[1], re.MULTILINE):
                parts = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
                declared |= {name + part for part in parts}
        for query in QUERIES:
            assert query.metrics <= declared, query
            labels = set[str]()
            for name in query.metrics:
                labels |= {label for one in prometheus.get("series", **{"match[]": name}) for label in one}
            assert query.labels <= labels | OF_TARGETS, query
            assert prometheus.get("query", query=as_grafana_asks(query.expr))["result"], query


def test_every_metric_of_the_dashboard_is_in_the_docs_and_the_dashboard_shows_most_of_them() -> None:
    documented = set(re.findall(r"^\| `(wallet_\w+)", DOCS, re.MULTILINE))
    shown = {
        name if name in documented else re.sub(r"_(bucket|sum|count)$", "", name)
        for query in QUERIES
        for name in query.metrics
        if name.startswith("wallet_")
    }
    assert shown <= documented
    assert documented - shown == {
        # Offsets and counts from which the shown ones are made, or of the program itself.
        "wallet_worker_position", "wallet_worker_last_stable_offset", "wallet_worker_end_offset",
        "wallet_worker_recovered_records_total", "wallet_worker_recovery_duration_seconds",
        "wallet_sink_records_total", "wallet_sink_position", "wallet_sink_last_stable_offset", "wallet_sink_end_offset",
        "wallet_sink_held_back_offsets", "wallet_sink_partitions", "wallet_archive_months_sealed_total",
        "wallet_archive_months_moved_total", "wallet_archive_last_lock_wait_seconds", "wallet_watchdog_looks_total",
        "wallet_console_known_outcomes", "wallet_console_ready",
    }  # fmt: skip


def test_panels_do_not_overlap_and_each_says_what_it_shows() -> None:
    taken = set[tuple[int, int]]()
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
        assert panel["type"] == "row" or panel["description"]
