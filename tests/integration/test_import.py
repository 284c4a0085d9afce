"""`wallet import` on a real Kafka: dates that are kept, nothing lost and nothing twice, whatever ends it."""

import json
import random
import signal
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME, Message, Producer

from config.errors import BadLines, NotReachable, Refused, Stopped
from config.settings import Settings
from operations.rejections import resubmit
from operations.rejections.listing import Wanted
from operations.sending import generating
from operations.sending import send as sending
from operations.sending.generator import Mix
from operations.sending.importing import producer as import_progress
from operations.sending.importing import run as importing
from operations.sending.importing.lines import Dated
from operations.sending.importing.producer import ImportProducer
from operations.sending.importing.run import Options
from operations.setup import init
from operations.setup import init as history
from schemas.codec import decode_entry, decode_transaction
from schemas.records import Reason
from sinks import postgres
from tests.effort import in_full
from tests.integration.pipelines import Upstream, as_record, initialise_topics, open_transaction, transaction
from tests.integration.workers import Worker, wait_until
from tests.ledgers import running
from tests.reading import read_all
from topics.clients import librdkafka
from topics.cluster import describe, quiet_admin
from topics.names import Topics

pytestmark = pytest.mark.integration

JULY = datetime(2026, 7, 1, tzinfo=UTC)
Row = dict[str, Any]


def rows(count: int, wallets: int = 20, days: float = 92) -> list[Row]:
    """Transactions of three months, in their order."""
    dice = random.Random(20_261_122)
    return [
        {
            "transaction_id": f"00000000-0000-4000-8000-{number:012d}",
            "wallet_id": f"wallet-{dice.randrange(wallets)}",
            "type": dice.choice(["CREDIT", "CREDIT", "DEBIT"]),
            "amount": dice.randint(1, 10_000),
            "currency": "EUR",
            "occurred_at": "2026-06-30T00:00:00Z",
            "recorded_at": (JULY + timedelta(days=days * number / count)).isoformat(),
        }
        for number in range(count)
    ]


def written(path: Path, lines: list[Row]) -> Path:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def signed(row: Row) -> int:
    amount = int(row["amount"])
    return -amount if row["type"] == "DEBIT" else amount


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1_000)


def input_of(settings: Settings, count: int = 0) -> list[Message]:
    """The input, once so many records of it are visible: a commit returns before every partition knows of it."""
    found: list[Message] = []

    def there() -> bool:
        nonlocal found
        found = [*read_all(settings, Topics.of(settings).transactions, settings.partitions)]
        return len(found) >= count

    wait_until(there, f"{count} records are visible")
    return found


def sent(messages: list[Message]) -> list[tuple[str, int]]:
    """Ids and times, sorted: what must be there once."""
    return sorted(
        (decode_transaction((one.value() or b"")[5:]).transaction_id, one.timestamp()[1]) for one in messages
    )


def wanted(lines: list[Row]) -> list[tuple[str, int]]:
    return sorted((line["transaction_id"], ms(line["recorded_at"])) for line in lines)


@pytest.fixture
def opened(kafka_only_settings: Settings) -> Settings:
    """A pipeline that is open for history; Kafka alone."""
    initialise_topics(kafka_only_settings, create_time=True)
    return kafka_only_settings


@pytest.fixture
def pipeline(settings: Settings, tmp_path: Path) -> Iterator[Settings]:
    """A whole pipeline, open for history, with a worker and the ledger's sink."""
    init.initialise(settings, "history")
    with Worker(settings, tmp_path / "worker.log"), running(settings, "ledger"):
        yield settings


