"""Files as users have them: what is read, what is refused in one message, and what is a bad line."""

import contextlib
import errno
import gzip
import io
import json
import os
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from config.errors import ConfigurationError
from operations.sending.files import source
from operations.sending.files.file import File, Form, contents, found
from operations.sending.files.shape import BadLine
from operations.sending.generator import Mix, records
from operations.sending.importing.lines import RECORDED
from operations.sending.lines import TRANSACTION, to_json, to_transaction
from schemas.records import DEBIT, Transaction
from tests.unit.conftest import Wallet

NAMES = "transaction_id,wallet_id,type,amount,currency,occurred_at"
ID = "00000000-0000-4000-8000-00000000000"
#: Always the same bytes.
gzipped = partial(gzip.compress, mtime=0)
AT = "2026-03-02T08:00:00Z"
#: Two good rows.
ROWS = [f"{ID}{n},Zürich,CREDIT,{n}00,EUR,{AT}" for n in (1, 2)]
CSV = "\n".join([NAMES, *ROWS, ""])
OBJECTS = [dict(zip(NAMES.split(","), row.split(","), strict=True)) for row in ROWS]
LINE, OTHER_LINE = map(json.dumps, OBJECTS)
JSONL = f"{LINE}\n{OTHER_LINE}\n"


def transactions(file: File) -> list[Transaction | str]:
    """What `wallet send` makes of a file: of each row a transaction, or `line N: why not`."""
    read: list[Transaction | str] = []
    for number, row in file.rows():
        try:
            read.append(f"line {number}: {row}" if isinstance(row, str) else to_transaction(row))
        except BadLine as bad:
            read.append(f"line {number}: {bad}")
    return read


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., list[Transaction | str]]:
    def rows(content: str | bytes, form: Form = "csv") -> list[Transaction | str]:
        path = tmp_path / f"file.{form}"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return transactions(*found([path], None, TRANSACTION))

    return rows


Read = Callable[..., list[Any]]


@pytest.mark.parametrize(
    "content",
    [
        CSV,
        "\ufeff" + CSV,
        CSV.encode("utf-16"),
        b"\xfe\xff" + CSV.encode("utf-16-be"),
        CSV.encode("utf-32"),
        CSV.replace("\n", "\r\n"),
        CSV.replace("\n", "\r"),
        "\n\n,,,,,\n" + CSV.replace("\n", "\n\n") + ",,,,,\n",
        CSV.replace("\n", ",\n"),
        CSV.replace("\n", ",,,\n"),
        gzipped(CSV.encode()),
        gzipped(CSV[:50].encode()) + gzipped(CSV[50:].encode()),
        gzipped(CSV.encode("utf-16")),
        "\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in CSV.split()),
    ],
)
def test_a_csv_that_is_written_otherwise_is_the_same(content: str | bytes, read: Read) -> None:
    assert read(content) == read(CSV)
    assert [(one.wallet_id, one.amount) for one in read(content)] == [("Zürich", 100), ("Zürich", 200)]


def test_every_field_of_a_row_becomes_the_transactions(read: Read) -> None:
    headings, row = f"{NAMES},group_id,metadata.channel\n", f"{ROWS[0]},g,app\n".replace("CREDIT", "DEBIT")
    fields = OBJECTS[0] | {"type": "DEBIT", "group_id": "g", "metadata": {"channel": "app"}}
    at_us = int(datetime(2026, 3, 2, 8, tzinfo=UTC).timestamp()) * 1_000_000
    wanted = [Transaction(f"{ID}1", "Zürich", DEBIT, 100, "EUR", at_us, "g", (("channel", "app"),))]
    assert read(headings + row) == read(json.dumps(fields), "jsonl") == wanted


def test_what_generate_writes_send_reads(read: Read) -> None:
    made = [record.transaction for record in records(500, Mix(seed=3)) if record.transaction]
    assert read("\n".join(json.dumps(to_json(one)) for one in made), "jsonl") == made


