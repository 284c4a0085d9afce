"""A pipeline with a worker, sinks and consoles as processes, and a client that sends paths as they are."""

import base64
import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from config.settings import Settings
from local.stack import Addresses
from operations.sending.generator import Mix, records
from operations.setup import init
from tests.conftest import settings_on
from tests.integration.pipelines import Upstream
from tests.integration.workers import PATIENCE_S, Worker, wait_until

TOKEN = "test-token-0123456789"  # noqa: S105 - of no use elsewhere
UNAVAILABLE = 503
JSON = {"Content-Type": "application/json"}


@dataclass
class Answer:
    """What a console answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        """The body as an object."""
        found: dict[str, Any] = json.loads(self.body)
        return found


class Console:
    """A `wallet console` of its own, and requests to it."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self.process = Worker(settings, log, "console")
        wait_until(lambda: "console http://" in self.process.text(), "it listens", self.process.check_runs)
        told = next(line for line in self.process.text().splitlines() if line.startswith("console http://"))
        self.url = told.split()[1].rstrip("/")
        self.host, self.port = urlsplit(self.url).hostname or "", urlsplit(self.url).port or 0

    @property
    def knows_kafka(self) -> bool:
        """Whether it answers what only Kafka knows, and so takes transactions."""
        return self.ask("/api/v1/outcomes/0/0").status != UNAVAILABLE

    def ask(
        self, path: str, method: str = "GET", body: object = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """One request; `body` is JSON unless it is bytes."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE_S)
        try:
            sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, sent, headers or {})
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def get(self, path: str) -> dict[str, Any]:
        """What the API answers with 200."""
        answer = self.ask(f"/api/v1{path}")
        assert answer.status == 200, (path, answer.status, answer.body)
        return answer.json

    def post(self, one: object, wait_s: float | str = 30, token: str = TOKEN) -> Answer:
        """A transaction."""
        headers = JSON | {"Authorization": f"Bearer {token}"}
        return self.ask(f"/api/v1/transactions?wait_s={wait_s}", "POST", one, headers)


@dataclass
class Scene:
    """One pipeline, everything of it running."""

    settings: Settings
    console: Console
    worker: Worker
    sink: Worker
    folder: Path
    more: list[Console] = field(default_factory=list)

    def another(self, **changes: object) -> Console:
        """A further console, with settings of its own."""
        console = Console(
            self.settings.model_copy(update=changes), self.folder / f"console-{len(self.more)}.log"
        )
        self.more.append(console)
        return console

    def wait_until_written(self) -> None:
        """Return when the tables are as far as the input."""

        def written() -> bool:
            places = self.console.get("/pipeline")["places"]
            return bool(places) and all(one["lag"] == "0" for one in places)

        wait_until(written, "everything is in the tables", self.console.process.check_runs)


@contextmanager
def scene(addresses: Addresses, folder: Path, **changes: object) -> Iterator[Scene]:
    """A pipeline of its own on these servers, removed after it."""
    plain = Settings(
        _env_file=None,
        state_dir=folder / "state",
        partitions=4,
        session_timeout_s=6,
        overdraft="reject",
        console_port=0,
        console_writes=True,
        console_token=SecretStr(TOKEN),
        console_connections=3,
    ).model_copy(update=changes)
    with settings_on(addresses, plain) as settings:
        init.initialise(settings)
        running = [
            Worker(settings, folder / "worker.log"),
            Worker(settings, folder / "sink.log", "sink"),
        ]
        consoles = [Console(settings, folder / "console.log")]
        place = Scene(settings, consoles[0], running[0], running[1], folder, consoles)
        try:
            place.worker.wait_until_told("ready", settings.partitions)
            wait_until(lambda: place.console.knows_kafka, "the console has reached Kafka")
            yield place
        finally:
            for process in [*running, place.worker, *[one.process for one in consoles]]:
                process.kill()


@contextmanager
def scene_after_mixed_input(addresses: Addresses, folder: Path) -> Iterator[Scene]:
    """A pipeline that went through 3,000 records of every kind, all of them in the tables."""
    with scene(addresses, folder) as found:
        mix = Mix(wallets=60, bad=0.08, duplicates=0.03, seed=11, partitions=4, overdraft_rejected=True)
        Upstream(found.settings).send(records(3_000, mix))
        found.wait_until_written()
        yield found


def of_base64(text: str | None) -> bytes | None:
    """The bytes in base64."""
    return None if text is None else base64.b64decode(text)
