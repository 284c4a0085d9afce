"""Lines of `wallet import`: dates that are kept, forms that agree, and opening balances."""

import csv
import json
from collections.abc import Callable, Iterable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pyarrow as pa
import pytest
from pyarrow import parquet

from config.settings import Settings
from operations.sending.files import file as import_files
from operations.sending.files.temporary import Spool
from operations.sending.importing.lines import (
    OPENING,
    RECORDED,
    RECORDED_AT,
    Dated,
    Line,
    Opening,
    Part,
    Reader,
    keep,
    kept,
    recorded_transaction,
)
from schemas.codec import decode_transaction
from schemas.records import CREDIT, DEBIT

#: 2026-11-22T10:00:00Z, the present of these tests.
NOW_MS = 1_795_341_600_000
DAY_MS = 86_400_000
#: 2026-08-01T10:00:00Z.
BEGAN_MS = 1_785_578_400_000

Fields = dict[str, object]
Write = Callable[[Iterable[Fields]], Path]


def fields(number: int, recorded_at: object = "2026-08-01T10:00:00Z", **changes: object) -> Fields:
    return {
        "transaction_id": f"5f0c6c3e-0000-4000-8000-{number:012d}",
        "wallet_id": f"wallet-{number % 3}",
        "type": "CREDIT",
        "amount": 1000 + number,
        "currency": "EUR",
        "occurred_at": "2026-08-01T09:59:59.123456+00:00",
        RECORDED_AT: recorded_at,
    } | changes


@pytest.fixture
def jsonl(tmp_path: Path) -> Write:
    def write(rows: Iterable[Fields]) -> Path:
        path = tmp_path / "history.jsonl"
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        return path

    return write


def read(path: Path, max_record_bytes: int = 262_144) -> list[Line]:
    files = import_files.found([path], None, RECORDED)
    parts = [Part(file, recorded_transaction) for file in files]
    return [*Reader(parts, max_record_bytes, NOW_MS).lines()]


def read_opening(path: Path, settings: Settings) -> tuple[list[Line], Opening]:
    [file] = import_files.found([path], None, OPENING)
    with closing(Opening(settings)) as opening:
        return [*Reader([Part(file, opening)], 262_144, NOW_MS).lines()], opening


def times(lines: list[Line]) -> list[int | str]:
    return [line.read.recorded_ms if isinstance(line.read, Dated) else str(line.read) for line in lines]


@pytest.mark.parametrize(
    "recorded_at",
    [
        "2026-08-01T10:00:00Z",
        "2026-08-01T12:00:00+02:00",
        "2026-08-01T10:00:00.000999Z",  # below a millisecond, which Kafka does not have
        1_785_578_400_000,
        "1785578400000",
    ],
)
def test_recorded_at_becomes_the_records_timestamp(recorded_at: object, jsonl: Write) -> None:
    [line] = read(jsonl([fields(1, recorded_at)]))
    assert times([line]) == [1_785_578_400_000]
    assert isinstance(line.read, Dated)
    assert line.read.key == b"wallet-1"
    assert decode_transaction(line.read.body).amount == 1001