@pytest.mark.parametrize(
    "content",
    [
        JSONL,
        "\ufeff" + JSONL,
        JSONL.replace("\n", "\n\ufeff"),  # files with a mark each, put together
        JSONL.encode("utf-16"),
        JSONL.replace("\n", "\r"),
        JSONL.replace("\n", "\r\n\n"),
        gzipped(JSONL.encode()),
        JSONL.replace('"amount": "100"', '"amount": 1e2').replace('"amount": "200"', '"amount": 200.0'),
        JSONL.replace("}", ', "group_id": null, "metadata": {"a": null}}'),
    ],
)
def test_a_jsonl_that_is_written_otherwise_is_the_same(content: str | bytes, read: Read) -> None:
    assert read(content, "jsonl") == read(CSV)


REFUSED = [
    ("", "it is empty"),
    ("\n\r\n", "it is empty"),
    (CSV.replace(",", ";"), "separated by ';': delimiter = \";\""),
    (CSV.replace(",", "\t"), "separated by '\\t': delimiter = \"\\t\""),
    (CSV.replace(",", "|"), "separated by '|'"),
    (CSV.replace(NAMES, NAMES.replace(",", '";"').join('""')), "separated by ';': delimiter = \";\""),
    (f"sep=;\n{CSV.replace(',', ';')}", "on line 2: skip_lines = 1; its columns are separated by ';'"),
    (CSV.replace(NAMES, NAMES.replace(",", ", ")), "are written ' wallet_id', ' type'"),
    (CSV.replace(NAMES, NAMES.replace(",", "','").join("''")), "are written \"'transaction_id'\""),
    ("Buchungstag;Betrag\n1;2\n", "seem to be separated by ';' (delimiter = \";\"); columns do not fit"),
    (f'Konto "x\n{CSV}' + "\n" * 200, "its header is on line 2: skip_lines = 1"),
    (CSV.replace(NAMES, NAMES.title()), "are written 'Transaction_Id', 'Wallet_Id'"),
    (
        f"Account;DE12\n\n{CSV.replace(',', ';')}",
        "on line 3: skip_lines = 2; its columns are separated by ';'",
    ),
    (f"Account: DE12,,,,,\n\n{CSV}", "its header is on line 3: skip_lines = 2"),
    (f"Account: DE12\n{CSV}", "its header is on line 2: skip_lines = 1"),
    ("\n".join(ROWS), "transaction_id, wallet_id, type, amount, currency, occurred_at missing"),
    (CSV.replace("type,amount", "debit,credit"), "type, amount missing, and 'debit', 'credit' unknown"),
    (CSV.replace("amount", "betrag"), "amount missing, and 'betrag' unknown"),
    (f"{NAMES},amount\n", "column 'amount' appears twice"),
    (f"{NAMES},metadata.a,metadata.a\n", "column 'metadata.a' appears twice"),
    (f"{NAMES},metadata\n", "CSV has no column 'metadata': use metadata.<key>"),
    (f'"{CSV}', "line 1 is not a header: not CSV: a quotation mark is not closed"),
    (f'"transaction_id"x,{NAMES}', "line 1 is not a header: not CSV"),
    (
        f"{CSV}wallet_id,transaction_id,type,amount,currency,occurred_at\n",
        "line 4 is a header with other columns",
    ),
    (CSV.encode("cp1252"), "it is not UTF-8: line 2 has the byte 0xfc, which is 'ü' in Windows-1252"),
    (CSV.encode("utf-16-le"), 'looks like utf-16-le: write encoding = "utf-16-le"'),
    (CSV.encode("utf-16-be"), "looks like utf-16-be"),
    (CSV.encode("utf-16")[:-1], "it is not utf-16"),
    (JSONL, "it looks like JSON: name it .jsonl"),
    (gzipped(CSV.encode())[:-9], "its gzip data is damaged or cut off"),
    (gzipped(CSV.encode())[:40] + b"xxxx", "its gzip data is damaged or cut off"),
    (gzipped(CSV.encode()) + b"xxxx", "its gzip data is damaged or cut off"),
    (gzipped(gzipped(CSV.encode())), "its gzip holds gzip again: run `gunzip`"),
    (b"PAR1", "it is Parquet: name it .parquet"),
    (b"\x28\xb5\x2f\xfd....", "compressed with zstd: run `unzstd`"),
    (b"BZh91AY&SY", "compressed with bzip2: run `bunzip2`"),
    (b"\xfd7zXZ\0", "compressed with xz: run `unxz`"),
    (b"PK\3\4\x14", "a ZIP archive or an Excel workbook"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook"),
    (b'<?xml version="1.0"?><Document>', "XML or HTML"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"ORC\n\x06\x12\x04\x08\x01P\0\n\x12\n\x02\0", "an ORC file"),
    (b"ORC\x11\0\0\n\x06\x12\x04\x08\x01P\0+\0", "an ORC file"),
    (b"ARROW1\0\0\xff\xff\xff\xff", "an Arrow file"),
    (b"<DOCUMENT><A>", "XML or HTML"),
]


@pytest.mark.parametrize(("content", "told"), REFUSED)
def test_a_csv_that_is_something_else_is_refused_in_one_line(
    content: str | bytes, told: str, read: Read
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read(content)
    assert told in str(refused.value)
    assert str(refused.value).count("file.csv") == 1
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (json.dumps(OBJECTS), "it is one JSON array"),
        (json.dumps(OBJECTS, indent=2), "it is one JSON array"),
        ("\n [" + JSONL, "it is one JSON array"),
        ("[]", "it is one JSON array"),
        (json.dumps(OBJECTS[0], indent=2), "span several lines (from line 1 on)"),
        (JSONL + json.dumps(OBJECTS[0], indent=2), "span several lines (from line 3 on)"),
        (CSV, "it looks like CSV: name it .csv"),
        (JSONL.encode().replace(b"\\u00fc", b"\xfc"), "it is not UTF-8: line 1 has the byte 0xfc"),
        (JSONL.encode("utf-16-le"), "looks like utf-16-le"),
        (gzipped(json.dumps(OBJECTS).encode()), "it is one JSON array"),
    ],
)
def test_a_jsonl_that_is_something_else_is_refused_in_one_line(
    content: str | bytes, told: str, read: Read
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read(content, "jsonl")
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (f"{NAMES}", "the header is repeated"),
        (f"\ufeff{NAMES}", "the header is repeated"),
        (f'\ufeff"{NAMES}'.replace(",", '","') + '"', "the header is repeated"),
        ("Total,,,100,,", "wallet_id, type, currency, occurred_at missing"),
        (f"{ROWS[0]},", "7 cells, but 6 columns"),
        (f'{ID}1,"a"b,CREDIT,1,EUR,{AT}', "not CSV"),
        (ROWS[0].replace("100", "-100"), "amount -100 has a sign"),
        (ROWS[0].replace("100", "+100"), "amount +100 has a sign"),
        (ROWS[0].replace("100", "1.000"), "amount '1.000' is not a whole number of minor units"),
        (ROWS[0].replace("100", "100.0"), "amount '100.0' is not a whole number of minor units"),
        (ROWS[0].replace("100", "'100"), "is not a whole number"),
        (ROWS[0].replace("100", "1\u00a0000"), "is not a whole number"),
        (ROWS[0].replace("100", "\uff11"), "is not a whole number"),
        (ROWS[0].replace("Zürich", "a\0b"), "contains U+0000"),
        (ROWS[0].replace("08:00:00Z", "08:00:00"), "has no zone: add Z or an offset"),
        (ROWS[0].replace(AT, "9999-12-31T23:59:59-05:00"), "not within the years 1 to 9999"),
        (ROWS[0].replace(AT, "0001-01-01T00:00:00+02:00"), "not within the years 1 to 9999"),
        (ROWS[0].replace(AT, "2026-02-30T08:00:00Z"), "not an ISO 8601 time"),
    ],
)
def test_a_bad_row_is_told_by_its_number_and_the_others_go(line: str, told: str, read: Read) -> None:
    first, bad, last = read(f"{NAMES}\n{ROWS[0]}\n{line}\n{ROWS[1]}\n")
    assert bad.startswith("line 3: ")
    assert told in bad
    assert [first, last] == read(CSV)


