"""A registry in a thread: Confluent's API as far as we call it, and able to be away or to talk nonsense."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote

Answer = tuple[int, object]


class RegistryServer:
    """What it holds is `subjects`; `before` are answers to give first, whatever is asked."""

    def __init__(self) -> None:
        self.url = ""
        self.subjects: dict[str, list[int]] = {}
        self.schemas: list[str] = []
        self.compatibility: dict[str, str] = {}
        self.asked: list[str] = []
        self.authorization: set[str | None] = set()
        self.before: list[Answer] = []

    def add(self, subject: str, text: str) -> int:
        """Register a schema and return its id."""
        if text not in self.schemas:
            self.schemas.append(text)
        schema_id = self.schemas.index(text) + 1
        listed = self.subjects.setdefault(subject, [])
        if schema_id not in listed:
            listed.append(schema_id)
        return schema_id

    def answer(self, method: str, path: str, body: dict[str, str]) -> Answer:
        self.asked.append(f"{method} {path}")
        if self.before:
            return self.before.pop(0)
        if found := re.fullmatch(r"/schemas/ids/(\d+)(/versions)?", path):
            return self._schema(int(found[1]), found[2])
        if method == "GET" and (found := re.fullmatch(r"/subjects/([^/]+)/versions(?:/(\d+))?", path)):
            return self._versions(unquote(found[1]), found[2])
        if found := re.fullmatch(r"/subjects/([^/]+)(/versions)?", path):
            return self._subject(unquote(found[1]), found[2], body["schema"])
        if found := re.fullmatch(r"/config/([^/]+)", path):
            self.compatibility[unquote(found[1])] = body["compatibility"]
            return 200, {"compatibility": body["compatibility"]}
        return 404, "no such page"

    def _schema(self, schema_id: int, versions: str | None) -> Answer:
        if not 1 <= schema_id <= len(self.schemas):
            return 404, {"error_code": 40403, "message": "Schema not found"}
        if versions:
            listing = [subject for subject, ids in self.subjects.items() if schema_id in ids]
            return 200, [{"subject": subject, "version": 1} for subject in listing]
        return 200, {"schema": self.schemas[schema_id - 1]}

    def _versions(self, subject: str, number: str | None) -> Answer:
        ids = self.subjects.get(subject)
        if ids is None:
            return 404, {"error_code": 40401, "message": "Subject not found"}
        if number is None:
            return 200, [*range(1, len(ids) + 1)]
        schema_id = ids[int(number) - 1]
        return 200, {"id": schema_id, "schema": self.schemas[schema_id - 1]}

    def _subject(self, subject: str, versions: str | None, text: str) -> Answer:
        if versions:
            return 200, {"id": self.add(subject, text)}
        for schema_id in self.subjects.get(subject, []):
            if self.schemas[schema_id - 1] == text:
                return 200, {"id": schema_id}
        return 404, {"error_code": 40403, "message": "Schema not found"}


@contextmanager
def running() -> Iterator[RegistryServer]:
    """A registry on a free port of this machine."""
    registry = RegistryServer()

    class Handler(BaseHTTPRequestHandler):
        def reply(self) -> None:
            registry.authorization.add(self.headers["Authorization"])
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)) or "{}")
            status, answer = registry.answer(self.command, self.path, body)
            encoded = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(encoded)))
            self.end_headers()
            self.wfile.write(encoded)

        do_GET = do_POST = do_PUT = reply  # noqa: N815 - the names that http.server looks for

        def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - the name in http.server
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    registry.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
