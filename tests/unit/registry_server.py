"""A registry in a thread: Confluent's API as far as we call it, and able to be away or to talk nonsense."""

import json
import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote

Answer = tuple[int, object]


class RegistryServer:
    """What it holds is `subjects`; `before` are answers to give first, whatever is asked. Ids begin with `first_id`."""

    def __init__(self, first_id: int = 1) -> None:
        self.url = ""
        self.first_id = first_id
        self.subjects: dict[str, list[int]] = {}
        #: Subjects and ids whose versions were deleted, softly: who asks for them too is told.
        self.deleted: set[tuple[str, int]] = set()
        self.schemas: list[str] = []
        self.references: dict[int, list[dict[str, Any]]] = {}
        self.compatibility: dict[str, str] = {}
        self.asked: list[str] = []
        self.authorization: set[str | None] = set()
        self.before: list[Answer] = []
        #: Of every answer.
        self.headers: dict[str, str] = {}
        #: How an answer is sent, where it is not as it should be: given the connection's file and the bytes.
        self.send: Callable[[Any, bytes], None] = lambda file, answer: file.write(answer)

    def add(self, subject: str, text: str, *references: tuple[str, str]) -> int:
        """Register a schema that refers to (name, subject), and return its id."""
        if text not in self.schemas:
            self.schemas.append(text)
        schema_id = self.schemas.index(text) + self.first_id
        listed = self.subjects.setdefault(subject, [])
        if schema_id not in listed:
            listed.append(schema_id)
        if references:
            self.references[schema_id] = [
                {"name": name, "subject": referred, "version": 1} for name, referred in references
            ]
        return schema_id

    def answer(self, method: str, target: str, body: dict[str, Any]) -> Answer:
        self.asked.append(f"{method} {target}")
        if self.before:
            return self.before.pop(0)
        path, _, query = target.partition("?")
        deleted = "deleted=true" in query
        if found := re.fullmatch(r"/schemas/ids/(\d+)(/versions)?", path):
            return self._schema(int(found[1]), found[2], deleted=deleted)
        if method == "GET" and (found := re.fullmatch(r"/subjects/([^/]+)/versions(?:/(\d+))?", path)):
            return self._versions(unquote(found[1]), found[2], deleted=deleted)
        if found := re.fullmatch(r"/subjects/([^/]+)(/versions)?", path):
            return self._subject(unquote(found[1]), found[2], body["schema"])
        if found := re.fullmatch(r"/config/([^/]+)", path):
            self.compatibility[unquote(found[1])] = body["compatibility"]
            return 200, {"compatibility": body["compatibility"]}
        return 404, "no such page"

    def _schema(self, schema_id: int, versions: str | None, *, deleted: bool) -> Answer:
        if not 0 <= schema_id - self.first_id < len(self.schemas):
            return 404, {"error_code": 40403, "message": "Schema not found"}
        if versions:
            listing = [
                subject for subject in self.subjects if schema_id in self._listed(subject, deleted=deleted)
            ]
            return 200, [{"subject": subject, "version": 1} for subject in listing]
        return 200, self._told(schema_id)

    def _told(self, schema_id: int) -> dict[str, Any]:
        told: dict[str, Any] = {"schema": self.schemas[schema_id - self.first_id]}
        return told | ({"references": self.references[schema_id]} if schema_id in self.references else {})

    def _listed(self, subject: str, *, deleted: bool) -> list[int]:
        return [one for one in self.subjects[subject] if deleted or (subject, one) not in self.deleted]

    def _versions(self, subject: str, number: str | None, *, deleted: bool) -> Answer:
        if subject not in self.subjects:
            return 404, {"error_code": 40401, "message": "Subject not found"}
        ids = self.subjects[subject]
        if number is None:
            return 200, [ids.index(one) + 1 for one in self._listed(subject, deleted=deleted)]
        schema_id = ids[int(number) - 1]
        if schema_id not in self._listed(subject, deleted=deleted):
            return 404, {"error_code": 40402, "message": "Version not found"}
        return 200, {"id": schema_id, **self._told(schema_id)}

    def _subject(self, subject: str, versions: str | None, text: str) -> Answer:
        if versions:
            return 200, {"id": self.add(subject, text)}
        for schema_id in self.subjects.get(subject, []):
            if self.schemas[schema_id - self.first_id] == text:
                return 200, {"id": schema_id}
        return 404, {"error_code": 40403, "message": "Schema not found"}


@contextmanager
def running(first_id: int = 1, tls: ssl.SSLContext | None = None) -> Iterator[RegistryServer]:
    """A registry on a free port of this machine."""
    registry = RegistryServer(first_id)

    class Handler(BaseHTTPRequestHandler):
        def reply(self) -> None:
            registry.authorization.add(self.headers["Authorization"])
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)) or "{}")
            status, answer = registry.answer(self.command, self.path, body)
            encoded = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            for name, text in registry.headers.items():
                self.send_header(name, text)
            self.send_header("Content-Length", str(len(encoded)))
            self.end_headers()
            with suppress(OSError):  # who asked may have gone
                registry.send(self.wfile, encoded)

        do_GET = do_POST = do_PUT = reply  # noqa: N815 - the names that http.server looks for

        def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - the name in http.server
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    registry.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
