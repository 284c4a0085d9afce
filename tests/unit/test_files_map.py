"""`--map`: somebody's own columns, exactly; and the bank's file of docs/files.md."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pytest

from config.errors import ConfigurationError
from operations.sending.files.file import Form, found
from operations.sending.files.mapping import Mapping, load
from operations.sending.files.shape import BadLine
from operations.sending.files.values import MINOR_DIGITS
from operations.sending.lines import TRANSACTION, to_transaction
from schemas.records import CREDIT, DEBIT, Transaction
from tests.unit.conftest import Wallet

PAGE = Path(__file__).parents[2] / "docs/files.md"
ID = "5f0c6c3e-0000-4000-8000-000000000001"
#: One good row, by field.
ROW = {
    "transaction_id": ID,
    "wallet_id": "alice",
    "type": "CREDIT",
    "amount": "100",
    "currency": "EUR",
    "occurred_at": "2026-03-02T08:00:00Z",
}
Read = Callable[..., list[Any]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def rows(content: str, mapping: dict[str, Any], form: Form = "csv") -> list[Any]:
        path = tmp_path / f"file.{form}"
        path.write_bytes(content.encode(mapping.get("encoding", "utf-8")))
        [file] = found([path], None, TRANSACTION, Mapping.model_validate(mapping))
        return [taken(row) for _, row in file.rows()]

    return rows


def taken(row: dict[str, object] | str) -> Transaction | str:
    try:
        return row if isinstance(row, str) else to_transaction(row)
    except BadLine as bad:
        return str(bad)


def csv_of(*rows: dict[str, str], delimiter: str = ";") -> str:
    """Rows under their names; cells are written as they are."""
    lines = [delimiter.join(rows[0]), *(delimiter.join(row.values()) for row in rows)]
    return "".join(f"{line}\n" for line in lines)


def without(*names: str, **more: str) -> dict[str, str]:
    return {name: text for name, text in ROW.items() if name not in names} | more


# -- the page


def test_the_banks_file_of_the_page_becomes_what_the_page_says(tmp_path: Path, wallet_here: Wallet) -> None:
    page = PAGE.read_text("utf-8")
    blocks = dict(re.findall(r"^```(csv|toml)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    [session] = re.findall(r"^\$ (wallet send .*--map .*)\n((?:.*\n)*?)```$", page, re.MULTILINE)
    (tmp_path / "giro.csv").write_bytes(blocks["csv"].encode("cp1252"))
    (tmp_path / "giro.toml").write_text(blocks["toml"], "utf-8")
    told = wallet_here(*shlex.split(session[0])[1:])
    assert told.stdout + told.stderr == session[1]
    assert told.returncode == 6


def test_a_derived_id_is_what_the_page_says(read: Read) -> None:
    """By the page's words alone, so that others may make the same."""
    mapping = {"other_columns": "ignore", "transaction_id": {"derived_from": ["a", "b"], "repeats": "number"}}
    row = without("transaction_id", a="Müller", b="")
    names = ['["Müller",null]', '["Müller",null,2]', '["Müller",null,3]']
    space = uuid5(NAMESPACE_URL, "urn:wallet-ledger:derived-id")
    ids = [one.transaction_id for one in read(csv_of(row, row, row, delimiter=","), mapping)]
    assert ids == [str(uuid5(space, name)) for name in names]


def test_every_key_of_a_map_is_on_the_page() -> None:
    page = PAGE.read_text("utf-8")
    tables = {name: field.annotation for name, field in Mapping.model_fields.items()}
    keys = {*tables}
    for annotation in tables.values():
        for kind in getattr(annotation, "__args__", ()):
            keys |= {*getattr(kind, "model_fields", ())}
    assert len(keys) > 25
    assert [key for key in sorted(keys) if not re.search(rf"`\[?{key}\b", page)] == []


# -- how a file is written


@pytest.mark.parametrize("delimiter", [";", "\t", "|", "^", "§"])
def test_any_delimiter_is_read(delimiter: str, read: Read) -> None:
    [one] = read(csv_of(ROW, delimiter=delimiter), {"delimiter": delimiter})
    assert one.wallet_id == "alice"