def test_three_months_of_history_keep_their_dates_and_live_records_get_the_brokers(
    pipeline: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = rows(3_000)
    opening: list[Row] = [
        {"wallet_id": f"wallet-{n}", "currency": "EUR", "balance": n * 100 - 500, "at": JULY.isoformat()}
        for n in range(20)
    ]
    # An independent fold: balances after every line, and as of a time.
    begin = {line["wallet_id"]: int(line["balance"]) for line in opening}
    by_wallet = {wallet: [row for row in lines if row["wallet_id"] == wallet] for wallet in begin}
    now = {wallet: begin[wallet] + sum(map(signed, mine)) for wallet, mine in by_wallet.items()}
    dice = random.Random(7)
    known: list[Row] = [{"wallet_id": wallet, "balance": balance} for wallet, balance in now.items()]
    for _ in range(200):
        wallet = dice.choice([*begin])
        at = JULY + timedelta(seconds=dice.randrange(92 * 86_400))
        before = [row for row in by_wallet[wallet] if datetime.fromisoformat(row["recorded_at"]) <= at]
        balance = begin[wallet] + sum(map(signed, before))
        known.append({"wallet_id": wallet, "balance": balance, "at": at.isoformat(), "currency": "EUR"})
    options = Options(
        (written(tmp_path / "history.jsonl", lines),),
        opening=written(tmp_path / "opening.jsonl", opening),
        check=written(tmp_path / "known.jsonl", known),
    )
    assert importing.run(pipeline, options) == 0
    told = capsys.readouterr().err
    assert (
        "3019 transactions sent, 0 bad lines, 1 opening balances of zero, which need no transaction" in told
    )
    assert "220 balances match, 0 differ" in told

    # Every entry has its date, in the topic and in the months of Postgres.
    entries = [
        decode_entry((one.value() or b"")[5:])
        for one in read_all(pipeline, Topics.of(pipeline).ledger, pipeline.partitions)
    ]
    dates = {entry.transaction.transaction_id: entry.recorded_ms for entry in entries}
    assert {line["transaction_id"]: ms(line["recorded_at"]) for line in lines}.items() <= dates.items()
    firsts = {e.transaction.wallet_id: e for e in entries if e.sequence == 1}
    for wallet, balance in begin.items():
        if balance:
            assert firsts[wallet].balance == balance
            assert dict(firsts[wallet].transaction.metadata) == {
                "opening_balance": str(balance),
                "as_of": "2026-07-01T00:00:00Z",
            }
    with postgres.connect(pipeline, postgres.READER) as connection:
        months = connection.execute(
            "SELECT to_char(recorded_at, 'YYYY-MM'), count(*), count(DISTINCT tableoid) FROM transactions"
            " GROUP BY 1 ORDER BY 1"
        ).fetchall()
    assert [(month, partitions) for month, _, partitions in months] == [
        ("2026-07", 1),
        ("2026-08", 1),
        ("2026-09", 1),
    ]
    assert sum(count for _, count, _ in months) == 3_019

    # A balance that is wrong on purpose is told, with both.
    wrong = [{"wallet_id": "wallet-3", "balance": now["wallet-3"] + 1}, *known]
    assert importing.run(pipeline, Options(check=written(tmp_path / "wrong.jsonl", wrong))) == 8
    assert (
        capsys.readouterr()
        .out.strip()
        .endswith(
            f"wrong.jsonl: line 1: wallet 'wallet-3': expected {now['wallet-3'] + 1}, "
            f"but the pipeline has {now['wallet-3']} EUR (minor units)"
        )
    )

    assert importing.run(pipeline, Options(check=tmp_path / "wrong.jsonl"), as_json=True) == 8
    compared = json.loads(capsys.readouterr().out)["balances"]
    assert (compared["match"], compared["differ"]) == (len(known), 1)
    assert compared["differences"][0].endswith(f"but the pipeline has {now['wallet-3']} EUR (minor units)")

    # What somebody's open transaction holds back is waited for.
    hasty = pipeline.model_copy(update={"stall_s": 1.0})
    foreign = as_record(transaction(9_999_998, "wallet-3"), pipeline.partitions)
    with (
        open_transaction(pipeline, Topics.of(pipeline).transactions, foreign),
        pytest.raises(NotReachable, match="no progress for 1 s"),
    ):
        importing.run(hasty, Options(check=tmp_path / "known.jsonl"))

    # Opened to upstream, a live record gets the broker's time, whatever it brings; history keeps its own.
    init.initialise(pipeline, "upstream")
    began_ms = int(datetime.now(UTC).timestamp() * 1_000)
    Upstream(pipeline).send(
        [as_record(transaction(9_999_999, "wallet-3"))], iter([ms("2020-01-01T00:00:00Z")])
    )
    live = [one for one in input_of(pipeline) if one.timestamp()[0] == TIMESTAMP_LOG_APPEND_TIME]
    assert [one.timestamp()[1] >= began_ms - 1_000 for one in live] == [True]
    assert sum(one.timestamp()[0] == TIMESTAMP_CREATE_TIME for one in input_of(pipeline)) == 3_019
    with pytest.raises(Refused, match="holds records with the broker's time"):
        init.initialise(pipeline, "history")
    check = Options(
        check=written(tmp_path / "live.jsonl", [{"wallet_id": "wallet-3", "balance": now["wallet-3"] + 100}])
    )
    assert importing.run(pipeline, check) == 0


#: `wallet import` that ends by SIGKILL before or after its second commit, as its first argument says.
DIES_AT_ITS_SECOND_COMMIT = """
import os, signal, sys
from confluent_kafka import Producer
from operations.main import main
from topics import clients

class Dying(Producer):
    commits = 0
    def commit_transaction(self, *wait):
        self.commits += 1
        if self.commits == 2 and when == "before": os.kill(os.getpid(), signal.SIGKILL)
        super().commit_transaction(*wait)
        if self.commits == 2: os.kill(os.getpid(), signal.SIGKILL)

when = sys.argv.pop(1)
clients.Producer = Dying
main()
"""


@pytest.mark.parametrize(("when", "done"), [("before", 10_000), in_full("after", 20_000)])
def test_an_import_killed_midway_goes_on_and_sends_no_line_twice(
    opened: Settings, tmp_path: Path, when: str, done: int
) -> None:
    lines = rows(25_000)
    path = written(tmp_path / "history.jsonl", lines)
    by = ("-c", DIES_AT_ITS_SECOND_COMMIT, when)
    killed = Worker(opened, tmp_path / "import.log", "import", str(path), by=by)
    assert killed.wait() == -signal.SIGKILL, killed.told()

    before = import_progress.read_progress(opened)
    assert before
    assert (before.done, before.lines) == (done, 25_000)
    assert importing.run(opened, Options((path,))) == 0
    messages = input_of(opened, len(lines))
    assert sent(messages) == wanted(lines)
    for partition in range(opened.partitions):
        dates = [one.timestamp()[1] for one in messages if one.partition() == partition]
        assert dates == sorted(dates)


def test_what_a_dead_import_had_open_is_never_seen(opened: Settings, tmp_path: Path) -> None:
    dead = Producer(librdkafka(opened, transactional_id=f"{opened.prefix}-import"))
    dead.init_transactions(30)
    dead.begin_transaction()
    dead.produce(Topics.of(opened).transactions, b"half", b"key", 0)
    dead.flush(30)

    lines = rows(100)
    assert importing.run(opened, Options((written(tmp_path / "history.jsonl", lines),))) == 0
    assert sent(input_of(opened, len(lines))) == wanted(lines)


def test_of_two_imports_at_once_the_first_stops_and_says_so(opened: Settings, tmp_path: Path) -> None:
    line = Dated(b"wallet", b"", 1)
    progress = import_progress.Progress("digest", 2, 1)
    first, second = (ImportProducer(opened, 1) for _ in range(2))
    try:
        first.open()
        first.write_lines([line], replace(progress, done=1))
        second.open()
        with pytest.raises(Stopped, match=r"another `wallet import` of the pipeline .* has taken over"):
            first.write_lines([line], replace(progress, done=2))
        second.write_lines([line], replace(progress, done=2))
    finally:
        first.close()
        second.close()
    assert len(input_of(opened, 2)) == 2


def test_other_files_are_refused_while_an_import_is_unfinished_which_goes_on_undisturbed(
    opened: Settings, tmp_path: Path
) -> None:
    at_work = import_progress.Progress("of other files", lines=7, begun_ms=1, done=3)
    path = written(tmp_path / "history.jsonl", rows(10))
    producer = ImportProducer(opened, 1)
    try:
        producer.open()
        producer.write_lines([], at_work)
        with pytest.raises(Refused, match=r"an import of other files is unfinished at line 3 of 7"):
            importing.run(opened, Options((path,)))
        producer.write_lines([], replace(at_work, done=6))
    finally:
        producer.close()
    client = quiet_admin(opened)
    found = describe(client, [Topics.of(opened).transactions])
    with pytest.raises(Refused, match=r"an import is unfinished at line 6 of 7: .* or add --yes"):
        history.open_to_upstream(client, opened, found, agreed=False)
    assert history.open_to_upstream(client, opened, found, agreed=True)


def test_the_same_files_again_send_nothing_and_older_ones_are_refused(
    opened: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    august = [row | {"recorded_at": f"2026-08-01T00:00:{n:02d}Z"} for n, row in enumerate(rows(10))]
    july = [row | {"recorded_at": "2026-07-31T23:59:59Z"} for row in rows(10)]
    september = [
        row
        | {"recorded_at": "2026-09-01T00:00:00Z", "transaction_id": row["transaction_id"].replace("-4", "-5")}
        for row in rows(10)
    ]
    path = written(tmp_path / "august.jsonl", august)
    assert importing.run(opened, Options((path,))) == 0
    assert importing.run(opened, Options((path.rename(tmp_path / "renamed.jsonl"),))) == 0
    assert "all 10 lines are already imported: nothing to do" in capsys.readouterr().err
    with pytest.raises(
        Refused, match=r"line 1 was recorded at 2026-07-31.* the input holds records up to 2026-08-01"
    ):
        importing.run(opened, Options((written(tmp_path / "july.jsonl", july),)))
    assert importing.run(opened, Options((written(tmp_path / "september.jsonl", september),))) == 0
    assert sent(input_of(opened, 20)) == wanted(august + september)


def test_nothing_is_sent_while_lines_are_bad_unless_they_are_to_be_left_out(
    opened: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = rows(10)
    broken = [*lines[:4], lines[7] | {"amount": 0}, lines[2], *lines[4:]]
    path = written(tmp_path / "history.jsonl", broken)
    with pytest.raises(BadLines, match="2 of 12 lines are bad and nothing was sent"):
        importing.run(opened, Options((path,)))
    told = capsys.readouterr().err
    assert "history.jsonl: line 5: transaction" in told
    assert "history.jsonl: line 6: it was recorded at" in told
    assert input_of(opened) == []
    assert importing.run(opened, Options((path,), dry_run=True)) == 6
    assert input_of(opened) == []
    assert importing.run(opened, Options((path,), leave_out_bad=True)) == 6
    assert sent(input_of(opened, len(lines))) == wanted(lines)


def test_an_input_that_is_not_open_takes_no_history(kafka_only_settings: Settings, tmp_path: Path) -> None:
    initialise_topics(kafka_only_settings)
    with pytest.raises(Refused, match="is not open for history, so dates would not be kept"):
        importing.run(kafka_only_settings, Options((written(tmp_path / "history.jsonl", rows(1)),)))


def test_nothing_live_is_sent_while_the_input_is_open_for_history(opened: Settings, tmp_path: Path) -> None:
    line = {name: value for name, value in rows(1)[0].items() if name != "recorded_at"}
    file = written(tmp_path / "live.jsonl", [line])
    for send in (
        lambda: sending.send_file(file, None, opened),
        lambda: generating.to_kafka(opened, 1, Mix()),
        lambda: resubmit.run(
            opened, Wanted(reasons=frozenset({Reason.INVALID})), resubmit.Options(), as_json=False
        ),
    ):
        with pytest.raises(Refused, match=r"is open for history: .* run `wallet init --open` first"):
            send()
    assert input_of(opened) == []


def test_dates_that_retention_would_delete_at_once_are_refused(
    kafka_only_settings: Settings, tmp_path: Path
) -> None:
    settings = kafka_only_settings.model_copy(update={"retention_ledger_days": 30})
    initialise_topics(settings, create_time=True)
    with pytest.raises(Refused, match=r"ledger has retention.ms=2592000000 so Kafka would delete"):
        importing.run(settings, Options((written(tmp_path / "history.jsonl", rows(1)),)))
    assert input_of(settings) == []


def test_a_check_that_waits_in_vain_says_what_does_not_run(settings: Settings, tmp_path: Path) -> None:
    init.initialise(settings, "history")
    hasty = settings.model_copy(update={"stall_s": 1.0})
    files = (written(tmp_path / "history.jsonl", rows(10)),)
    known = written(tmp_path / "known.jsonl", [{"wallet_id": "wallet-0", "balance": 0}])
    with pytest.raises(
        NotReachable, match=r"no progress for 1 s, 0 of \d+ done: is a `wallet worker` running\?"
    ):
        importing.run(hasty, Options(files, check=known))
