"""Files and maps that are damaged anywhere: each row is read or told, or the file is refused in one line."""

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from config.errors import ConfigurationError
from operations.sending.files.file import Form, found
from operations.sending.files.mapping import Mapping, load
from operations.sending.files.shape import BadLine
from operations.sending.importing.lines import RECORDED, recorded_transaction
from tests.effort import examples

ROWS: list[dict[str, Any]] = [
    {
        "transaction_id": f"5f0c6c3e-0000-4000-8000-00000000000{n}",
        "wallet_id": "Zürich",
        "type": "DEBIT",
        "amount": 1250 + n,
        "currency": "EUR",
        "occurred_at": "2026-03-02T08:00:00Z",
        "recorded_at": 1_772_438_400_000 + n,
        "metadata.note": 'a "quoted", one',
    }
    for n in range(3)
]
QUOTED = '"{}"'


def _csv() -> bytes:
    cells = [[*ROWS[0]], *([str(value).replace('"', '""') for value in row.values()] for row in ROWS)]
    return "\n".join(",".join(QUOTED.format(cell) for cell in row) for row in cells).encode()


def _parquet() -> bytes:
    sink = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(ROWS), sink)
    return sink.getvalue()


JSONL = "\n".join(map(json.dumps, ROWS)).encode()
WHOLE: dict[str, tuple[Form, bytes]] = {
    "csv": ("csv", _csv()),
    "jsonl": ("jsonl", JSONL),
    "utf-16": ("csv", _csv().decode().encode("utf-16")),
    "csv.gz": ("csv", gzip.compress(_csv(), mtime=0)),
    "jsonl.gz": ("jsonl", gzip.compress(JSONL, mtime=0)),
    "parquet": ("parquet", _parquet()),
}

#: Where, how many bytes are taken away, and what stands there instead; several of them.
DAMAGE = st.lists(
    st.tuples(st.floats(0, 1), st.sampled_from([0, 0, 1, 4, 100]), st.binary(max_size=8)),
    min_size=1,
    max_size=4,
)


def damaged(whole: bytes, damage: list[tuple[float, int, bytes]]) -> bytes:
    for where, away, instead in damage:
        at = int(where * len(whole))
        whole = whole[:at] + instead + whole[at + away :]
    return whole


def read(path: Path, form: Form, mapping: Mapping | None = None) -> None:
    """Read it as `wallet import` does: what may be raised is one error, in one line."""
    told = "nothing is wrong"
    [file] = found([path], form, RECORDED, mapping)
    try:
        for number, row in file.rows():
            assert number >= 1
            if isinstance(row, str):
                told = row
                continue
            try:
                recorded_transaction(row)
            except BadLine as bad:
                told = str(bad)
    except ConfigurationError as refused:
        told = str(refused)
    assert told
    assert "\n" not in told


@pytest.mark.parametrize("kind", [*WHOLE])
@given(damage=DAMAGE)
@settings(max_examples=examples(25))
def test_a_damaged_file_ends_in_rows_or_in_one_line(
    kind: str, damage: list[tuple[float, int, bytes]], tmp_path: Path
) -> None:
    form, whole = WHOLE[kind]
    path = tmp_path / "damaged"
    path.write_bytes(damaged(whole, damage))
    read(path, form)


@pytest.mark.parametrize("kind", [*WHOLE])
def test_what_is_not_damaged_is_read(kind: str, tmp_path: Path) -> None:
    form, whole = WHOLE[kind]
    (tmp_path / "whole").write_bytes(whole)
    [file] = found([tmp_path / "whole"], form, RECORDED)
    assert [recorded_transaction(row)[0].amount for _, row in file.rows() if isinstance(row, dict)] == [
        1250,
        1251,
        1252,
    ]


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
@given(content=st.binary(max_size=200))
@settings(max_examples=examples(25))
def test_any_bytes_end_in_rows_or_in_one_line(form: Form, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "any"
    path.write_bytes(content)
    read(path, form)


NAMES = st.sampled_from([*ROWS[0], "a", ""])
VALUES = (
    st.text(max_size=12)
    | st.integers()
    | NAMES
    | st.sampled_from([";", ",", ".", "%d.%m.%Y", "iso", "UTC", "cp1252"])
)
TABLES = st.dictionaries(
    st.sampled_from(
        [
            *("column", "constant", "derived_from", "repeats", "minus", "credit", "debit", "decimal_mark"),
            *("thousands_mark", "minor_digits", "formats", "zone", "a"),
        ]
    ),
    VALUES | st.lists(NAMES, max_size=3),
    max_size=3,
)
MAPS = st.dictionaries(
    st.sampled_from([*Mapping.model_fields, "x"]), VALUES | TABLES | st.lists(NAMES, max_size=8), max_size=4
)


@given(mapping=MAPS, damage=DAMAGE)
@settings(max_examples=examples(40))
def test_any_map_is_refused_in_one_line_or_reads(
    mapping: dict[str, Any], damage: list[tuple[float, int, bytes]], tmp_path: Path
) -> None:
    path = tmp_path / "map.json"
    path.write_text(json.dumps(mapping))
    try:
        loaded = load(path)
    except ConfigurationError:  # told in one line: test_files_map.py
        return
    for kind in ("csv", "jsonl", "parquet"):
        form, whole = WHOLE[kind]
        (tmp_path / "whole").write_bytes(damaged(whole, damage))
        read(tmp_path / "whole", form, loaded)


#: Cells of one column each that a map reads: what stands in them is anything.
CELLS = st.text(st.characters(exclude_characters="\0\r\n"), max_size=20) | st.from_regex(
    r"[-+(]?[0-9]{1,30}([.,'][0-9]{1,3}){0,3}[-)]?", fullmatch=True
)


@given(amount=CELLS, time=CELLS, currency=st.sampled_from(["EUR", "JPY", "XXX"]) | CELLS)
@settings(max_examples=examples(60))
def test_anything_in_a_cell_that_a_map_reads_is_taken_or_told(
    amount: str, time: str, currency: str, tmp_path: Path
) -> None:
    mapping = Mapping.model_validate(
        {
            "amount": {"decimal_mark": ",", "thousands_mark": "."},
            "type": {"minus": "DEBIT"},
            "occurred_at": {"formats": ["%d.%m.%Y", "iso", "epoch_s", "epoch_ms"], "zone": "Europe/Berlin"},
            "transaction_id": {"derived_from": ["amount", "occurred_at"]},
            "other_columns": "ignore",
        }
    )
    row = ROWS[0] | {"amount": amount, "occurred_at": time, "currency": currency}
    path = tmp_path / "cells"
    path.write_text(json.dumps(row))
    read(path, "jsonl", mapping)