def test_quotes_are_what_the_map_says(read: Read) -> None:
    row = ROW | {"wallet_id": "'O;ne'"}
    assert read(csv_of(row), {"delimiter": ";", "quote": "'"})[0].wallet_id == "O;ne"
    row = ROW | {"wallet_id": '"One'}
    assert read(csv_of(row), {"delimiter": ";", "quote": ""})[0].wallet_id == '"One'


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "utf-16", "utf-16-le", "cp850", "shift_jis"])
def test_any_encoding_is_read(encoding: str, read: Read) -> None:
    name = "東京" if encoding == "shift_jis" else "Zürich"
    [one] = read(csv_of(ROW | {"wallet_id": name}, delimiter=","), {"encoding": encoding})
    assert one.wallet_id == name


def test_bytes_that_the_named_encoding_does_not_have_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(csv_of(ROW, delimiter=",").encode() + b"\x81\n")
    [file] = found([path], None, TRANSACTION, Mapping(encoding="cp1252"))
    with pytest.raises(ConfigurationError, match="line 3 has the byte 0x81, which is not cp1252"):
        [*file.rows()]
    path.write_bytes(b"\xef\xbb\xbf" + csv_of(ROW, delimiter=",").encode())
    with pytest.raises(ConfigurationError, match="the byte-order mark of utf-8, but the map says cp1252"):
        [*file.rows()]


