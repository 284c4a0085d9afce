"""How long a POST of a transaction takes until it is answered with what became of it.

One process sends by a plan, over connections that it keeps and as many new ones as it needs; others wait meanwhile for
records that do not come. A request's time begins when the plan has it sent.
"""

import asyncio
import json
import random
import resource
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from secrets import token_hex
from typing import cast
from urllib.parse import urlsplit
from uuid import uuid4

from pydantic import SecretStr

from benchmarks.end_to_end import Running
from benchmarks.filling import wallet_name
from benchmarks.latency import in_process, percentiles
from benchmarks.measurement import PATIENCE_S
from config.errors import Stopped
from operations.demo.running import address_of

#: How long a request may wait for its outcome.
WAIT_S = 30
#: First, at a quarter of the rate, and not counted: Kafka's program compiles itself for half a minute.
WARM_S = 40.0
#: Then at the full rate, and not counted either: the connections are made.
CONNECTING_S = 5.0
#: An offset that no input of ours reaches.
NEVER = 1_000_000_000
POST = (
    "POST /api/v1/transactions?wait_s={wait_s} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\n"
)
BODY = "content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
WAIT = "GET /api/v1/outcomes/0/{offset}?wait_s={wait_s} HTTP/1.1\r\nhost: {host}\r\n\r\n"


def measure(pipeline: Running, rate: int, waiting: int, seconds: float) -> dict[str, float]:
    """p50, p99 and the longest in milliseconds from POST to 201 while that many others wait.

    Raises Stopped if a request gets another answer, or none.
    """
    with _console(pipeline) as (address, token):
        work = (address, token, pipeline.wallets, rate, waiting, seconds)
        with in_process(_post, *work) as sender:
            if not sender.poll(PATIENCE_S + WARM_S + CONNECTING_S + seconds + WAIT_S):
                raise Stopped(f"not all POSTs were answered within {PATIENCE_S:g} s after the last")
            times, answers = sender.recv()
    if set(answers) != {201}:
        raise Stopped(f"POSTs were answered {dict(answers)}: all should have been 201")
    return percentiles(iter(times))


@contextmanager
def _console(pipeline: Running) -> Iterator[tuple[str, str]]:
    token = token_hex(16)
    changes = {"console_port": 0, "console_writes": True, "console_token": SecretStr(token)}
    with pipeline.place.children(pipeline.settings.model_copy(update=changes)) as children:
        yield address_of(children.start("console", "console")), token


def _post(
    address: str, token: str, wallets: int, rate: int, waiting: int, seconds: float, out: Connection
) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    where = urlsplit(address)
    client = _Client(where.hostname or "", where.port or 80)
    out.send(asyncio.run(_run(client, token, wallets, rate, waiting, seconds)))


class _Connection(asyncio.Protocol):
    """One connection, with at most one request on its way."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._bytes = b""
        self._answer: asyncio.Future[int] | None = None
        self.is_open = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    async def ask(self, request: bytes) -> int:
        """Send a request; the status of its answer, or 0 if the connection was closed instead."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def data_received(self, data: bytes) -> None:
        self._bytes += data
        head, end, body = self._bytes.partition(b"\r\n\r\n")
        if not end or len(body) < int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]):
            return
        self._bytes = b""
        self._settle(int(head.split(b" ", 2)[1]))

    def connection_lost(self, _: Exception | None) -> None:
        self.is_open = False
        self._settle(0)

    def _settle(self, status: int) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(status)


class _Client:
    """Connections that are used again; the newest first, as the pools of HTTP clients do."""

    def __init__(self, host: str, port: int) -> None:
        self._at = host, port
        self.host = f"{host}:{port}"
        self._idle: list[_Connection] = []

    async def ask(self, request: bytes) -> int:
        """The status of the answer; one that finds its connection closed is sent again, as such clients do."""
        while self._idle:
            kept = self._idle.pop()
            if kept.is_open and (status := await self._by(kept, request)):
                return status
        loop = asyncio.get_running_loop()
        _, new = await loop.create_connection(_Connection, *self._at)
        return await self._by(new, request)

    async def _by(self, one: _Connection, request: bytes) -> int:
        status = await one.ask(request)
        if one.is_open:
            self._idle.append(one)
        return status


async def _run(
    client: _Client, token: str, wallets: int, rate: int, waiting: int, seconds: float
) -> tuple[list[float], Counter[int]]:
    others = [asyncio.create_task(_wait(client, NEVER + number)) for number in range(waiting)]
    answers: Counter[int] = Counter()
    times: list[float] = []
    slow = rate / 4
    plan = [number / slow for number in range(int(WARM_S * slow))]
    plan += [WARM_S + number / rate for number in range(int((CONNECTING_S + seconds) * rate))]
    began = time.monotonic()

    async def one(at_s: float, wallet: str) -> None:
        answers[await client.ask(_request(client.host, token, wallet))] += 1
        if at_s >= WARM_S + CONNECTING_S:
            times.append(time.monotonic() - began - at_s)

    sent = []
    for number, at_s in enumerate(plan):
        if (ahead_s := began + at_s - time.monotonic()) > 0:
            await asyncio.sleep(ahead_s)
        sent.append(asyncio.create_task(one(at_s, wallet_name(number % wallets))))
    await asyncio.gather(*sent)
    for other in others:
        other.cancel()
    return times, answers


async def _wait(client: _Client, offset: int) -> None:
    """Ask for the outcome of a record that does not come, again and again."""
    await asyncio.sleep(random.uniform(0, WARM_S))
    while True:
        await client.ask(WAIT.format(offset=offset, wait_s=WAIT_S, host=client.host).encode())


def _request(host: str, token: str, wallet: str) -> bytes:
    fields = {
        "transaction_id": str(uuid4()),
        "wallet_id": wallet,
        "type": "CREDIT",
        "amount": "100",
        "currency": "EUR",
        "occurred_at": "2026-01-01T00:00:00Z",
    }
    body = json.dumps(fields)
    head = POST.format(wait_s=WAIT_S, host=host, token=token)
    return (head + BODY.format(length=len(body), body=body)).encode()
