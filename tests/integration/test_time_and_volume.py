"""The tour of docs/time-and-volume.md: a history of three months, archived, replayed, and rebuilt otherwise.

All by the command line, as an operator would do it; the balances are held against a sum of the file's own lines.
"""

import json
import random
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import pytest

from config.settings import Settings
from operations.cli.context import environment
from sinks import postgres
from sinks.postgres import databases, questions
from tests.forked import completed
from tests.integration.pipelines import wait_until
from tests.integration.replays import another_database, rows
from tests.integration.workers import Worker

pytestmark = [pytest.mark.integration, pytest.mark.full, pytest.mark.timeout(600)]

LINES, WALLETS, SAMPLES = 3_000, 40, 100


class Line(NamedTuple):
    """A line of the history."""

    wallet: str
    amount: int
    recorded_at: datetime


def month(back: int) -> date:
    """The first day of the month so many months ago, UTC."""
    today = datetime.now(UTC).date()
    number = today.year * 12 + today.month - 1 - back
    return date(number // 12, number % 12 + 1, 1)


def history() -> list[Line]:
    """Three whole months that have ended, evenly; the last wallets are quiet after the first month."""
    dice = random.Random(5)
    starts, ends = month(3), month(0)
    begin = datetime(starts.year, starts.month, 1, tzinfo=UTC)
    step = (datetime(ends.year, ends.month, 1, tzinfo=UTC) - begin) / LINES
    lines = []
    for number in range(LINES):
        wallets = WALLETS if number < LINES // 4 else WALLETS - 8
        at = (begin + number * step).replace(microsecond=0)
        lines.append(
            Line(f"wallet-{dice.randrange(wallets):02d}", dice.choice((1, -1)) * dice.randint(1, 999), at)
        )
    return lines


def write(lines: list[Line], path: Path) -> None:
    """As JSON Lines."""
    with path.open("w") as file:
        for number, line in enumerate(lines):
            at = line.recorded_at.isoformat()
            fields = {
                "transaction_id": str(UUID(int=number)),
                "wallet_id": line.wallet,
                "type": "CREDIT" if line.amount > 0 else "DEBIT",
                "amount": abs(line.amount),
                "currency": "EUR",
                "occurred_at": at,
                "recorded_at": at,
            }
            file.write(json.dumps(fields) + "\n")


class Operator:
    """Runs `wallet` commands with a pipeline's settings."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self._folder = folder

    @property
    def database(self) -> str:
        """The name of its database."""
        return self.settings.postgres.get_secret_value().rpartition("/")[2]

    def run(self, *words: str, expect: int = 0) -> str:
        """One command to its end; what it printed."""
        done = completed(*words, env=environment(self.settings), cwd=self._folder, timeout_s=300)
        assert done.returncode == expect, f"wallet {' '.join(words)}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def start(self, *words: str) -> Worker:
        """A command that goes on until it is stopped."""
        log = self._folder / f"{self.settings.prefix}-{'-'.join(words)}.log"
        return Worker(self.settings, log, *words)

    def balances(self, samples: list[tuple[str, datetime]]) -> list[int | None]:
        """What the SQL function says."""
        with postgres.connect(self.settings, postgres.READER) as reader:
            asked = [
                reader.execute("SELECT wallet_balance_at(%s, %s)", [*sample]).fetchone() for sample in samples
            ]
        return [row[0] if row else None for row in asked]

    def count(self, table: str) -> int:
        """Rows of a table."""
        return questions.counts(self.settings)[table]

    def with_settings(self, settings: Settings) -> "Operator":
        """The same for another pipeline or database."""
        return Operator(settings, self._folder)


@pytest.fixture
def operator(settings: Settings, tmp_path: Path) -> Operator:
    changes = {"partitions": 2, "archive_after_days": 0, "archive_grace_s": 0.0, "sink_wait_ms": 50}
    return Operator(settings.model_copy(update=changes), tmp_path)


@pytest.fixture
def running() -> Iterator[Callable[[Worker], Worker]]:
    """Remembers processes and ends those that are left."""
    started: list[Worker] = []

    def remember(worker: Worker) -> Worker:
        started.append(worker)
        return worker

    yield remember
    for worker in started:
        if worker.runs:
            worker.kill()


def sampled(lines: list[Line]) -> list[tuple[str, datetime]]:
    """Wallets and times: between entries, at their very time, before the first and after the last."""
    dice = random.Random(6)
    times = [lines[0].recorded_at - timedelta(days=1), lines[-1].recorded_at + timedelta(days=40)]
    times += [datetime(one.year, one.month, 1, tzinfo=UTC) for one in map(month, (2, 1))]
    times += [
        dice.choice(lines).recorded_at + timedelta(seconds=dice.choice((0, 0, -1, 1))) for _ in range(SAMPLES)
    ]
    return [(f"wallet-{dice.randrange(WALLETS):02d}", at) for at in times[:SAMPLES]]


def summed(lines: list[Line], samples: list[tuple[str, datetime]]) -> list[int]:
    """The same by adding up."""
    return [
        sum(line.amount for line in lines if line.wallet == wallet and line.recorded_at <= at)
        for wallet, at in samples
    ]


def test_history_archive_replay_and_rebuild(
    operator: Operator, running: Callable[[Worker], Worker], tmp_path: Path
) -> None:
    lines = history()
    samples = sampled(lines)
    wanted = summed(lines, samples)
    write(lines, tmp_path / "history.jsonl")

    # 1. Three months of history, with their own dates.
    operator.run("init", "--history")
    operator.run("import", "history.jsonl")
    worker, sink = running(operator.start("worker")), running(operator.start("sink", "all"))
    wait_until(lambda: operator.count("transactions") == LINES, "all rows are in", sink.check_runs)
    operator.run("init", "--open")
    assert operator.balances(samples) == wanted

    # 2. The two older months are sealed and moved.
    second = f"{month(2):%Y-%m}"
    operator.run("archive", "run", "--month", second)
    states = {
        one["month"]: one["state"]
        for one in json.loads(operator.run("archive", "status", "--json"))["months"]
    }
    assert [states[f"{month(back):%Y-%m}"] for back in (3, 2)] == ["archived", "archived"]
    assert operator.count("transaction_archive") > LINES // 2
    assert operator.balances(samples) == wanted
    operator.run("archive", "verify")
    operator.run("verify")

    # 3. Everything again into an empty database, and sealed again.
    empty = operator.with_settings(another_database(operator.settings))
    try:
        empty.run("replay", "all", "--from-beginning", "--execute")
        empty.run("archive", "run", "--month", second)
        assert rows(empty.settings) == rows(operator.settings)
        for table in (
            "transaction_snapshots ORDER BY wallet_id, sequence, reason",
            "archive_seals ORDER BY month",
        ):
            assert all_of(empty.settings, table) == all_of(operator.settings, table)
        assert empty.balances(samples) == wanted
    finally:
        databases.drop(operator.settings, empty.database)

    # 4. Into twice as many partitions.
    shadow = databases.create(operator.settings, f"{operator.database}_shadow")
    name = f"{operator.settings.prefix}.b"
    rebuilding = operator.with_settings(
        operator.settings.model_copy(update={"rebuild_prefix": name, "rebuild_postgres": shadow.postgres})
    )
    try:
        started = json.loads(rebuilding.run("rebuild", "start", "--partitions", "4", "--json"))
        assert (started["shadow"], started["complete"]) == (name, True)
        rebuilding.run("rebuild", "diff")
        worker.stop()
        sink.stop()
        rebuilding.run("rebuild", "switch", "--execute")
        switched = operator.with_settings(
            shadow.model_copy(
                update={
                    "prefix": name,
                    "partitions": 4,
                    "state_dir": operator.settings.state_dir,
                }
            )
        )
        switched.run("verify")
        assert switched.balances(samples) == wanted
    finally:
        databases.drop(operator.settings, f"{operator.database}_shadow")


def all_of(settings: Settings, table: str) -> list[tuple[object, ...]]:
    """Every row, without when it was made."""
    with postgres.connect(settings) as owner:
        query = f"SELECT to_jsonb(t) - 'sealed_at' FROM {table.replace(' ORDER', ' AS t ORDER')}"  # noqa: S608 - names of ours
        return owner.execute(query.encode()).fetchall()