@pytest.mark.parametrize("where", [{"skip_lines": 3}, {"header_begins_with": "transaction_id,"}])
def test_what_stands_in_front_of_the_header_is_left_out_and_lines_keep_their_numbers(
    where: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    path.write_text('Account "x\n\n1,2\n' + csv_of(ROW, ROW | {"amount": "0"}, delimiter=","))
    [file] = found([path], None, TRANSACTION, Mapping.model_validate(where))
    assert [number for number, _ in file.rows()] == [5, 6]


def test_a_file_without_a_header_gets_its_columns_from_the_map(read: Read) -> None:
    line = ",".join(ROW.values())
    [one] = read(f"{line}\n", {"columns": [*ROW]})
    assert one.amount == 100


@pytest.mark.parametrize(
    ("mapping", "told"),
    [
        ({}, "'Saldo' not in the map: add them, or set other_columns"),
        (
            {"recorded_at": {"column": "Saldo"}},
            "'Saldo' cannot be used as recorded_at: records that are sent get Kafka's time",
        ),
        ({"wallet_id": {"column": "Konto"}}, "the map reads 'Konto', which the file does not have"),
        ({"header_begins_with": "Datum"}, "none of its first 1000 lines begins with 'Datum'"),
        ({"skip_lines": 1}, "which the file does not have"),
        ({"delimiter": "\t"}, "its columns are separated by ','"),
    ],
)
def test_a_file_that_is_not_as_the_map_says_is_refused_in_one_message(
    mapping: dict[str, Any], told: str, read: Read
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read(csv_of(ROW | {"Saldo": "1"}, delimiter=","), mapping)
    assert told in str(refused.value)


def test_rows_between_two_stray_quotation_marks_are_not_lost_in_one_cell(read: Read) -> None:
    marked = [ROW | {"note": note} for note in ('"open', "", 'close"', '"two\nlines; of text"')]
    mapping = {"delimiter": ";", "other_columns": "ignore"}
    names = ("transaction_id", "wallet_id", "type", "note", "amount", "currency", "occurred_at")
    rows = [{name: row[name] for name in names} for row in marked]
    bad, good = read(csv_of(*rows), mapping)
    assert bad == "each line up to line 4 may be a row by itself: is a quotation mark not closed?"
    assert good.amount == 100


@pytest.mark.parametrize("name", ["ORCID", "ARROW1", "<DATE>"])
def test_a_header_that_begins_as_another_kind_of_file_does_is_read(name: str, read: Read) -> None:
    row = {name: "x"} | ROW
    [one] = read(csv_of(row), {"delimiter": ";", "other_columns": "ignore"})
    assert one.amount == 100


def test_a_column_whose_name_has_two_lines_is_told_on_one(read: Read) -> None:
    row = without("amount") | {'"Betrag\n(EUR)"': "1,5x"}
    mapping = {"delimiter": ";", "amount": {"column": "Betrag\n(EUR)", "decimal_mark": ","}}
    assert read(csv_of(row), mapping) == [r"Betrag\n(EUR) '1,5x' is not an amount as the map describes it"]


# -- money

GERMAN = {"decimal_mark": ",", "thousands_mark": "."}


@pytest.mark.parametrize(
    ("written", "amount", "currency", "minor"),
    [
        ("1.234,56", GERMAN, "EUR", 123456),
        ("1234,5", GERMAN, "EUR", 123450),
        ("12", GERMAN, "EUR", 1200),
        ("0,070", GERMAN, "EUR", 7),
        ("1.000", GERMAN, "EUR", 100000),
        ("1.234.567,00", GERMAN, "EUR", 123456700),
        ("1.000", GERMAN, "JPY", 1000),
        ("1,234", GERMAN, "BHD", 1234),
        ("1,2345", GERMAN, "CLF", 12345),
        ("1,234.56", {"decimal_mark": ".", "thousands_mark": ","}, "USD", 123456),
        ("1'234.50", {"decimal_mark": ".", "thousands_mark": "'"}, "CHF", 123450),
        ("1\u2019234.50", {"decimal_mark": ".", "thousands_mark": "'"}, "CHF", 123450),
        ("1\u00a0234,50", {"decimal_mark": ",", "thousands_mark": " "}, "EUR", 123450),
        ("1\u202f234,50", {"decimal_mark": ",", "thousands_mark": " "}, "EUR", 123450),
        (" 12,50 ", GERMAN, "EUR", 1250),
        ("1.250", {"thousands_mark": "."}, "EUR", 1250),
        ("0,00000001", {"decimal_mark": ",", "minor_digits": {"XBT": 8}}, "XBT", 1),
        ("12,5", {"decimal_mark": ",", "minor_digits": 1}, "EUR", 125),
        ("92233720368547758,07", GERMAN, "EUR", 2**63 - 1),
        ("92233720368547758,08", GERMAN, "EUR", "amount 9223372036854775808 is not between 1"),
        ("1,234", GERMAN, "EUR", "has more decimals than the 2 of its currency"),
        ("0,5", GERMAN, "JPY", "has more decimals than the 0 of its currency"),
        ("0.500", GERMAN, "EUR", "is not an amount as the map describes it"),
        ("001.000,00", GERMAN, "EUR", "is not an amount as the map describes it"),
        ("12.34", GERMAN, "EUR", "is not an amount as the map describes it"),
        ("1.23,45", GERMAN, "EUR", "is not an amount as the map describes it"),
        ("1234.567", GERMAN, "EUR", "is not an amount as the map describes it"),
        ("1,234,567", GERMAN, "EUR", "is not an amount as the map describes it"),
        ("1 000.000", {"decimal_mark": ",", "thousands_mark": " "}, "EUR", "is not an amount"),
        (",50", GERMAN, "EUR", "is not an amount"),
        ("12,", GERMAN, "EUR", "is not an amount"),
        ("--12", GERMAN, "EUR", "is not an amount"),
        ("12 EUR", GERMAN, "EUR", "is not an amount"),
        ("1e3", GERMAN, "EUR", "is not an amount"),
        ("\u0661", GERMAN, "EUR", "is not an amount"),
        ("0,00", GERMAN, "EUR", "amount 0 is not between 1"),
        ("-1,00", GERMAN, "EUR", "amount -100 has a sign"),
        ("1,00", GERMAN, "XAU", "currency 'XAU' has no minor digits in ISO 4217"),
    ],
)
def test_an_amount_is_read_by_its_marks_and_its_currency(
    written: str, amount: dict[str, Any], currency: str, minor: int | str, read: Read
) -> None:
    row = ROW | {"amount": written, "currency": currency}
    [one] = read(csv_of(row), {"delimiter": ";", "amount": amount})
    assert one.amount == minor if isinstance(minor, int) else minor in one


@pytest.mark.parametrize(
    ("written", "minus", "kind"),
    [
        ("-5,00", "DEBIT", DEBIT),
        ("\u22125,00", "DEBIT", DEBIT),
        ("5,00-", "DEBIT", DEBIT),
        ("(5,00)", "DEBIT", DEBIT),
        ("+5,00", "DEBIT", CREDIT),
        ("5,00", "DEBIT", CREDIT),
        ("5,00", "CREDIT", DEBIT),
        ("-5,00", "CREDIT", CREDIT),
    ],
)
def test_a_sign_says_the_type(written: str, minus: str, kind: int, read: Read) -> None:
    mapping = {"delimiter": ";", "amount": GERMAN, "type": {"minus": minus}}
    [one] = read(csv_of(without("type") | {"amount": written}), mapping)
    assert (one.type, one.amount) == (kind, 500)


@pytest.mark.parametrize(
    ("debit", "credit", "taken"),
    [
        ("1,00", "", (DEBIT, 100)),
        ("", "1,00", (CREDIT, 100)),
        ("0,00", "1,00", (CREDIT, 100)),
        ("1,00", "2,00", "both of 'Soll', 'Haben' have an amount"),
        ("", "", "none of 'Soll', 'Haben' have an amount"),
        ("0,00", "0,00", "none of 'Soll', 'Haben' have an amount"),
        ("-1,00", "", "'Soll' has a sign, but its amounts are already of type DEBIT: leave the sign out"),
    ],
)
def test_two_columns_say_the_type(debit: str, credit: str, taken: object, read: Read) -> None:
    mapping = {"delimiter": ";", "amount": GERMAN | {"debit": "Soll", "credit": "Haben"}}
    [one] = read(csv_of(without("type", "amount") | {"Soll": debit, "Haben": credit}), mapping)
    assert (one if isinstance(one, str) else (one.type, one.amount)) == taken


def test_words_say_the_type(read: Read) -> None:
    mapping = {"delimiter": ";", "type": {"column": "S/H", "credit": ["H"], "debit": ["S", "D"]}}
    rows = [without("type") | {"S/H": word} for word in ("H", "S", "D", "h", "")]
    found = [one if isinstance(one, str) else one.type for one in read(csv_of(*rows), mapping)]
    assert found == [CREDIT, DEBIT, DEBIT, "S/H 'h' is not one of H, S, D", "type missing"]


def test_minor_digits_are_those_of_iso_4217() -> None:
    assert {code: MINOR_DIGITS[code] for code in ("EUR", "JPY", "BHD", "CLF", "ISK", "TND")} == {
        "EUR": 2,
        "JPY": 0,
        "BHD": 3,
        "CLF": 4,
        "ISK": 0,
        "TND": 3,
    }
    assert len(MINOR_DIGITS) > 160
    assert all(re.fullmatch("[A-Z]{3}", code) for code in MINOR_DIGITS)


# -- times


@pytest.mark.parametrize(
    ("written", "time", "utc"),
    [
        ("02.03.2026", {"formats": ["%d.%m.%Y"], "zone": "Europe/Berlin"}, "2026-03-01T23:00:00"),
        ("02.03.26 09:15", {"formats": ["%d.%m.%y %H:%M"], "zone": "Asia/Tokyo"}, "2026-03-02T00:15:00"),
        ("03/02/2026", {"formats": ["%m/%d/%Y", "%Y-%m-%d"], "zone": "UTC"}, "2026-03-02T00:00:00"),
        ("2026-03-02 09:00:00 +0100", {"formats": ["%Y-%m-%d %H:%M:%S %z"]}, "2026-03-02T08:00:00"),
        ("2026-03-02T08:00:00", {"zone": "UTC"}, "2026-03-02T08:00:00"),
        ("2026-03-02T08:00:00+01:00", {"zone": "UTC"}, "2026-03-02T07:00:00"),
        ("1772438400", {"formats": ["epoch_s"]}, "2026-03-02T08:00:00"),
        ("1772438400000", {"formats": ["epoch_ms"]}, "2026-03-02T08:00:00"),
        ("1772438400000001", {"formats": ["epoch_us"]}, "2026-03-02T08:00:00.000001"),
        ("2026-10-25 02:30", {"zone": "Europe/Berlin"}, "occurs twice in Europe/Berlin"),
        ("2026-03-29 02:30", {"zone": "Europe/Berlin"}, "does not exist in Europe/Berlin"),
        ("2026-10-25T02:30+01:00", {"zone": "Europe/Berlin"}, "2026-10-25T01:30:00"),
        (
            "02.03.2026",
            {"formats": ["%d.%m.%Y", "%m.%d.%Y"], "zone": "UTC"},
            "remove one of the map's formats",
        ),
        ("13.03.2026", {"formats": ["%d.%m.%Y", "%m.%d.%Y"], "zone": "UTC"}, "2026-03-13T00:00:00"),
        ("31.02.2026", {"formats": ["%d.%m.%Y"], "zone": "UTC"}, "is not in any of the map's formats"),
        ("02.03.2026", {"formats": ["%d.%m.%Y"]}, "has no zone"),
        ("01.01.0001", {"formats": ["%d.%m.%Y"], "zone": "Europe/Berlin"}, "not within the years 1 to 9999"),
        ("31.12.9999", {"formats": ["%d.%m.%Y"], "zone": "Etc/GMT+12"}, "9999-12-31T12:00:00"),
        ("31.12.9999 23:00", {"formats": ["%d.%m.%Y %H:%M"], "zone": "Etc/GMT+12"}, "not within the years"),
        ("9" * 30, {"formats": ["epoch_s"]}, "not within the years 1 to 9999"),
    ],
)
def test_a_time_is_read_by_its_formats_and_its_zone(
    written: str, time: dict[str, Any], utc: str, read: Read
) -> None:
    [one] = read(csv_of(ROW | {"occurred_at": written}), {"delimiter": ";", "occurred_at": time})
    assert utc in one if isinstance(one, str) else one.occurred_at.isoformat() == f"{utc}+00:00"


def test_a_day_and_a_time_in_two_columns_are_one_time(read: Read) -> None:
    time = {"column": ["day", "clock"], "formats": ["%d.%m.%Y %H:%M"], "zone": "UTC"}
    row = without("occurred_at") | {"day": "02.03.2026", "clock": "08:00"}
    full, half = read(csv_of(row, row | {"clock": ""}), {"delimiter": ";", "occurred_at": time})
    assert full.occurred_at.isoformat() == "2026-03-02T08:00:00+00:00"
    assert half == "occurred_at missing"


# -- ids, groups, metadata


def test_the_same_row_has_the_same_id_in_every_file_and_two_of_them_are_not_one(read: Read) -> None:
    mapping = {"delimiter": ";", "transaction_id": {"derived_from": ["ref", "amount"]}}
    row = without("transaction_id") | {"ref": "R1"}
    first, again, other = read(csv_of(row, row, row | {"amount": "200"}), mapping)
    assert read(csv_of(row), mapping) == [first]
    assert first.transaction_id != other.transaction_id
    assert again.startswith("another row has the same 'ref', 'amount', so both would get the same id")


def test_an_id_is_not_derived_from_nothing(read: Read) -> None:
    mapping = {"delimiter": ";", "transaction_id": {"derived_from": ["ref"]}}
    assert read(csv_of(without("transaction_id") | {"ref": ""}), mapping) == [
        "all of 'ref' are empty, so no id can be derived"
    ]


def test_constants_groups_and_metadata(read: Read) -> None:
    mapping = {
        "delimiter": ";",
        "wallet_id": {"constant": "giro"},
        "currency": {"constant": "CHF"},
        "type": {"constant": "DEBIT"},
        "group_id": {"column": "move"},
        "metadata": {"payee": "name", "note": "text"},
    }
    row = without("wallet_id", "currency", "type") | {"move": "m1", "name": "Zoë", "text": ""}
    [one] = read(csv_of(row), mapping)
    assert (one.wallet_id, one.currency, one.type, one.group_id) == ("giro", "CHF", DEBIT, "m1")
    assert dict(one.metadata) == {"payee": "Zoë"}


@pytest.mark.parametrize(
    ("amount", "minor"),
    [
        (12.34, 1234),
        (12, 1200),
        ("12,34", 1234),
        (0.1, 10),
        (12.345, "more decimals"),
        (True, "is not an amount"),
    ],
)
def test_a_map_reads_json_lines_too(amount: object, minor: int | str, read: Read) -> None:
    mapping = {"amount": {"column": "betrag", "decimal_mark": ","}, "other_columns": "ignore"}
    row = without("amount") | {"betrag": amount, "more": [1]}
    [one] = read(json.dumps(row), mapping, "jsonl")
    assert one.amount == minor if isinstance(minor, int) else minor in one


@pytest.mark.parametrize(
    ("number", "minor"),
    [
        (f"1.{'0' * 5_000}", 100),
        (f"1.{'0' * 5_000}1", "more decimals"),
        ("0e5000", "amount 0 is not between 1"),
        ("0e-5000", "amount 0 is not between 1"),
        ("1e5000", "is too large for an amount"),
    ],
)
def test_a_number_of_any_length_is_taken_or_told(number: str, minor: int | str, read: Read) -> None:
    line = json.dumps(ROW).replace('"100"', number)
    [one] = read(line, {"amount": {"decimal_mark": "."}}, "jsonl")
    assert one.amount == minor if isinstance(minor, int) else minor in one


def test_a_field_of_json_that_the_map_does_not_name_is_a_bad_line(read: Read) -> None:
    [one] = read(json.dumps(ROW | {"more": 1}), {"wallet_id": {"constant": "a"}}, "jsonl")
    assert "'wallet_id', 'more' not in the map" in one


# -- the map itself


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("encoding = ", "is not a map in TOML"),
        ("encoding = 'klingon'", "encoding: 'klingon' is not an encoding"),
        ("encoding = 'hex'", "encoding: 'hex' is not an encoding"),
        ("delimiter = ';;'", "delimiter: "),
        ("delimiter = '\"'", "delimiter and quote must differ"),
        ("delimeter = ';'", "delimeter: Extra inputs are not permitted"),
        ("skip_lines = -1", "skip_lines: "),
        ("skip_lines = '1'", "skip_lines: "),
        ("skip_lines = 1\nheader_begins_with = 'a'", "header_begins_with cannot be combined with skip_lines"),
        ("columns = ['a', 'a']", "columns lists 'a' twice"),
        ("[wallet_id]\ncolumn = 'a'\nconstant = 'b'", "wallet_id: set one of column, constant"),
        ("[wallet_id]", "wallet_id: set one of column, constant"),
        ("[amount]\ndebit = 'a'", "amount: debit and credit must be two columns"),
        ("[amount]\ndecimal_mark = '.'\nthousands_mark = '.'", "decimal_mark and thousands_mark must differ"),
        ("[amount]\nminor_digits = 2", "minor_digits needs decimal_mark"),
        ("[amount]\ndebit = 'a'\ncredit = 'b'\n[type]\nminus = 'DEBIT'", "leave type out"),
        ("[type]\ncolumn = 'a'\ncredit = ['S']\ndebit = ['S']", "'S' is in both credit and debit"),
        ("[occurred_at]\nzone = 'Mars/Base'", "occurred_at.zone: 'Mars/Base' is not a time zone"),
        ("[occurred_at]\nzone = 'Europe'", "is not a time zone"),
        ("[occurred_at]\nzone = '../../etc/passwd'", "is not a time zone"),
        ("[occurred_at]\nformats = ['%H:%M']", "'%H:%M' does not name day, month and year"),
        ("[occurred_at]\nformats = ['%d.%m.%Y %Z']", "use %z, which reads an offset"),
        ("[occurred_at]\nformats = ['%d.%m.%Y %I:%M']", "has a 12-hour clock without AM or PM"),
        ("[occurred_at]\nformats = ['%']", "is not a date format"),
        ("[occurred_at]\nformats = []", "occurred_at.formats: "),
        ("[occurred_at]\nformats = '%Y'", "occurred_at.formats: "),
    ],
)
def test_a_map_that_is_wrong_is_told_in_one_line(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(ConfigurationError) as wrong:
        load(tmp_path / "a.toml")
    assert told in str(wrong.value)
    assert str(wrong.value).startswith(f"{tmp_path / 'a.toml'}")
    assert "\n" not in str(wrong.value)


def test_a_map_may_be_json(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"delimiter": ";", "amount": {"decimal_mark": ","}}')
    assert load(tmp_path / "a.json").delimiter == ";"
    (tmp_path / "b.json").write_text("[" * 100_000)
    with pytest.raises(ConfigurationError, match=r"b\.json is not a map in JSON"):
        load(tmp_path / "b.json")
