"""The console while its servers are away or silent: it says which, answers what it can, and is back by itself."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
import pytest

from console.encoding import entry_of_record, position_in
from console.following import OutcomeOf, posted_in, refused_in
from console.live import entry_in
from console.outcomes import Source
from local.stack import Stack
from tests.conftest import _addresses
from tests.effort import examples
from tests.integration.consoles import TOKEN, Answer, Console, Scene, scene
from tests.integration.test_console_answers import transaction
from tests.integration.workers import PATIENCE_S, Worker, wait_until
from tests.reading import read_all
from topics.names import Topics

pytestmark = pytest.mark.integration


@pytest.fixture
def place(own_stack: Stack, tmp_path: Path) -> Iterator[Scene]:
    """A pipeline on servers of its own."""
    with scene(_addresses(own_stack), tmp_path, console_statement_s=1.0) as found:
        yield found
        own_stack.up()


def problem(answer: Answer) -> tuple[int, str]:
    """Its status, and what it says."""
    return answer.status, answer.json.get("detail", "")


def test_without_postgres_outcomes_are_answered_and_everything_else_says_so_until_it_is_back(
    place: Scene, own_stack: Stack
) -> None:
    source = place.console.post(transaction("before")).json["source"].replace(":", "/")
    wait_until(lambda: place.console.ask("/api/v1/wallets/before").status == 200, "it is in the tables")
    own_stack.kill("postgres")
    wait_until(lambda: place.console.ask("/api/v1/wallets/before").status == 503, "it is missed")
    status, told = problem(place.console.ask("/api/v1/wallets/before/statement"))
    assert (status, "PostgreSQL" in told) == (503, True)
    assert place.console.ask("/wallets/before").status == 503
    assert b"PostgreSQL" in place.console.ask("/").body
    assert place.console.get(f"/outcomes/{source}")["outcome"] == "posted"
    meanwhile = place.console.post(transaction("meanwhile"))
    assert meanwhile.status == 201
    own_stack.start("postgres")
    wait_until(lambda: place.console.ask("/api/v1/wallets/before").status == 200, "it is back")
    wait_until(lambda: place.console.ask("/api/v1/wallets/meanwhile").status == 200, "the sink is back")


@pytest.mark.full
def test_without_kafka_tables_are_answered_and_transactions_are_not_taken_until_it_is_back(
    place: Scene, own_stack: Stack
) -> None:
    assert place.console.post(transaction("before")).status == 201
    wait_until(lambda: place.console.ask("/api/v1/wallets/before").status == 200, "it is in the tables")
    own_stack.kill("kafka")
    assert place.console.ask("/api/v1/wallets/before/balance").status == 200
    wait_until(lambda: b"Kafka" in place.console.ask("/").body, "it is missed")
    status, told = problem(place.console.ask("/api/v1/pipeline"))
    assert (status, "Kafka" in told) == (503, True)
    own_stack.start("kafka")
    wait_until(lambda: place.console.post(transaction("after")).status == 201, "it takes transactions again")
    wait_until(lambda: place.console.ask("/api/v1/wallets/after").status == 200, "and they are in the tables")


@pytest.mark.full
def test_a_console_that_starts_before_its_servers_is_there_when_they_are(
    place: Scene, own_stack: Stack
) -> None:
    own_stack.kill("kafka")
    own_stack.kill("postgres")
    early = place.another()
    assert problem(early.ask("/api/v1/outcomes/0/0"))[0] == 503
    assert problem(early.ask("/api/v1/seals"))[0] == 503
    assert early.ask("/").status == 200
    own_stack.up()
    wait_until(lambda: early.post(transaction("early")).status == 201, "it answers", early.process.check_runs)
    wait_until(lambda: early.ask("/api/v1/wallets/early").status == 200, "from the tables, too")


def test_a_question_that_takes_too_long_is_given_up(place: Scene) -> None:
    dsn = place.settings.postgres.get_secret_value()
    with psycopg.connect(dsn) as locker:
        locker.execute("LOCK TABLE wallets IN ACCESS EXCLUSIVE MODE")
        answers: list[Answer] = []
        threads = [
            threading.Thread(target=lambda: answers.append(place.console.ask("/api/v1/wallets")))
            for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {answer.status for answer in answers} == {503}
        assert all("PostgreSQL" in answer.json["detail"] for answer in answers)
        locker.rollback()
    assert place.console.ask("/api/v1/wallets").status == 200


# -- outcomes, whatever is killed

#: POSTs, and clients that send them at the same time, each to a wallet of its own.
POSTS, CLIENTS = examples(6_250), 200
#: Which POSTs are sent again though they were answered, and which take more than there is.
AGAIN_EVERY, POOR_EVERY = 20, 10
#: What is killed, and started again, when this share of the answers has come.
KILLED = [
    (0.1, "worker"),
    (0.25, "kafka"),
    (0.4, "console"),
    (0.55, "worker"),
    (0.7, "kafka"),
    (0.85, "console"),
]
FINAL = {200, 201, 422}


@dataclass
class Clients:
    """Clients that send each transaction again under its id until it has an outcome."""

    place: Scene
    own_stack: Stack
    consoles: list[Console]
    #: What was sent, the status and the body, in the order of the answers.
    answers: list[tuple[dict[str, Any], int, dict[str, Any]]] = field(default_factory=list)

    async def run(self) -> None:
        """All of them, while one after the other is killed."""
        connector = aiohttp.TCPConnector(limit=0)
        async with (
            aiohttp.ClientSession(
                headers={"Authorization": f"Bearer {TOKEN}"}, connector=connector
            ) as session,
            asyncio.TaskGroup() as group,
        ):
            for name in range(CLIENTS):
                group.create_task(self._client(session, name))
            group.create_task(asyncio.to_thread(self._kill))

    async def _client(self, session: aiohttp.ClientSession, name: int) -> None:
        for number in range(POSTS // CLIENTS):
            one = transaction(f"client-{name}", "1")
            if number % POOR_EVERY == 1:
                one |= {"type": "DEBIT", "amount": "1000000000"}
            for _ in range(2 if number % AGAIN_EVERY == 0 else 1):
                await self._answered(session, name, one)

    async def _answered(self, session: aiohttp.ClientSession, name: int, one: dict[str, Any]) -> None:
        deadline, attempt = time.monotonic() + PATIENCE_S, 0
        while time.monotonic() < deadline:
            console, attempt = self.consoles[(name + attempt) % len(self.consoles)], attempt + 1
            try:
                async with session.post(f"{console.url}/api/v1/transactions?wait_s=5", json=one) as answer:
                    self.answers.append((one, answer.status, await answer.json(content_type=None)))
            except (aiohttp.ClientError, OSError):
                await asyncio.sleep(0.2)
                continue
            if answer.status in FINAL:
                return
            await asyncio.sleep(0.2)
        raise AssertionError(f"client {name} has no outcome of {one}")

    def _kill(self) -> None:
        for share, what in KILLED:
            wait_until(
                partial(self._has, int(share * POSTS)),
                f"{share:.0%} are answered",
                patience_s=20 * PATIENCE_S,
            )
            if what == "kafka":
                self.own_stack.kill("kafka")
                self.own_stack.start("kafka")
            elif what == "worker":
                self.place.worker.kill()
                log = self.place.folder / f"worker-{share}.log"
                self.place.worker = Worker(self.place.settings, log)
            else:
                self.consoles[1].process.kill()
                self.consoles[1] = self.place.another()

    def _has(self, count: int) -> bool:
        return len(self.answers) >= count


@pytest.mark.full
@pytest.mark.timeout(3_600)
def test_an_answered_outcome_is_what_the_topics_hold_whatever_is_killed_and_an_id_posts_once(
    place: Scene, own_stack: Stack
) -> None:
    clients = Clients(place, own_stack, [place.console, place.another()])
    asyncio.run(clients.run())
    place.wait_until_written()
    names = Topics.of(place.settings)
    posted = {source: entry_of_record(entry_in(one)) for source, one in read(place, names.ledger, posted_in)}
    refused = dict(read(place, names.rejections, refused_in))
    assert not posted.keys() & refused.keys()
    statuses = Counter(status for _, status, _ in clients.answers)
    assert statuses.keys() <= FINAL | {202, 503}, statuses
    for one, status, body in clients.answers:
        source = position_in("source", body["source"]) if "source" in body else None
        if status == 201:
            assert source
            assert posted[source] == body["entry"]
            assert body["entry"]["transaction_id"] == one["transaction_id"]
        elif status == 200:
            assert source
            assert refused[source].reason == body["reason"] == "DUPLICATE"
            assert body["entry"]["transaction_id"] == one["transaction_id"]
            assert posted[position_in("source", body["entry"]["source"])] == body["entry"]
        elif status == 422:
            assert source
            assert refused[source].reason == body["reason"] == "INSUFFICIENT_FUNDS"
        elif status == 202:
            assert (source in posted) or (source in refused)
        else:
            assert source is None
    ids = Counter(entry["transaction_id"] for entry in posted.values())
    assert ids == Counter(
        {str(one["transaction_id"]): 1 for one, _, _ in clients.answers if one["amount"] == "1"}
    )


def read(place: Scene, topic: str, outcome_of: OutcomeOf) -> list[tuple[Source, Any]]:
    """Every outcome in a topic, by its source."""
    found = [outcome_of(message) for message in read_all(place.settings, topic, place.settings.partitions)]
    outcomes = [one for one in found if one is not None]
    assert len(outcomes) == len(found) == len(dict(outcomes))
    return outcomes