def test_a_row_over_several_lines_has_the_number_of_its_first(read: Read) -> None:
    row = ROWS[0] + ',"two\nlines"'
    first, second, broken = read(f'{NAMES},metadata.note\n{row}\n{row}x\n{ROWS[0]},"open\n{ROWS[1]},\n')
    assert dict(first.metadata) == {"note": "two\nlines"}
    assert second.startswith("line 4: not CSV, up to line 5: ")
    assert broken.startswith("line 6: not CSV, up to line 7: a quotation mark is not closed")


def test_a_cell_in_a_column_without_a_name_is_a_bad_line(read: Read) -> None:
    [bad] = read(f"{NAMES},,\n{ROWS[0]},,x\n")
    assert bad == "line 2: a value is in a column without a name"


@pytest.mark.parametrize(
    ("amount", "taken"),
    [
        ("1250", 1250),
        ("1250.0", 1250),
        ("1250.00", 1250),
        ("1e3", 1000),
        ("1E+3", 1000),
        ("12500e-1", 1250),
        ("9007199254740991.0", 2**53 - 1),
        ("9007199254740993", 2**53 + 1),
        (f'"{2**63 - 1}"', 2**63 - 1),
        ("9007199254740992.0", "a floating-point number of 2^53 or more"),
        ("9007199254740993.0", "a floating-point number of 2^53 or more"),
        ("1e17", "a floating-point number of 2^53 or more"),
        ("19.99", "amount 19.99, a decimal number, is not a whole number of minor units"),
        ("1250.0000000000000000000000001", "a decimal number, is not a whole number"),
        ("1e-400", "a decimal number, is not a whole number"),
        ('"1e3"', "amount '1e3' is not a whole number"),
        ('"19.99"', "amount '19.99' is not a whole number"),
        ('"1250.0"', "amount '1250.0' is not a whole number"),
        ("1e400", "has more than 40 digits"),
        ("1e99999999999999999999", "is not a number"),
        ("9" * 5_000, "a number has far too many digits"),
        ("9" * 1_000, "has more than 40 digits"),
        ("9" * 30, "is not between 1 and"),
        (str(2**63), "is not between 1 and"),
        ("-0", "amount 0 is not between 1 and"),
        ("-0.0", "amount 0 is not between 1 and"),
        ("-5.0", "amount -5 has a sign"),
        ('"+5"', "amount +5 has a sign"),
        ("NaN", "not JSON: NaN is not a number"),
        ("-Infinity", "not JSON: -Infinity is not a number"),
        ("true", "amount True is not a whole number"),
        ("[1]", "amount a list is not a whole number"),
        ("null", "amount missing"),
    ],
)
def test_a_number_in_json_is_taken_where_it_is_whole_and_exact(
    amount: str, taken: int | str, read: Read
) -> None:
    line = LINE.replace('"amount": "100"', f'"amount": {amount}')
    [one] = [one.amount if isinstance(one, Transaction) else one for one in read(line, "jsonl")]
    if isinstance(taken, int):
        assert one == taken
    else:
        assert taken in str(one)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (JSONL.replace("\n", ""), "more than one JSON object"),
        (LINE + ",", "not JSON: Extra data at character"),
        (LINE[:-1] + ', "amount": 999}', "a field appears twice"),
        (LINE[:-1] + ', "metadata": {"a": "1", "a": "2"}}', "a field appears twice"),
        (LINE[:-1] + ', "metadata": {"a": 1}}', "metadata.a is a number, not a string"),
        (LINE[:-1] + ', "metadata": {"a\\n": 1}}', r"metadata.a\n is a number, not a string"),
        (LINE[:-1] + ', "metadata": "a"}', "metadata is text, not an object of strings"),
        (LINE[:-1] + ', "metadata": {"a": "1"}, "metadata.a": "2"}', "a metadata key appears twice"),
        (LINE[:-1] + ', "metadata": "b", "metadata.a": "2"}', "metadata is used together with"),
        (LINE[:-1] + ', "x": 1}', "'x' unknown"),
        (LINE[:-1] + ', "group_id": "\\ud800"}', "contains a surrogate"),
        (LINE[:-1], "not JSON"),
        ("[" * 100_000, "not JSON"),
        *(
            (json.dumps(OBJECTS[0] | changes), told)
            for changes, told in (
                ({"type": "GIFT"}, "type 'GIFT' is neither CREDIT nor DEBIT"),
                ({"currency": "eur"}, "currency 'eur' is not three letters"),
                ({"currency": 978}, "currency is a number, not a string"),
                ({"occurred_at": "yesterday"}, "occurred_at 'yesterday' is not an ISO 8601 time"),
                ({"transaction_id": "1"}, "transaction_id '1' is not a UUID"),
                ({"wallet_id": ""}, "wallet_id has 0 characters"),
                ({"group_id": 7}, "group_id is a number, not a string"),
                ({"metadata": {"n": "a\0"}}, "a metadata value contains U+0000"),
            )
        ),
        ('"text"', "not a JSON object"),
        ("42", "not a JSON object"),
    ],
)
def test_a_bad_line_of_json_is_told_by_its_number_and_the_others_go(line: str, told: str, read: Read) -> None:
    first, bad, last = read(f"{LINE}\n\n{line}\n{OTHER_LINE}\n", "jsonl")
    assert bad.startswith("line 3: ")
    assert told in bad
    assert [first, last] == read(CSV)


