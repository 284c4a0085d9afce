"""`wallet export`: files that hold what the topics hold, byte by byte, go on where they stopped, agree with seals."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Message, Producer
from pyarrow import parquet

from config.errors import ConfigurationError, NotReachable, Refused, WalletError
from config.settings import Settings
from operations.export import run as exporting
from operations.export import statement
from operations.export.manifest import sha256_of
from operations.export.run import Options
from operations.export.spans import TOPICS
from operations.looking.status import look
from operations.setup.init import initialise
from operations.verify import offline
from operations.verify.run import Options as Verify
from sinks import postgres
from sinks.archive import seals
from sinks.postgres import questions
from tests.integration.archives import enter, name, pipeline_with, two_months, work
from tests.integration.pipelines import Rig, small
from tests.integration.tables import change
from tests.integration.verify_copies import verified
from tests.ledgers import DAY_MS, Ledger, running, wait_until
from topics.clients import librdkafka
from topics.cluster import quiet_admin
from topics.names import Topics
from topics.topic_log import TopicLog

pytestmark = pytest.mark.integration

RAW = ["offset", "timestamp", "record_key", "record_value", "record_headers"]
Row = tuple[int, int, bytes | None, bytes | None, list[tuple[bytes, bytes | None]]]


@pytest.fixture
def posted(settings: Settings, tmp_path: Path) -> Rig:
    """Mixed input that a worker has decided and stopped."""
    rig = Rig(small(settings), tmp_path)
    rig.send(3_000)
    worker = rig.start()
    rig.wait_until_decided(3_000)
    worker.stop()
    return rig


@pytest.fixture
def sent(settings: Settings, tmp_path: Path) -> Settings:
    """Input that nobody has decided."""
    rig = Rig(small(settings), tmp_path)
    rig.send(1_000)
    return rig.settings


def export(settings: Settings, folder: Path, **changes: Any) -> int:
    options = Options(folder, TOPICS, (), None, 1_000_000)
    return exporting.run(settings, Options(**(vars(options) | changes)), as_json=True)


def manifest(folder: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return told


def in_topic(settings: Settings, topic: str) -> Iterator[tuple[int, Message]]:
    log = TopicLog(settings, topic, f"{settings.prefix}.test")
    try:
        for partition in range(settings.partitions):
            at = log.log(partition)
            for messages in log.slices(partition, at.begin, at.stable):
                yield from ((partition, message) for message in messages)
    finally:
        log.close()


def rows_of(settings: Settings, topic: str) -> dict[int, list[Row]]:
    found: dict[int, list[Row]] = {}
    for partition, one in in_topic(settings, topic):
        headers: Any = one.headers() or []
        row = (
            one.offset() or 0,
            one.timestamp()[1],
            one.key(),
            one.value(),
            [(n.encode(), v) for n, v in headers],
        )
        found.setdefault(partition, []).append(row)
    return found


def rows_in(folder: Path, topic: str) -> dict[int, list[Row]]:
    """What the files of a topic hold, by the manifest, each checked by its SHA-256 on the way."""
    found: dict[int, list[Row]] = {}
    for one in manifest(folder)["files"]:
        if one["topic"] != topic:
            continue
        content = (folder / one["path"]).read_bytes()
        assert sha256(content).hexdigest() == one["sha256"]
        table = parquet.read_table(folder / one["path"], columns=RAW)
        assert table.num_rows == one["records"]
        rows = found.setdefault(one["partition"], [])
        for row in table.to_pylist():
            assert one["from_offset"] <= row["offset"] < one["to_offset"]
            at_ms = round(row["timestamp"].timestamp() * 1_000)
            headers = [(header["name"], header["value"]) for header in row["record_headers"]]
            rows.append((row["offset"], at_ms, row["record_key"], row["record_value"], headers))
    return found


def test_files_hold_what_the_topics_hold_byte_by_byte(posted: Rig, tmp_path: Path) -> None:
    settings, folder = posted.settings, tmp_path / "files"
    assert export(settings, folder, records_per_file=200) == 0
    topics = Topics.of(settings)
    held = {
        "input": topics.transactions,
        "ledger": topics.ledger,
        "rejections": topics.rejections,
        "snapshots": topics.snapshots,
    }
    for ours, topic in held.items():
        assert rows_in(folder, ours) == rows_of(settings, topic), ours
    before = manifest(folder)["files"]
    # A second run has nothing to do; what came since goes into files of its own, whatever it is.
    assert export(settings, folder, records_per_file=200) == 0
    assert manifest(folder)["files"] == before
    posted.send(100)
    producer = Producer(librdkafka(settings))
    producer.produce(topics.ledger, b"no entry", b"nobody", 0)
    assert producer.flush(60) == 0
    assert export(settings, folder, topics=["input", "ledger"]) == 0
    assert manifest(folder)["files"][: len(before)] == before
    assert rows_in(folder, "input") == rows_of(settings, topics.transactions)
    assert rows_in(folder, "ledger") == rows_of(settings, topics.ledger)
    assert manifest(folder)["files"][-1] | {"records": 1, "amount": 0} == manifest(folder)["files"][-1]


def test_an_export_is_verified_without_servers(posted: Rig, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with pytest.raises(ConfigurationError, match="holds no export"):
        offline.run(folder, Verify())
    export(posted.settings, folder, records_per_file=100)
    online = verified(posted.settings, postgres=False, export=tmp_path / "online.json")
    report = offline.run(folder, Verify(export=tmp_path / "offline.json"))
    assert not report.differences.total, report.differences.shown
    told = [json.loads((tmp_path / f"{where}.json").read_text()) for where in ("online", "offline")]
    assert told[0]["certified"]["partitions"] == told[1]["certified"]["partitions"]
    assert report.findings.total == online.findings.total

    # One entry is another, its file and the manifest with it.
    _, one, *_ = (
        one for one in manifest(folder)["files"] if (one["topic"], one["partition"]) == ("ledger", 0)
    )
    table = parquet.read_table(folder / one["path"])
    values = table["record_value"].to_pylist()
    values[5] = values[5][:-1] + bytes([values[5][-1] ^ 1])
    at = table.schema.get_field_index("record_value")
    parquet.write_table(table.set_column(at, table.schema.field(at), [values]), folder / one["path"])
    report = offline.run(folder, Verify())
    assert sorted((each.check, each.what) for each in report.differences.shown) == [
        ("chain", "altered"),
        ("export", "altered"),
    ]
    (folder / one["path"]).write_bytes(b"nothing")
    report = offline.run(folder, Verify(shown=10_000))
    assert {each.check for each in report.differences.shown} > {"export", "conservation"}
    assert 0 < report.differences.counts[f"{posted.settings.prefix}.ledger", "missing"] <= one["records"]
    told_files = manifest(folder)
    told_files["files"].remove(one)
    (folder / "manifest.json").write_text(json.dumps(told_files))
    with pytest.raises(Refused, match="is incomplete"):
        offline.run(folder, Verify())


def test_readable_columns_are_what_the_rows_in_postgres_say(posted: Rig, tmp_path: Path) -> None:
    settings, folder = posted.settings, tmp_path / "files"
    initialise(settings)
    sinks, client = ("ledger", "snapshots", "rejections"), quiet_admin(settings)
    with running(settings, *sinks):
        wait_until(lambda: not any(look(settings, client).lag(sink) for sink in sinks), "all is written")
    assert export(settings, folder) == 0
    with postgres.connect(settings) as connection:
        tables = {
            table: [*connection.execute(f"SELECT {', '.join(columns)} FROM {table}")]  # noqa: S608
            for table, columns in READABLE.items()
        }
    for table, columns in READABLE.items():
        topic = {"transactions": "ledger", "transaction_snapshots": "snapshots"}.get(table, table)
        found = [
            tuple(_as_in_postgres(row, column) for column in columns)
            for one in manifest(folder)["files"]
            if one["topic"] == topic
            for row in parquet.read_table(folder / one["path"]).to_pylist()
        ]
        assert len(found) > 10
        assert sorted(found) == sorted(tuple(row) for row in tables[table]), table


READABLE = {
    "transactions": (
        "source_partition",
        "source_offset",
        "wallet_id",
        "sequence",
        "transaction_id::text",
        "type::text",
        "amount",
        "currency",
        "occurred_at",
        "group_id IS NULL",
        "metadata::text",
        "balance",
        "recorded_at",
        "hash",
    ),
    "transaction_snapshots": (
        "wallet_id",
        "sequence",
        "balance",
        "currency",
        "reason::text",
        "source_offset",
        "hash",
    ),
    "rejections": ("source_partition", "source_offset", "reason", "detail", "at"),
}


def _as_in_postgres(row: dict[str, Any], column: str) -> object:
    if column == "group_id IS NULL":
        return row["group_id"] is None
    if column == "metadata::text":
        return json.dumps(
            dict(sorted(row["metadata"], key=lambda pair: (len(pair[0]), pair[0]))), ensure_ascii=False
        )
    return row[column.removesuffix("::text")]


def test_an_export_that_is_cut_short_goes_on(
    sent: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, folder = sent, tmp_path / "files"
    real, left = TopicLog.slices, [3]

    def broken(self: TopicLog, partition: int, begin: int, end: int) -> Iterator[list[Message]]:
        for messages in real(self, partition, begin, end):
            if left[0] == 0:
                raise NotReachable("Kafka is away")
            left[0] -= 1
            yield messages

    with monkeypatch.context() as patched:
        patched.setattr(TopicLog, "slices", broken)
        with pytest.raises(NotReachable):
            export(settings, folder, topics=["input"], records_per_file=50)
    begun = manifest(folder)["files"]
    assert begun
    assert export(settings, folder, topics=["input"], records_per_file=50) == 0
    assert manifest(folder)["files"][: len(begun)] == begun
    assert rows_in(folder, "input") == rows_of(settings, Topics.of(settings).transactions)
    assert not [*folder.rglob("*.part")]


def test_a_folder_of_another_pipeline_is_refused(sent: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    assert export(sent, folder, topics=["input"], partitions=[1]) == 0
    assert {one["partition"] for one in manifest(folder)["files"]} == {1}
    told = manifest(folder)
    told["origin"]["input topic"] = told["origin"]["input topic"].replace("id ", "id x")
    (folder / "manifest.json").write_text(json.dumps(told))
    with pytest.raises(Refused, match=r"holds an export with input topic .* choose another folder"):
        export(sent, folder, topics=["input"])
    (folder / "manifest.json").write_text("[]")
    with pytest.raises(ConfigurationError, match="is not an export's manifest"):
        export(sent, folder)
    with pytest.raises(ConfigurationError, match="--partition 4: the pipeline has partitions 0 to 3"):
        export(sent, tmp_path / "other", partitions=[4])


@pytest.fixture
def pipeline(settings: Settings) -> Settings:
    """Two of its months are sealed."""
    found = pipeline_with(settings, two_months(0), two_months(1), transactions_of=10)
    work(found)
    return found


def test_sealed_months_agree_with_their_seals(pipeline: Settings, tmp_path: Path) -> None:
    with postgres.connect(pipeline) as connection:
        known = seals.read(connection)
    folder = tmp_path / "files"
    assert export(pipeline, folder, topics=["ledger"], months=[], records_per_file=30) == 0
    told = manifest(folder)
    assert [(month["month"], month["seal"], month["as_sealed"]) for month in told["months"]] == [
        (f"{seal.content.month:%Y-%m}", seal.seal.hex(), True) for seal in known
    ]
    assert len(known) == 2
    for seal in known:
        of_it = [one for one in told["files"] if one["month"] == f"{seal.content.month:%Y-%m}"]
        assert sum(one["records"] for one in of_it) == seal.content.entries
        assert sum(one["amount"] for one in of_it) == seal.content.amount
        ends = {at.partition: (at.from_offset, at.to_offset) for at in seal.content.ranges}
        for partition, (begin, end) in ends.items():
            spans = sorted(
                (one["from_offset"], one["to_offset"]) for one in of_it if one["partition"] == partition
            )
            assert (spans[0][0], spans[-1][1]) == (begin, end)
    # A month that is not as it was sealed: its files are told apart from the seal, with exit code 8.
    change(pipeline, "UPDATE archive_seals SET amount = amount + 1 WHERE month = %s", known[0].content.month)
    with pytest.raises(Refused, match="the chain of seals is broken at"):
        export(pipeline, tmp_path / "broken", topics=["ledger"], months=[])


def test_sealed_months_are_verified_without_servers(pipeline: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    assert export(pipeline, folder, topics=["ledger"], months=[], records_per_file=30) == 0
    report = offline.run(folder, Verify())
    assert report.clean, report.differences.shown
    assert report.rows == {one["month"]: one["entries"] for one in manifest(folder)["months"]}

    told = manifest(folder)
    (folder / "manifest.json").write_text(
        json.dumps(told | {"months": [told["months"][0] | {"previous": "00"}, *told["months"][1:]]})
    )
    assert [one.check for one in offline.run(folder, Verify()).differences.shown] == ["seals"]
    (folder / "manifest.json").write_text(json.dumps(told))

    # An entry in the middle of a month is gone, and the file and its hash with it are another.
    one = told["files"][1]
    table = parquet.read_table(folder / one["path"])
    parquet.write_table(table.take([*range(9), *range(10, len(table))]), folder / one["path"])
    one["sha256"] = sha256_of(folder / one["path"])
    (folder / "manifest.json").write_text(json.dumps(told))
    checks = {each.check for each in offline.run(folder, Verify(shown=100)).differences.shown}
    assert checks == {"arithmetic", "chain", "seals"}


def test_a_month_that_differs_from_its_seal_is_told(pipeline: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    with postgres.connect(pipeline) as connection:
        first = seals.read(connection)[0]
    wanted = [first.content.month]
    assert export(pipeline, folder, topics=["ledger"], months=wanted) == 0
    told = manifest(folder)
    dropped = told["files"].pop()
    told["files"].append(dropped | {"records": dropped["records"] - 1})
    (folder / "manifest.json").write_text(json.dumps(told))
    assert export(pipeline, folder, topics=["ledger"], months=wanted) == 8
    assert [month["as_sealed"] for month in manifest(folder)["months"]] == [False]
    path = folder / dropped["path"]
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(Refused, match="has changed since it was written"):
        export(pipeline, folder, topics=["ledger"], months=wanted)
    with pytest.raises(WalletError, match=f"month {name(wanted[0].replace(year=1999))} is not sealed"):
        export(pipeline, folder, months=[wanted[0].replace(year=1999)])


# -- statements


#: What would end an account's name in a journal, or begin another.
ODD = 'a  b;"x": %\n\u20ac'


@pytest.fixture
def entered(settings: Settings) -> Settings:
    initialise(settings)
    ledger = Ledger(0)
    for number in range(30):
        ledger.recorded_ms += DAY_MS
        ledger.post("plain" if number % 3 else ODD, amount=1_250 + number, metadata=(("note", "a\nb"),))
    enter(settings, ledger)
    return settings


def test_a_statement_as_csv(entered: Settings, tmp_path: Path) -> None:
    path = tmp_path / "plain.csv"
    assert statement.export(entered, "plain", path, None, None, None) == 20
    lines = path.read_text().splitlines()
    assert lines[0] == (
        "sequence,recorded_at,occurred_at,transaction_id,type,amount,currency,balance,change_in_units,"
        "balance_in_units,group_id,metadata,source_partition,source_offset,hash"
    )
    assert len(lines) == 21
    assert "1251,EUR,1251,12.51,12.51," in lines[1]
    with pytest.raises(WalletError, match="wallet 'nobody' has no entry"):
        statement.export(entered, "nobody", path, None, None, None)
    assert path.read_text().splitlines() == lines
    with pytest.raises(ConfigurationError, match=r"name it \.csv or \.journal, or add --format"):
        statement.export(entered, "plain", tmp_path / "plain.txt", None, None, None)


def test_the_journal_of_a_period_without_entries_states_the_balance_before_it(
    entered: Settings, tmp_path: Path
) -> None:
    path = tmp_path / "quiet.journal"
    entries = [*questions.statement(entered, "plain")]
    commodity = "commodity 10.00 EUR\n"
    after = entries[-1].recorded_at + timedelta(days=1)
    opening = (
        f"{after.date()} opening balance\n    assets:wallets:plain  253.00 EUR\n    equity:opening balances\n"
    )
    for begin, end, text in (
        (after, None, f"{commodity}\n{opening}"),
        (None, entries[0].recorded_at, commodity),
        (datetime(1, 1, 1, tzinfo=UTC), entries[0].recorded_at, commodity),
    ):
        assert statement.export(entered, "plain", path, None, begin, end) == 0
        assert path.read_text() == text
    with pytest.raises(WalletError, match="wallet 'nobody' has no entry"):
        statement.export(entered, "nobody", path, None, after, None)


@pytest.mark.parametrize("wallet_id", ["plain", ODD])
@pytest.mark.parametrize("part", [False, True])
def test_hledger_reads_and_checks_the_journal(
    entered: Settings, tmp_path: Path, wallet_id: str, part: bool
) -> None:
    if shutil.which("hledger") is None:
        pytest.skip("hledger is not installed")
    path = tmp_path / "one.journal"
    entries = [*questions.statement(entered, wallet_id)]
    begin = entries[5].recorded_at if part else None
    assert statement.export(entered, wallet_id, path, None, begin, None) == len(entries) - (5 if part else 0)
    hledger = ["hledger", "--file", str(path), "--ignore-assertions"]
    told = subprocess.run(
        [*hledger, "balance", "--no-total", "--flat", "--format", "%(total)", "assets"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert told == f"{Decimal(entries[-1].balance).scaleb(-2)} EUR"
    subprocess.run(["hledger", "--file", str(path), "check"], check=True)
    # One cent more somewhere, and it says so.
    text = path.read_text()
    last = text.rindex(" = ")
    path.write_text(f"{text[:last]} = 1{text[last + 3 :]}")
    assert subprocess.run(
        ["hledger", "--file", str(path), "check"], check=False, capture_output=True
    ).returncode
