"""`wallet rejections` on a pipeline with rejections of every kind: list, show, resubmit."""

import json
import logging
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from typer.testing import CliRunner

from config.errors import Stopped, WalletError
from config.settings import Settings
from operations.cli.children import COMMAND
from operations.rejections import commands as rejections_commands
from operations.rejections import resubmit
from operations.rejections.listing import ATTEMPT, REJECTION_OF, Wanted
from operations.sending.delivery import deliver
from schemas.codec import encode_transaction, frame
from schemas.records import DEBIT, Reason
from tests.integration.pipelines import Rig, as_record, small, transaction, wallets_of
from tests.integration.verify_copies import told, verified
from tests.reading import incoming, read_all
from topics.names import Topics

pytestmark = pytest.mark.integration

ALICE, BOB = (name for name, _ in zip(wallets_of(1), range(2), strict=False))
TRACE: list[tuple[str, bytes | None]] = [("trace", b"\x00\xff"), ("none", None)]
POOR = transaction(1, ALICE, 500, type=DEBIT)
LOST = transaction(2, ALICE, 700)


class Done(NamedTuple):
    """What a command printed, and the exit code that it ends with."""

    returncode: int
    stdout: str
    stderr: str


class Rejections:
    """`wallet rejections` for one pipeline, and the worker that makes them."""

    def __init__(self, rig: Rig, environment: dict[str, str], folder: Path) -> None:
        self.rig, self._environment, self._folder = rig, environment, folder

    def __call__(self, *arguments: str) -> Done:
        """Run it in this process: starting one takes longer than what it does."""
        handlers = logging.root.handlers[:]
        try:
            with pytest.MonkeyPatch.context() as patched:
                patched.chdir(self._folder)
                for name, value in self._environment.items():
                    patched.setenv(name, value)
                result = CliRunner().invoke(rejections_commands.app, arguments)
        finally:
            logging.root.handlers[:] = handlers
        if isinstance(result.exception, WalletError):
            return Done(result.exception.exit_code, result.stdout, f"wallet: {result.exception}\n")
        return Done(result.exit_code, result.stdout, result.stderr)

    def with_settings(self, **variables: str) -> "Rejections":
        """The same with other settings."""
        return Rejections(self.rig, self._environment | variables, self._folder)

    def json(self, *arguments: str) -> dict[str, object]:
        """What the command prints with --json."""
        done = self(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        found: dict[str, object] = json.loads(done.stdout)
        return found

    def input(self) -> list[tuple[int, int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]]:
        """Partition, offset, key, value and headers of every record of the input."""
        settings = self.rig.settings
        found = read_all(settings, Topics.of(settings).transactions, settings.partitions)
        records = [(message.partition() or 0, incoming(message)) for message in found]
        return [(at, one.offset, one.key, one.value, list(one.headers)) for at, one in records]


@pytest.fixture
def rejections(
    kafka_only_settings: Settings, environment: Callable[[Settings], dict[str, str]], tmp_path: Path
) -> Iterator[Rejections]:
    settings = small(kafka_only_settings)
    with Rig(settings, tmp_path) as rig:
        rig.upstream.send(
            [
                as_record(POOR)._replace(headers=TRACE),  # offset 0: INSUFFICIENT_FUNDS
                as_record(LOST)._replace(key=b"somebody"),  # 1: MISROUTED
                as_record(transaction(3, BOB))._replace(value=b"\xff"),  # 2: UNDECODABLE
                as_record(transaction(4, BOB)._replace(currency="eur")),  # 3: INVALID
                as_record(transaction(5, BOB))._replace(headers=[("much", bytes(4_000))]),  # 4: TOO_LARGE
            ]
        )
        rig.start()
        rig.wait_until_posted()
        yield Rejections(rig, environment(settings), tmp_path)


def test_rejections_are_listed_counted_and_filtered(rejections: Rejections) -> None:
    found = rejections.json("list")
    assert found["counts"] == {
        "TOO_LARGE": 1,
        "UNDECODABLE": 1,
        "INVALID": 1,
        "MISROUTED": 1,
        "INSUFFICIENT_FUNDS": 1,
    }
    listed = found["rejections"]
    assert isinstance(listed, list)
    assert [(one["partition"], one["source_offset"]) for one in listed] == [(1, at) for at in range(5)]

    def offsets(*arguments: str) -> list[int]:
        some = rejections.json("list", *arguments)["rejections"]
        assert isinstance(some, list)
        return [one["source_offset"] for one in some]

    assert offsets("--reason", "invalid", "--reason", "MISROUTED") == [1, 3]
    assert offsets("--partition", "1", "--from-offset", "2", "--to-offset", "4") == [2, 3]
    assert offsets("--partition", "0") == []
    assert offsets("--key", "somebody") == [1]
    assert offsets("--to", "2020-01-01T00:00:00Z") == []
    assert offsets("--limit", "2") == [0, 1]
    shown = rejections("list", "--limit", "1")
    assert "... 4 more (--limit)" in shown.stdout
    assert "INSUFFICIENT_FUNDS" in shown.stdout


@pytest.mark.full
def test_one_rejection_is_shown_with_its_bytes_and_what_they_say(rejections: Rejections) -> None:
    poor = rejections.json("show", "1", "0")
    assert poor["reason"] == "INSUFFICIENT_FUNDS"
    assert poor["headers"] == [["trace", "00ff"], ["none", None]]
    assert poor["value_hex"] == (frame(1) + encode_transaction(POOR)).hex()
    decoded = poor["decoded"]
    assert isinstance(decoded, dict)
    assert (decoded["wallet_id"], decoded["amount"], decoded["type"]) == (ALICE, 500, "DEBIT")

    invalid = rejections.json("show", "1", "3")["decoded"]
    assert isinstance(invalid, dict)
    assert invalid["currency"] == "eur"
    assert rejections.json("show", "1", "2")["value_hex"] == "ff"

    large = rejections.json("show", "1", "4")
    assert large["read_from"] == Topics.of(rejections.rig.settings).transactions
    assert large["headers"] == [["much", "00" * 4_000]]
    assert large["value_hex"] == (frame(1) + encode_transaction(transaction(5, BOB))).hex()

    rejections.rig.upstream.send([as_record(transaction(6, BOB))._replace(value=bytes(100_000))])
    rejections.rig.wait_until_posted()
    larger = rejections.with_settings(WALLET_BATCH_BYTES="65536").json("show", "1", "5")
    assert (larger["reason"], larger["value_hex"]) == ("TOO_LARGE", None)
    assert larger["not_shown"] == f"key {len(BOB)}, value 100000, 0 headers 0: more than WALLET_BATCH_BYTES"

    assert "INSUFFICIENT_FUNDS" in rejections("show", "1", "0").stdout
    nothing = rejections("show", "1", "99")
    assert (nothing.returncode, nothing.stderr) == (
        1,
        "wallet: partition 1 offset 99 has no rejection: see `wallet rejections list`\n",
    )


def test_resubmitting_is_a_dry_run_unless_it_is_told_to_do_it(rejections: Rejections) -> None:
    before = rejections.input()
    assert rejections.json("resubmit", "--reason", "INSUFFICIENT_FUNDS") == {
        "executed": False,
        "resubmitted": {"INSUFFICIENT_FUNDS": 1},
        "skipped": {},
        "not_found": [],
    }
    assert rejections.input() == before
    assert rejections("resubmit").returncode == 2
    assert rejections("resubmit", "--execute").returncode == 2


def test_a_resubmitted_record_comes_as_it_came_and_gets_an_outcome_of_its_own(rejections: Rejections) -> None:
    rig = rejections.rig
    rig.upstream.send([as_record(transaction(6, ALICE, 10_000))])
    rejections.json("resubmit", "--reason", "INSUFFICIENT_FUNDS", "--execute")
    *_, (partition, offset, key, value, headers) = rejections.input()
    assert (partition, offset, key, value) == (1, 6, ALICE.encode(), frame(1) + encode_transaction(POOR))
    assert headers == [*TRACE, (ATTEMPT, b"1"), (REJECTION_OF, b"1:0")]
    rig.upstream.next_offsets[1] = 7
    rig.wait_until_posted()
    report = verified(rig.settings, postgres=False)
    assert told(report) == []
    assert [(one.records, one.entries, one.rejections) for one in report.covered][1] == (7, 2, 5)


def test_running_it_again_resubmits_nothing_twice_and_the_next_attempt_counts_on(
    rejections: Rejections,
) -> None:
    rig = rejections.rig
    for attempt in (1, 2):
        assert rejections.json("resubmit", "--reason", "INVALID", "--execute", "--max-attempts", "2") == {
            "executed": True,
            "resubmitted": {"INVALID": 1},
            "skipped": {"resubmitted before": attempt - 1} if attempt > 1 else {},
            "not_found": [],
        }
        rig.upstream.next_offsets[1] = 5 + attempt
        rig.wait_until_posted()
    attempts = [dict(headers).get(ATTEMPT) for *_, headers in rejections.input()]
    assert attempts[-2:] == [b"1", b"2"]
    again = rejections.json("resubmit", "--reason", "INVALID", "--execute", "--max-attempts", "2")
    assert again["resubmitted"] == {}
    assert again["skipped"] == {"resubmitted before": 2, "2 attempts made": 1}


def test_of_two_runs_at_once_the_later_one_ends_the_earlier_one_and_nothing_is_sent_twice(
    rejections: Rejections,
) -> None:
    settings = rejections.rig.settings
    wanted = Wanted(reasons=frozenset({Reason.INSUFFICIENT_FUNDS, Reason.INVALID}))
    earlier, later = (resubmit.plan(settings, wanted, resubmit.Options(execute=True)) for _ in range(2))
    resubmit.send(later, 500.0, lambda _: None)
    with pytest.raises(Stopped, match="another resubmission in the pipeline"):
        resubmit.send(earlier, 500.0, lambda _: None)
    sent = [dict(headers).get(REJECTION_OF) for *_, headers in rejections.input()]
    assert sorted(one for one in sent if one) == [b"1:0", b"1:3"]


def test_a_misrouted_record_finds_its_wallet_when_the_key_is_taken_from_it(rejections: Rejections) -> None:
    rejections.json("resubmit", "--reason", "MISROUTED", "--key-from-wallet", "--execute")
    *_, (partition, _, key, value, _) = rejections.input()
    assert (partition, key, value) == (1, ALICE.encode(), frame(1) + encode_transaction(LOST))


def test_a_file_of_offsets_says_what_to_resubmit_and_what_cannot_be_is_counted(
    rejections: Rejections, tmp_path: Path
) -> None:
    named = tmp_path / "offsets"
    named.write_text("# poor\n1:0\n1:10\n0:7  # posted\n1:4  # too large\n1:9\n")
    assert rejections.json("resubmit", "--offsets", str(named)) == {
        "executed": False,
        "resubmitted": {"INSUFFICIENT_FUNDS": 1},
        "skipped": {"too large; it would be rejected again": 1},
        "not_found": ["0:7", "1:9", "1:10"],
    }
    assert (
        "3 of --offsets have no matching rejection: 0:7, 1:9, 1:10"
        in rejections("resubmit", "--offsets", str(named)).stdout
    )
    named.write_text("1:0\nnonsense\n")
    wrong = rejections("resubmit", "--offsets", str(named))
    assert wrong.returncode == 2
    assert "line 2 is 'nonsense': write PARTITION:OFFSET" in wrong.stderr


@pytest.mark.full
def test_what_was_sent_before_an_interruption_is_not_sent_again(rejections: Rejections) -> None:
    """An interrupted run has sent the first of two; the record names its rejection, as those of the command do."""
    sent = as_record(POOR)._replace(headers=[(ATTEMPT, b"1"), (REJECTION_OF, b"1:0")])
    deliver(rejections.rig.settings, [sent], lambda _: None)
    found = rejections.json("resubmit", "--partition", "1", "--from-offset", "0", "--to-offset", "2")
    assert (found["resubmitted"], found["skipped"]) == ({"MISROUTED": 1}, {"resubmitted before": 1})


@pytest.mark.full
def test_the_command_itself_tells_a_wrong_argument_in_one_line(
    plain_settings: Settings, environment: Callable[[Settings], dict[str, str]], tmp_path: Path
) -> None:
    done = subprocess.run(
        [*COMMAND, "rejections", "list", "--reason", "UGLY"],
        env=environment(plain_settings),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("wallet: --reason UGLY is not one of CONFLICT, ")
    assert done.stderr.count("\n") == 1