def test_what_gzip_holds_is_bounded(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "INFLATED_FREE_BYTES", 1024 * 1024)
    bomb = gzipped(CSV.encode() + b"\n" * 8 * 1024 * 1024)
    with pytest.raises(ConfigurationError, match="inflates to more than 200 times its size"):
        read(bomb)


def test_a_line_is_bounded(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "LINE_CHARACTERS", 1_000)
    with pytest.raises(ConfigurationError, match="line 3 has more than 1000 characters"):
        read(JSONL + '{"a": "' + "x" * 2_000, "jsonl")


def test_a_row_of_many_lines_is_bounded(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "LINE_CHARACTERS", 1_000)
    with pytest.raises(ConfigurationError, match="the row up to line 254 has more than 1000 characters"):
        read(CSV + '"\n",' * 1_000)
    assert len(read(CSV + f"{ROWS[0]}\n" * 1_000)) == 1_002


@pytest.mark.parametrize(
    ("name", "form"), [("a.csv.gz", "csv"), ("A.CSV", "csv"), ("b.json.gz", "jsonl"), ("c.PQ", "parquet")]
)
def test_the_form_is_told_by_the_name(name: str, form: Form) -> None:
    assert [file.form for file in found([Path(name)], None, TRANSACTION)] == [form]


def _folder(path: Path) -> None:
    path.mkdir()


