"""Parquet of every type that a column may have: taken where it is exact, else told of the column, once."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest
from pyarrow import parquet

from config.errors import ConfigurationError
from operations.sending.files.file import found
from operations.sending.files.mapping import Mapping
from operations.sending.files.shape import BadLine
from operations.sending.importing.lines import RECORDED, recorded_transaction

AT = datetime(2026, 3, 2, 8, tzinfo=UTC)
ID = "5f0c6c3e-0000-4000-8000-000000000001"
#: 2026-03-02T08:00:00Z in seconds.
AT_S = int(AT.timestamp())
Read = Callable[..., Any]


def table(**columns: pa.Array) -> pa.Table:
    """One good row, with other columns in the place of some or beside them."""
    row: dict[str, object] = {
        "transaction_id": ID,
        "wallet_id": "alice",
        "type": "CREDIT",
        "amount": 100,
        "currency": "EUR",
        "occurred_at": AT,
        "recorded_at": AT,
    }
    return pa.table({name: pa.array([value]) for name, value in row.items()} | columns)


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def first(made: pa.Table, mapping: Mapping | None = None, **how: object) -> object:
        parquet.write_table(made, tmp_path / "t.parquet", **how)
        [file] = found([tmp_path / "t.parquet"], None, RECORDED, mapping)
        [(number, row)] = file.rows()
        assert number == 1
        try:
            return row if isinstance(row, str) else recorded_transaction(row)
        except BadLine as bad:
            return str(bad)

    return first


@pytest.mark.parametrize(
    ("column", "taken"),
    [
        (pa.array([100], pa.uint64()), 100),
        (pa.array([Decimal(100)], pa.decimal128(18, 0)), 100),
        (pa.array([Decimal("100.00")], pa.decimal128(18, 2)), 100),
        (pa.array([Decimal(2**63 - 1)], pa.decimal256(60, 4)), 2**63 - 1),
        (pa.array([100.0], pa.float64()), 100),
        (pa.array([100.0], pa.float32()), 100),
        (pa.array(["100"]), 100),
        (pa.array(["100"]).dictionary_encode(), 100),
        (pa.array([Decimal("2.50")], pa.decimal128(18, 2)), "amount 2.50, a decimal number, is not a whole"),
        (pa.array([19.99]), "amount 19.99, a floating-point number, is not a whole"),
        (pa.array([float(2**53)]), "a floating-point number of 2^53 or more"),
        (pa.array([2.0**24 - 1]).cast(pa.float32()), 2**24 - 1),
        # 16777217 becomes this in 32 bits.
        (pa.array([2.0**24]).cast(pa.float32()), "a floating-point number of 2^24 or more"),
        (pa.array([float("nan")]), "amount nan is not a number"),
        (pa.array([float("-inf")]), "amount -inf is not a number"),
        (pa.array([None], pa.float64()), "amount missing"),
        (pa.array([None]), "amount missing"),
        (pa.array([True]), "amount True is not a whole"),
        (pa.array([2**64 - 1], pa.uint64()), "is not between 1 and"),
    ],
)
def test_an_amount_of_any_type_is_taken_where_it_is_whole_and_exact(
    column: pa.Array, taken: int | str, read: Read
) -> None:
    one = read(table(amount=column))
    assert one[0].amount == taken if isinstance(taken, int) else taken in one


@pytest.mark.parametrize(
    ("written", "minor"),
    [(100.5, 10050), (-131072.0, 13107200), (2097152.01, None), (131072.01, None), (2.0**23, None)],
)
def test_an_amount_of_32_bits_is_read_by_a_map_where_it_cannot_have_been_rounded(
    written: float, minor: int | None, read: Read
) -> None:
    mapping = Mapping.model_validate({"amount": {"decimal_mark": "."}, "type": {"minus": "DEBIT"}})
    made = table(amount=pa.array([written]).cast(pa.float32(), safe=False)).drop_columns("type")
    one = read(made, mapping)
    assert one[0].amount == minor if minor else "may have been rounded" in one


def test_an_amount_of_32_bits_in_minor_units_is_read_by_a_map_where_it_is_whole_and_exact(read: Read) -> None:
    mapping = Mapping.model_validate({"amount": {"column": "cents"}})
    made = table(cents=pa.array([2.0**24 - 1]).cast(pa.float32())).drop_columns("amount")
    one = read(made, mapping)
    assert one[0].amount == 2**24 - 1


@pytest.mark.parametrize(
    "column",
    [
        pa.array([AT], pa.timestamp("s", "UTC")),
        pa.array([AT], pa.timestamp("ms", "Europe/Berlin")),
        pa.array([AT_S * 10**9 + 999], pa.timestamp("ns", "+02:00")),
        pa.array([AT.isoformat()]),
        pa.array([AT_S * 1_000]),
        pa.array([float(AT_S * 1_000)]),
        pa.array([str(AT_S * 1_000)], pa.large_string()),
        pa.array([AT]).dictionary_encode(),
    ],
)
def test_a_time_of_any_type_is_the_same(column: pa.Array, read: Read) -> None:
    one = read(table(recorded_at=column))
    assert one[1] == AT


@pytest.mark.parametrize("beyond", [2**62, -(2**62)])
@pytest.mark.parametrize("unit", ["ms", "us"])
def test_a_time_that_no_calendar_has_is_a_bad_row(beyond: int, unit: str, read: Read) -> None:
    column = pa.array([beyond], pa.timestamp(unit, "UTC"))
    assert read(table(occurred_at=column)) == "occurred_at is not within the years 1 to 9999"


def test_a_day_is_no_time(read: Read) -> None:
    column = pa.array([AT.date()])
    assert (
        read(table(occurred_at=column))
        == "occurred_at 2026-03-02 is a day without a time: use --map to read it"
    )


NAIVE = AT.replace(tzinfo=None)


@pytest.mark.parametrize(
    ("column", "how"),
    [
        (pa.array([NAIVE]), {}),
        (pa.array([NAIVE], pa.timestamp("ns")), {}),
        (pa.array([NAIVE], pa.timestamp("ns")), {"use_deprecated_int96_timestamps": True}),
    ],
)
def test_a_time_without_a_zone_is_told_of_its_column_and_gets_one_from_the_map(
    column: pa.Array, how: dict[str, bool], read: Read
) -> None:
    made = table(recorded_at=column)
    with pytest.raises(ConfigurationError) as refused:
        read(made, **how)
    first = "occurred_at" if how else "recorded_at"  # that form has no zone for any column
    assert f"column '{first}' is timestamp" in str(refused.value)
    assert f'{first} = {{ zone = "UTC" }}' in str(refused.value)
    berlin = {"zone": "Europe/Berlin"}
    one = read(made, Mapping.model_validate({"recorded_at": berlin, "occurred_at": berlin}), **how)
    assert one[1].isoformat() == "2026-03-02T07:00:00+00:00"


@pytest.mark.parametrize(
    ("column", "taken"),
    [
        (pa.array([UUID(ID).bytes], pa.uuid()), ID),
        (pa.array([UUID(ID).bytes], pa.binary(16)), ID),
        (pa.array([UUID(ID).bytes], pa.binary()), ID),
        (pa.array([UUID(ID).bytes], pa.large_binary()), ID),
        (pa.array([ID], pa.string_view()), ID),
        (pa.array([b"short"], pa.binary()), "5 bytes instead of the 16 bytes of a UUID"),
        (pa.array([ID.upper()]), "is not a UUID of 36 lower-case characters"),
        (pa.array([7]), "transaction_id is a number, not a string"),
    ],
)
def test_an_id_of_any_type_is_taken_where_it_is_a_uuid(column: pa.Array, taken: str, read: Read) -> None:
    one = read(table(transaction_id=column))
    assert (one[0].transaction_id if not isinstance(one, str) else one).endswith(taken)


TEXT = pa.string()
PAIRS = pa.list_(pa.struct({"key": TEXT, "value": TEXT}))


@pytest.mark.parametrize(
    ("column", "taken"),
    [
        (pa.array([[("a", "x"), ("b", None)]], pa.map_(TEXT, TEXT)), {"a": "x"}),
        (pa.array([{"a": "x", "b": None}]), {"a": "x"}),
        (pa.array([None], pa.struct({"a": TEXT})), {}),
        (pa.array([[{"key": "a", "value": "x"}, {"key": "b", "value": None}, None]], PAIRS), {"a": "x"}),
        (pa.array([[]], PAIRS), {}),
        (pa.array([[("a", "x"), ("a", "y")]], pa.map_(TEXT, TEXT)), "a metadata key appears twice"),
        (pa.array([[{"key": "a", "value": "x"}] * 2], PAIRS), "a metadata key appears twice"),
    ],
)
def test_metadata_of_any_type_is_taken_and_a_null_is_absent(
    column: pa.Array, taken: dict[str, str] | str, read: Read
) -> None:
    one = read(table(metadata=column))
    assert (one if isinstance(one, str) else dict(one[0].metadata)) == taken


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (
            {"metadata": pa.array([[("a", 1)]], pa.map_(TEXT, pa.int64()))},
            "column 'metadata' is map<string, int64",
        ),
        ({"metadata": pa.array([{"a": 1}])}, "column 'metadata' is struct<a: int64>, which cannot be read"),
        ({"metadata": pa.array([["a"]])}, "column 'metadata' is list<"),
        ({"wallet_id": pa.array([b"p"])}, "column 'wallet_id' is binary, which cannot be read"),
        ({"occurred_at": pa.array([AT.time()])}, "column 'occurred_at' is time64[us], which cannot be read"),
        ({"__index_level_0__": pa.array([0])}, "'__index_level_0__' unknown; known are transaction_id"),
        ({"Amount": pa.array([0])}, "'Amount' unknown"),
    ],
)
def test_a_column_that_is_not_read_is_told_once(columns: dict[str, pa.Array], told: str, read: Read) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read(table(**columns))
    assert told in str(refused.value)


def test_a_column_that_lacks_is_told_once(read: Read) -> None:
    with pytest.raises(ConfigurationError, match="columns do not fit: amount, currency missing"):
        read(table().drop_columns(["amount", "currency"]))


@pytest.mark.parametrize("name", ["amount", "metadata.a"])
def test_a_column_that_comes_twice_is_refused_and_none_of_the_two_is_taken(name: str, read: Read) -> None:
    made = table(**{"metadata.a": pa.array(["x"])})
    again = made.append_column(name, pa.array([999] if name == "amount" else ["y"]))
    with pytest.raises(ConfigurationError, match=f"column '{name}' appears twice"):
        read(again)


def test_a_field_of_a_struct_that_comes_twice_is_refused(read: Read) -> None:
    twice = pa.StructArray.from_arrays([pa.array(["x"]), pa.array(["y"])], ["a", "a"])
    with pytest.raises(ConfigurationError, match="column 'metadata' has the field 'a' twice"):
        read(table(metadata=twice))


def test_what_the_map_does_not_take_may_be_of_any_type(read: Read) -> None:
    mapping = Mapping.model_validate({"other_columns": "ignore"})
    one = read(table(**{"when": pa.array([NAIVE]), "list.of": pa.array([[1]])}), mapping)
    assert one[0].amount == 100
