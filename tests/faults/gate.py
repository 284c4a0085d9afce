"""A gate between the sinks and PostgreSQL that can lose an answer, or cut a connection in the middle of a COPY."""

import socket
import threading
from contextlib import suppress
from enum import Enum, auto

CHUNK = 65_536
#: What a session sends before its rows, and to commit.
COPY, COMMIT = b"COPY ", b"COMMIT"


class Mood(Enum):
    """What the gate does with what passes."""

    OPEN = auto()
    #: A session's first bytes of rows are cut in half, and the connection with them.
    CUTS_COPIES = auto()
    #: After a session has said COMMIT, it hears nothing any more.
    SWALLOWS_ANSWERS = auto()


class Gate:
    """Listens on a free port of loopback and hands everything on to the port behind it."""

    def __init__(self, behind: int) -> None:
        self._behind = behind
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._passages: set[_Passage] = set()
        self._lock = threading.Lock()
        #: How often a copy was cut, and a commit went unanswered.
        self.cuts = 0
        self.swallowed = 0
        self.mood = Mood.OPEN
        threading.Thread(target=self._accept, name="gate", daemon=True).start()

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._listener.getsockname()[1]
        return port

    def cut_all(self) -> None:
        """Cut every connection."""
        with self._lock:
            passages = list(self._passages)
        for passage in passages:
            passage.cut()

    def close(self) -> None:
        """Listen no more and cut every connection."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut_all()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            try:
                server = socket.create_connection(("127.0.0.1", self._behind), timeout=5)
            except OSError:
                client.close()  # as if nobody listened
                continue
            server.settimeout(None)
            passage = _Passage(self, client, server)
            with self._lock:
                self._passages.add(passage)
            passage.start()

    def left(self, passage: "_Passage") -> None:
        """Forget a connection that has ended."""
        with self._lock:
            self._passages.discard(passage)


class _Passage:
    """One connection through the gate."""

    def __init__(self, gate: Gate, client: socket.socket, server: socket.socket) -> None:
        self._gate, self._client, self._server = gate, client, server
        self._copying = self._deaf = False

    def start(self) -> None:
        """Hand on in both directions, each in a thread of its own."""
        for work in (self._to_server, self._to_client):
            threading.Thread(target=work, name="passage", daemon=True).start()

    def cut(self) -> None:
        """End the connection for both sides."""
        for end in (self._client, self._server):
            with suppress(OSError):  # it was cut before
                end.shutdown(socket.SHUT_RDWR)
        self._gate.left(self)

    def _to_server(self) -> None:
        try:
            while piece := self._client.recv(CHUNK):
                if self._copying and self._gate.mood is Mood.CUTS_COPIES:
                    self._gate.cuts += 1
                    self._server.sendall(piece[: len(piece) // 2])
                    break
                self._copying = COPY in piece
                if COMMIT in piece and self._gate.mood is Mood.SWALLOWS_ANSWERS:
                    self._deaf = True
                    self._gate.swallowed += 1
                self._server.sendall(piece)
        except OSError:
            pass  # either side has gone: the other one is told below
        finally:
            self.cut()
            self._client.close()

    def _to_client(self) -> None:
        try:
            while piece := self._server.recv(CHUNK):
                if not self._deaf:
                    self._client.sendall(piece)
        except OSError:
            pass
        finally:
            self.cut()
            self._server.close()
