"""The commands as an operator runs them: a pipeline from `init` to `statement`, and the demo."""

import json
import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from config.errors import WalletError
from config.settings import Settings
from operations.cli.children import COMMAND
from operations.looking.balances import show_balance, show_statement
from operations.looking.status import Status, look
from operations.setup import init
from tests.forked import completed
from tests.integration.pipelines import Upstream, as_record, open_transaction, transaction, wait_until
from topics.cluster import quiet_admin
from topics.names import Topics

pytestmark = pytest.mark.integration

Environment = Callable[[Settings], dict[str, str]]
PATIENCE_S = 60.0
WALLET = "wallet-000000"


class Commands:
    """The `wallet` command for one pipeline."""

    def __init__(self, settings: Settings, environment: dict[str, str], folder: Path) -> None:
        self.settings = settings
        self._environment = environment
        self._folder = folder

    def __call__(self, *arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        return completed(
            *arguments, env=self._environment, cwd=self._folder, text=text, timeout_s=2 * PATIENCE_S
        )

    @contextmanager
    def running(
        self, *arguments: str, by: signal.Signals = signal.SIGTERM
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A command that runs until it is told to stop, and then ends with 0, or with 130 by Ctrl-C."""
        with (self._folder / "running.log").open("ab") as log:
            started = subprocess.Popen(
                [*COMMAND, *arguments],
                env=self._environment,
                cwd=self._folder,
                stdout=log,
                stderr=log,
            )
            try:
                yield started
                started.send_signal(by)
                assert started.wait(PATIENCE_S) == (130 if by == signal.SIGINT else 0)
            finally:
                started.kill()
                started.wait()

    def until(self, reached: Callable[[Status], bool]) -> Status:
        """The status once it is as wanted; fails after a minute."""
        client, deadline = quiet_admin(self.settings), time.monotonic() + PATIENCE_S
        while not reached(status := look(self.settings, client)):
            assert time.monotonic() < deadline, f"still {status}"
            time.sleep(0.2)
        return status


@pytest.fixture
def wallet(settings: Settings, environment: Environment, tmp_path: Path) -> Commands:
    return Commands(settings, environment(settings), tmp_path)


def test_a_pipeline_from_init_to_statement(wallet: Commands) -> None:
    report = json.loads(wallet("init", "--json").stdout)
    assert report["pipeline"]["partitions"] == 4

    made = wallet("generate", "--count", "3000", "--wallets", "50", "--bad", "0.05", "--seed", "9")
    assert made.returncode == 0, made.stderr
    line = {
        "transaction_id": "5f0c6c3e-0000-4000-8000-000000000001",
        "wallet_id": "me",
        "type": "CREDIT",
        "amount": 1250,
        "currency": "EUR",
        "occurred_at": "2026-11-22T10:00:00Z",
    }
    sent = wallet("send", "-", text=f"{json.dumps(line)}\nnonsense\n")
    assert (sent.returncode, sent.stderr.splitlines()[-1]) == (6, "1 lines sent, 1 bad")

    with wallet.running("worker", by=signal.SIGINT):
        status = wallet.until(lambda now: now.lag("worker") == 0)
        assert status.workers == 1
        assert {place.position for place in status.places if place.reader == "ledger"} == {None}
    with wallet.running("sink", "all", by=signal.SIGINT):
        status = wallet.until(
            lambda now: all(place.position is not None and not place.lag for place in now.places)
        )
    assert status.workers == 0
    assert set(status.rejections) > {
        "TOO_LARGE",
        "UNDECODABLE",
        "INVALID",
        "MISROUTED",
        "DUPLICATE",
        "CONFLICT",
    }

    shown = json.loads(wallet("status", "--json").stdout)
    assert sum(place["position"] for place in shown["places"] if place["reader"] == "worker") == 3001
    assert shown["rejections"] == status.rejections

    assert wallet("balance", "me").stdout == "1250 EUR (minor units)\n"
    entries = [json.loads(text) for text in wallet("statement", WALLET, "--json").stdout.splitlines()]
    assert [entry["sequence"] for entry in entries] == list(range(1, len(entries) + 1))
    newest = json.loads(wallet("balance", WALLET, "--json").stdout)
    assert newest["balance"] == entries[-1]["balance"]
    before = json.loads(wallet("balance", WALLET, "--at", "2020-01-01T00:00:00Z", "--json").stdout)
    assert before["balance"] == 0
    assert wallet("statement", WALLET, "--to", "2020-01-01T00:00:00Z").stdout == "no entries\n"
    exported = wallet("export", "statement", WALLET).stdout.splitlines()
    assert [line.split(",")[7] for line in exported] == [
        "balance",
        *(str(entry["balance"]) for entry in entries),
    ]
    told = json.loads(wallet("export", "statement", WALLET, "lines.csv", "--json").stdout)
    assert told == {"wallet_id": WALLET, "file": "lines.csv", "entries": len(entries)}
    written = json.loads(wallet("export", "topics", "files", "--topic", "ledger", "--json").stdout)
    assert written["records"] + sum(status.rejections.values()) == 3001
    nobody = wallet("statement", "nobody")
    assert (nobody.returncode, nobody.stderr) == (1, "wallet: wallet 'nobody' has no entry\n")
    with pytest.raises(WalletError, match="wallet 'nobody' has no entry"):
        show_balance(wallet.settings, "nobody", None, as_json=False)
    with pytest.raises(WalletError, match="wallet 'nobody' has no entry"):
        show_statement(wallet.settings, "nobody", None, None, as_json=True)


@pytest.mark.full
def test_status_still_tells_kafkas_part_while_postgres_is_away(wallet: Commands, settings: Settings) -> None:
    assert wallet("init").returncode == 0
    without = settings.model_copy(
        update={"postgres": type(settings.postgres)("postgresql://127.0.0.1:1/away"), "startup_wait_s": 0}
    )
    status = look(without, quiet_admin(without))
    assert status.postgres_problem
    assert {place.reader for place in status.places} == {"worker"}


def test_what_was_rolled_back_is_no_lag(settings: Settings) -> None:
    init.initialise(settings)
    topic, client = Topics.of(settings).transactions, quiet_admin(settings)
    records = [as_record(transaction(number, "alice")) for number in range(1, 31)]
    with open_transaction(settings, topic, *records):
        assert look(settings, client).lag("worker") == 0
    wait_until(lambda: any(place.end for place in look(settings, client).places), "it is rolled back")
    assert look(settings, client).lag("worker") == 0
    Upstream(settings).send([as_record(transaction(99, "alice"))])
    assert look(settings, client).lag("worker") == 32, "with the offsets of what was rolled back before it"


@pytest.mark.full
def test_the_demo_finds_everything_exact(
    settings: Settings, environment: Environment, tmp_path: Path
) -> None:
    # In small batches, so that there is a half-way at which the worker can be killed.
    slow = settings.model_copy(update={"batch_records": 100})
    commands = Commands(slow, environment(slow), tmp_path)
    shown = commands("demo", "--count", "20000", "--wallets", "500", "--keep")
    assert shown.returncode == 0, shown.stderr
    assert "everything is exact" in shown.stdout
    assert "worker_killed" in shown.stderr
    figures = {
        name.strip(): int(figure.replace(",", ""))
        for name, figure in re.findall(r"^ ([\w ().]+?)  +([\d,]+) *$", shown.stdout, re.MULTILINE)
    }
    assert figures["sent"] == 20_000
    assert figures["posted (entries)"] + figures["rejected"] == 20_000
    assert figures["rows in transactions"] == figures["posted (entries)"]
    for reason in ("TOO_LARGE", "OVERFLOW", "INSUFFICIENT_FUNDS", "CONFLICT", "CURRENCY_MISMATCH"):
        assert figures[reason] > 0
    address = shown.stdout.split()[-1].removeprefix("http://")

    def is_told_to_be_complete() -> bool:
        try:
            with urllib.request.urlopen(f"http://{address}api/v1/pipeline", timeout=30) as answer:
                return {one["lag"] for one in json.load(answer)["places"]} == {"0"}
        except urllib.error.HTTPError as away:  # until it has reached Kafka
            away.close()
            return False

    try:
        wait_until(is_told_to_be_complete, "the console has told that everything is in the tables")
    finally:
        stopped = commands("demo", "--stop").stdout
    assert "is stopped" in stopped
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://{address}", timeout=30)
    assert "no demo's pipeline is running" in commands("demo", "--stop").stdout


@pytest.mark.full
def test_a_child_that_dies_ends_the_demo_with_its_last_lines(
    settings: Settings, environment: Environment, tmp_path: Path
) -> None:
    demo = subprocess.Popen(
        [*COMMAND, "demo", "--count", "50000"],
        env=environment(settings),
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert demo.stderr
        started = next(line for line in demo.stderr if " sending " in line)
        assert started
        children = _children_of(demo.pid)
        os.kill(children["sink all"], signal.SIGKILL)
        told = demo.stderr.read()
        assert demo.wait(PATIENCE_S) == 5
    finally:
        demo.kill()
        demo.wait()
        if demo.stderr:
            demo.stderr.close()
    assert "wallet: sink ended unexpectedly with code -9; its log " in told
    assert not any(Path(f"/proc/{pid}").exists() for pid in children.values())


def _children_of(pid: int) -> dict[str, int]:
    listed = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True, check=True
    ).stdout
    return {
        line.split("__main__.py ")[1]: int(line.split()[0])
        for line in listed.splitlines()
        if "__main__.py " in line
    }