@pytest.mark.parametrize(
    ("recorded_at", "reason"),
    [
        ("2026-08-01T10:00:00", "has no zone"),
        ("yesterday", "not an ISO 8601 time"),
        (None, "recorded_at missing"),
        (True, "recorded_at is true or false, not a string"),
        (10**30, "out of range for milliseconds since 1970: are these microseconds?"),
        (NOW_MS * 1_000, "out of range for milliseconds since 1970: are these microseconds?"),
        (NOW_MS + 1, "which is in the future"),
        (0, "is before 2000-01-01: is it in seconds?"),
        (-1, "is before 2000-01-01: is it in seconds?"),
        (NOW_MS // 1_000, "recorded_at 1970-01-21T18:42:21.600000Z is before 2000-01-01: is it in seconds?"),
        (str(NOW_MS // 1_000), "is before 2000-01-01: is it in seconds?"),
        (1e9, "is before 2000-01-01: is it in seconds?"),
        ("1969-12-31T23:59:59Z", "is before 2000-01-01"),
        ("9999-12-31T23:59:59-05:00", "not within the years 1 to 9999"),
        ("0001-01-01T00:00:00+02:00", "not within the years 1 to 9999"),
    ],
)
def test_a_date_that_could_not_be_kept_is_a_bad_line(recorded_at: object, reason: str, jsonl: Write) -> None:
    [line] = read(jsonl([fields(1, recorded_at)]))
    assert reason in str(line.read)


def test_a_line_that_goes_back_in_time_is_bad_and_the_next_are_held_against_the_good_ones(
    jsonl: Write,
) -> None:
    rows = [fields(n, BEGAN_MS + 1_000 * at) for n, at in enumerate([5, 6, 4, 6, 5, 9, 7])]
    rows[5]["amount"] = 0  # one that is bad for another reason moves no time either
    lines = read(jsonl(rows))
    went_back = "before 2026-08-01T10:00:06.000000Z of an earlier line: sort by recorded_at"
    assert [isinstance(line.read, Dated) for line in lines] == [True, True, False, True, False, False, True]
    assert all(str(lines[at].read).endswith(went_back) for at in (2, 4))
    assert str(lines[2]).endswith("history.jsonl: line 3")


def test_a_transaction_that_is_too_large_is_a_bad_line(jsonl: Write) -> None:
    [line] = read(jsonl([fields(1, metadata={"text": "x" * 300})]), max_record_bytes=300)
    assert "more than the limit of 300" in str(line.read)


def test_times_are_held_against_each_other_across_files(jsonl: Write, tmp_path: Path) -> None:
    first = jsonl([fields(1, BEGAN_MS + 5_000)]).rename(tmp_path / "first.jsonl")
    second = jsonl([fields(2, BEGAN_MS + 4_000)])
    files = import_files.found([first, second], None, RECORDED)
    lines = [*Reader([Part(file, recorded_transaction) for file in files], 9_999, NOW_MS).lines()]
    assert [isinstance(line.read, Dated) for line in lines] == [True, False]


def test_jsonl_csv_and_parquet_give_the_same_records_byte_for_byte(jsonl: Write, tmp_path: Path) -> None:
    """Same transactions and dates, with a group, metadata in its order, and fields that are not there."""
    rows = [
        fields(n, 1_785_578_400_000 + n, type="DEBIT" if n % 4 == 0 else "CREDIT")
        | ({"group_id": f"g-{n}"} if n % 2 else {})
        | ({"metadata": {"channel": "app", "a": "ä"}} if n % 3 else {})
        for n in range(9_000)
    ]
    in_json = jsonl(rows)

    in_csv = tmp_path / "history.csv"
    with in_csv.open("w", newline="", encoding="utf-8") as output:
        names = [*fields(0), "group_id", "metadata.channel", "metadata.a"]
        writer = csv.DictWriter(output, names)
        writer.writeheader()
        writer.writerows(_columns(row) for row in rows)

    in_parquet = tmp_path / "history.parquet"
    parquet.write_table(_typed(rows), in_parquet)
    flat = tmp_path / "flat.pq"
    parquet.write_table(pa.Table.from_pylist([_columns(row) for row in rows], _flat()), flat)

    wanted = [line.read for line in read(in_json)]
    assert all(isinstance(one, Dated) for one in wanted)
    for path in (in_csv, in_parquet, flat):
        assert [line.read for line in read(path)] == wanted, path


def _columns(row: Fields) -> Fields:
    metadata = row.get("metadata", {})
    assert isinstance(metadata, dict)
    plain = {name: value for name, value in row.items() if name != "metadata"}
    return plain | {f"metadata.{name}": value for name, value in metadata.items()}


def _typed(rows: list[Fields]) -> pa.Table:
    """Parquet as a warehouse writes it: times with a zone, one of them in nanoseconds, metadata as a map."""
    text = pa.string()
    schema = pa.schema(
        dict.fromkeys(("transaction_id", "wallet_id", "type", "currency", "group_id"), text)
        | {
            "amount": pa.int64(),
            "occurred_at": pa.timestamp("us", "Europe/Berlin"),
            RECORDED_AT: pa.timestamp("ns", "UTC"),
            "metadata": pa.map_(text, text),
        }
    )
    typed = []
    for row in rows:
        metadata, at = row.get("metadata"), row[RECORDED_AT]
        assert isinstance(at, int)
        typed.append(
            row
            | {
                "occurred_at": datetime.fromisoformat(str(row["occurred_at"])),
                RECORDED_AT: at * 1_000_000 + 999,
                "metadata": [*metadata.items()] if isinstance(metadata, dict) else None,
            }
        )
    return pa.Table.from_pylist(typed, schema)


def _flat() -> pa.Schema:
    text = ("transaction_id", "wallet_id", "type", "currency", "occurred_at", "group_id")
    more = ("metadata.channel", "metadata.a")
    whole = {"amount": pa.int64(), RECORDED_AT: pa.int64()}
    return pa.schema({name: pa.string() for name in (*text, *more)} | whole)


def test_an_opening_balance_becomes_a_credit_or_a_debit_and_zero_becomes_none(
    jsonl: Write, plain_settings: Settings
) -> None:
    at = "2026-08-01T00:00:00Z"
    rows: list[Fields] = [
        {"wallet_id": "a", "currency": "EUR", "balance": 500, "at": at},
        {"wallet_id": "b", "currency": "EUR", "balance": "-700", "at": at},
        {"wallet_id": "c", "currency": "EUR", "balance": 0, "at": at},
    ]
    lines, opening = read_opening(jsonl(rows), plain_settings)
    assert lines[2].read is None
    assert opening.zeros == 1
    credit, debit = (decode_transaction(line.read.body) for line in lines if isinstance(line.read, Dated))
    assert (credit.type, credit.amount, debit.type, debit.amount) == (CREDIT, 500, DEBIT, 700)
    assert credit.occurred_us == int(datetime(2026, 8, 1, tzinfo=UTC).timestamp()) * 1_000_000
    assert dict(credit.metadata) == {"opening_balance": "500", "as_of": at}
    assert len({UUID(credit.transaction_id), UUID(debit.transaction_id)}) == 2


def test_opening_balances_have_the_same_ids_each_time_and_others_in_another_pipeline(
    jsonl: Write, plain_settings: Settings
) -> None:
    path = jsonl([{"wallet_id": "a", "currency": "EUR", "balance": 5, "at": "2026-08-01T02:00:00+02:00"}])
    other = plain_settings.model_copy(update={"prefix": "other"})
    first, again, elsewhere = (
        read_opening(path, settings)[0] for settings in (plain_settings, plain_settings, other)
    )
    assert first == again
    assert first != elsewhere


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"balance": 12.5}, "not a whole number"),
        ({"at": 1_785_578_400}, "is before 2000-01-01: is it in seconds?"),
        ({"balance": 2**63}, "amount 9223372036854775808"),
        ({"currency": "eur"}, "three letters"),
        ({"wallet_id": ""}, "wallet_id has 0 characters"),
        ({"balance": -1}, "rejects overdrafts"),
        ({"amount": 1}, "'amount' unknown; known are wallet_id"),
        ({"at": "2027-01-01T00:00:00Z"}, "is in the future"),
    ],
)
def test_an_opening_balance_that_could_not_be_posted_is_a_bad_line(
    change: Fields, reason: str, jsonl: Write, plain_settings: Settings
) -> None:
    good: Fields = {"wallet_id": "a", "currency": "EUR", "balance": 5, "at": "2026-08-01T00:00:00Z"}
    settings = plain_settings.model_copy(update={"overdraft": "reject"})
    [line], _ = read_opening(jsonl([good | change]), settings)
    assert reason in str(line.read)


def test_a_wallet_has_one_opening_balance(jsonl: Write, plain_settings: Settings) -> None:
    one: Fields = {"wallet_id": "a", "currency": "EUR", "balance": 5, "at": "2026-08-01T00:00:00Z"}
    lines, _ = read_opening(jsonl([one, one | {"at": "2026-08-02T00:00:00Z"}]), plain_settings)
    assert lines[1].read == "wallet 'a' already has an opening balance"


def test_what_was_checked_is_kept_as_it_is_until_it_is_sent(jsonl: Write) -> None:
    lines = read(jsonl(fields(n, BEGAN_MS + 1_000 * at) for n, at in enumerate([5, 4, 6])))
    reads = [line.read for line in lines]
    with closing(Spool()) as spool:
        for one in (*reads, None):
            keep(spool, one)
        first, bad, second, nothing = kept(spool)
    assert (first, second, nothing) == (reads[0], reads[2], None)
    assert isinstance(bad, str)
