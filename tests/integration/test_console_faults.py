"""The console while its servers are away or silent: it says which, answers what it can, and is back by itself."""

import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from local.stack import Stack
from tests.conftest import _addresses
from tests.integration.consoles import Answer, Scene, scene
from tests.integration.test_console_answers import transaction
from tests.integration.workers import Worker, wait_until

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


@pytest.mark.full
def test_an_answered_outcome_holds_whatever_is_killed_and_the_same_id_never_posts_twice(
    place: Scene, own_stack: Stack
) -> None:
    """Each client sends again under the same id until it has an answer."""
    consoles = [place.console, place.another()]
    answers: dict[str, list[Answer]] = {}
    lock = threading.Lock()

    def client(name: int) -> None:
        for number in range(25):
            one = transaction(f"client-{name}", "1")
            for attempt in range(200):
                try:
                    answer = consoles[(name + attempt) % 2].post(one, wait_s=5)
                except OSError:
                    threading.Event().wait(0.2)
                    continue
                with lock:
                    answers.setdefault(str(one["transaction_id"]), []).append(answer)
                if answer.status in {200, 201}:
                    break
                threading.Event().wait(0.2)
            else:
                raise AssertionError(f"client {name} has no answer to its transaction {number}")

    threads = [threading.Thread(target=client, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    threading.Event().wait(1.0)
    place.worker.kill()
    place.worker = Worker(place.settings, place.folder / "worker-2.log")
    own_stack.kill("kafka")
    own_stack.start("kafka")
    consoles[1].process.kill()
    for thread in threads:
        thread.join()
    for name in range(8):
        wait_until(
            lambda name=name: place.console.get(f"/wallets/client-{name}")["balance"] == "25",  # type: ignore[misc]
            f"client {name} has posted each once",
        )
    for told in answers.values():
        for answer in told:
            if answer.status in {200, 201}:
                partition, offset = answer.json["source"].split(":")
                again = place.console.get(f"/outcomes/{partition}/{offset}")
                wanted = "posted" if answer.status == 201 else "rejected"
                assert again["outcome"] == answer.json["outcome"] == wanted
