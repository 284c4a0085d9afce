"""How long a POST to the console takes: until the transaction is in Kafka (202), and until its outcome is known (201).

A process of its own sends by a plan, whether answers come or not; a POST's time begins when the plan has it sent.
"""

import asyncio
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from multiprocessing.connection import Connection
from os import kill
from urllib.error import HTTPError
from urllib.request import urlopen
from uuid import uuid4

import aiohttp
from pydantic import SecretStr

from benchmarks import machine
from benchmarks.end_to_end import Running
from benchmarks.filling import wallet_name
from benchmarks.latency import WARM_UP_S, percentiles, process
from benchmarks.measurement import PATIENCE_S
from benchmarks.place import log
from config.errors import Stopped

TOKEN = "of-a-benchmark-only"  # noqa: S105 - of no use elsewhere
RATES = (100, 500)
#: Requests that wait at once while the worker is suspended, and seconds in which they are sent.
WAITING, WAITING_S = 5_000, 10.0
WAIT_S = 30.0

#: Seconds that it took, and the status.
Answers = list[tuple[float, int]]


def measure(pipeline: Running, seconds: float) -> dict[int, dict[str, dict[str, float]]]:
    """p50, p99 and the longest in milliseconds, by POSTs a second; the last row: as many waiting at once."""
    with _console(pipeline) as (url, pid):
        found = {
            rate: {
                "202: POST is in Kafka": _times(_posted(pipeline, url, rate, seconds, 0.0), 202),
                "201: POST is posted": _times(_posted(pipeline, url, rate, seconds, WAIT_S), 201),
            }
            for rate in RATES
        }
        rate = int(WAITING / WAITING_S)
        with process(_send, url, rate, WAITING_S, pipeline.wallets, WAIT_S) as sender:
            worker = pipeline.processes["worker"].pid
            kill(worker, signal.SIGSTOP)
            time.sleep(WAITING_S + 1)
            kill(worker, signal.SIGCONT)
            answers: Answers = sender.recv()
        found[WAITING] = {f"201: sent in {WAITING_S:g} s, the worker was suspended": _times(answers, 201)}
        log.info("many_waited", requests=len(answers), console_mib=f"{machine.usage(pid).peak_mib:.0f}")
        return found


def _posted(pipeline: Running, url: str, rate: int, seconds: float, wait_s: float) -> Answers:
    """The answers after the warm-up."""
    with process(_send, url, rate, seconds + WARM_UP_S, pipeline.wallets, wait_s) as sender:
        answers: Answers = sender.recv()
    return answers[int(rate * WARM_UP_S) :]


def _times(answers: Answers, wanted: int) -> dict[str, float]:
    statuses = Counter(status for _, status in answers)
    if statuses.keys() != {wanted}:
        raise Stopped(f"of {len(answers)} POSTs not all were answered with {wanted}: {dict(statuses)}")
    return percentiles(took_s for took_s, _ in answers)


@contextmanager
def _console(pipeline: Running) -> Iterator[tuple[str, int]]:
    """A console that takes transactions: its address and process id."""
    changes = {"console_port": 0, "console_writes": True, "console_token": SecretStr(TOKEN)}
    with pipeline.place.children(pipeline.settings.model_copy(update=changes)) as children:
        child = children.start("console", "console")
        deadline = time.monotonic() + PATIENCE_S
        while not (url := _address(child.log.read_text())):
            child.raise_if_ended()
            if time.monotonic() > deadline:
                raise Stopped("the console does not follow Kafka")
            time.sleep(0.1)
        yield url, child.pid


def _address(said: str) -> str | None:
    """Where a console that has said this listens, once it follows Kafka."""
    if not (found := re.search(r"^console (\S+)/ ?", said, re.MULTILINE)):
        return None
    try:
        with urlopen(f"{found[1]}/api/v1/outcomes/0/0"):  # noqa: S310 - it is ours
            return found[1]
    except HTTPError as error:
        error.close()
        return None if error.code == HTTPStatus.SERVICE_UNAVAILABLE else found[1]


def _send(url: str, rate: int, seconds: float, wallets: int, wait_s: float, out: Connection) -> None:
    """Send credits to wallets that exist, evenly in time; each answer in the order of sending."""
    out.send(asyncio.run(_all(url, rate, seconds, wallets, wait_s)))


async def _all(url: str, rate: int, seconds: float, wallets: int, wait_s: float) -> Answers:
    address = f"{url}/api/v1/transactions?wait_s={wait_s:g}"
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=0)) as session:

        async def one(number: int, planned: float) -> tuple[float, int]:
            await asyncio.sleep(planned - time.monotonic())
            transaction = {"transaction_id": str(uuid4()), "wallet_id": wallet_name(number % wallets), "type": "CREDIT",
                           "amount": "100", "currency": "EUR", "occurred_at": "2026-11-22T09:00:00Z"}  # fmt: skip
            async with session.post(address, json=transaction) as answer:
                await answer.read()
            return time.monotonic() - planned, answer.status

        began = time.monotonic()
        tasks = [
            asyncio.create_task(one(number, began + number / rate)) for number in range(int(rate * seconds))
        ]
        return await asyncio.gather(*tasks)