def _around(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize(
    ("make", "told"),
    [(_folder, "Is a directory"), (_around, "Too many levels"), (lambda _: None, "No such file")],
)
@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_a_file_that_cannot_be_opened_is_one_line(
    make: Callable[[Path], None], told: str, form: Form, tmp_path: Path
) -> None:
    path = tmp_path / "there"
    make(path)
    with pytest.raises(ConfigurationError) as refused:
        transactions(*found([path], form, RECORDED))
    assert str(refused.value).startswith(f"{path} cannot be read: {told}")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("history.txt", "does not end in .jsonl, .csv or .parquet: rename it, or add --format"),
        ("no.parquet", "no.parquet cannot be read as Parquet"),
    ],
)
def test_a_file_of_no_form_is_one_line(name: str, told: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("not at all")
    with pytest.raises(ConfigurationError, match=told) as refused:
        transactions(*found([tmp_path / name], None, RECORDED))
    assert "\n" not in str(refused.value)


def test_a_pipe_is_sent_and_not_imported(tmp_path: Path, wallet_here: Wallet) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with contextlib.ExitStack() as stack:
        # Open for both, or opening it would wait for a reader.
        end = os.open(tmp_path / "pipe.csv", os.O_RDWR)
        stack.callback(os.close, end)
        told = wallet_here("import", "--dry-run", "pipe.csv")
    assert told.returncode == 2
    assert told.stderr.startswith(
        "wallet: pipe.csv is not a regular file, but an import reads its files twice"
    )


def test_a_dry_run_shows_the_first_rows_as_they_would_be_sent(tmp_path: Path, wallet_here: Wallet) -> None:
    (tmp_path / "a.csv").write_text("\n".join([NAMES, *ROWS, *ROWS]))
    told = wallet_here("send", "--dry-run", "a.csv")
    assert [json.loads(line)["amount"] for line in told.stdout.splitlines()] == [100, 200, 100]
    assert told.stderr == "4 lines are good, 0 bad\n"
    (tmp_path / "a.csv").write_text("\n".join([NAMES, *ROWS, "bad"]))
    told = wallet_here("send", "--dry-run", "--json", "a.csv")
    answer = json.loads(told.stdout)
    assert (answer["dry_run"], answer["good"], answer["bad"], len(answer["first"])) == (True, 2, 1, 2)
    assert told.returncode == 6
    assert told.stderr.startswith("line 4: ")


def test_a_dry_run_reports_a_record_that_sending_would_refuse_for_its_size(
    tmp_path: Path, wallet_here: Wallet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WALLET_MAX_RECORD_BYTES", "1024")
    (tmp_path / "a.csv").write_text(
        "\n".join([f"{NAMES},metadata.note", f"{ROWS[0]},short", f"{ROWS[1]},{'x' * 1024}"])
    )
    told = wallet_here("send", "--dry-run", "a.csv")
    assert told.returncode == 6
    line, counts = told.stderr.splitlines()
    assert line.startswith("line 3: transaction '")
    assert line.endswith("bytes with its key, at most 1024 are taken")
    assert counts == "1 lines are good, 1 bad"


def test_nothing_is_sent_of_a_file_that_turns_out_to_be_something_else(
    tmp_path: Path, wallet_here: Wallet
) -> None:
    """Kafka does not answer here: it is not asked before the file has been read to its end."""
    (tmp_path / "a.csv").write_bytes(CSV.encode() + ROWS[0].encode("latin-1"))
    told = wallet_here("send", "a.csv")
    assert (told.returncode, told.stdout) == (2, "")
    assert told.stderr.startswith("wallet: a.csv: it is not UTF-8: line 4 has the byte 0xfc")


@pytest.mark.parametrize(
    ("content", "code", "told"),
    [
        (JSONL.encode(), 0, "2 lines are good, 0 bad"),
        (gzipped(JSONL.encode()), 0, "2 lines are good, 0 bad"),
        (json.dumps(OBJECTS).encode(), 2, "wallet: standard input: it is one JSON array"),
        (b"", 0, "0 lines are good, 0 bad"),
    ],
    ids=["lines", "gzip", "array", "nothing"],
)
def test_standard_input_is_read_as_a_file_is(
    content: bytes, code: int, told: str, wallet_here: Wallet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    answer = wallet_here("send", "--dry-run", "-")
    assert (answer.returncode, answer.stderr[: len(told)]) == (code, told)


def test_standard_input_that_is_closed_is_one_line(wallet_here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    answer = wallet_here("send", "--dry-run", "-")
    assert (answer.returncode, answer.stderr) == (2, "wallet: standard input: it is closed\n")


@pytest.mark.parametrize(
    "command", ["send a.csv", "import --dry-run --opening b.csv", "send --dry-run --map m.toml a.csv"]
)
def test_no_room_for_a_temporary_file_is_one_line(
    command: str, tmp_path: Path, wallet_here: Wallet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    monkeypatch.setattr(sqlite3, "connect", full)
    (tmp_path / "a.csv").write_text(CSV)
    (tmp_path / "b.csv").write_text("wallet_id,currency,balance,at\n")
    (tmp_path / "m.toml").write_text('[wallet_id]\nconstant = "a"\n')
    told = wallet_here(*command.split())
    assert told.returncode == 2
    assert told.stderr.splitlines()[-1].startswith("wallet: ")
    assert "cannot write a temporary file (No space left on device): set TMPDIR to a folder" in told.stderr


def test_a_file_of_balances_is_told_that_it_has_no_map(tmp_path: Path, wallet_here: Wallet) -> None:
    (tmp_path / "known.csv").write_text("wallet_id;balance\nalice;1\n")
    told = wallet_here("import", "--check", "known.csv")
    assert told.returncode == 2
    assert told.stderr.startswith("wallet: known.csv: its columns are separated by ';'")
    assert "--map does not apply to balances: change the file" in told.stderr


def test_an_import_is_another_one_with_other_lines_or_another_map(tmp_path: Path) -> None:
    names = ("a.csv", "a.csv.gz", "b.csv")
    for name, content in zip(names, (CSV.encode(), gzipped(CSV.encode()), CSV[:-2].encode()), strict=True):
        (tmp_path / name).write_bytes(content)
    plain, zipped, shorter = (found([tmp_path / name], None, RECORDED) for name in names)
    as_it_is = contents(plain, lambda _: None)
    assert contents(zipped, lambda _: None) == as_it_is
    assert contents(shorter, lambda _: None).digest != as_it_is.digest
    assert contents(plain, lambda _: None, "{}").digest != as_it_is.digest
