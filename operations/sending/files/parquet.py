"""Rows of Parquet files, read with the optional library `pyarrow`, a few thousand at a time.

Types belong to columns, so a type that cannot be read is reported once for the column, not for every row.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

from config.errors import ConfigurationError
from operations.sending.files.delimited import Columns
from operations.sending.files.shape import BadLine, Fields, Row, quoted, twice
from operations.sending.files.values import Single
from schemas.records import from_us

ROWS = 4_096
UUID_BYTES = 16

#: Converts a value of a column; raises BadLine.
Take = Callable[[Any], object]
_NAIVE_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - of columns without a zone


def rows(path: Path, columns: Columns, *, zoned_by_map: frozenset[str] = frozenset()) -> Iterator[Row]:
    """Every row as fields, numbered from 1.

    Times are aware, or naive if the column has no zone and the map gives it one; a map is a list of pairs.
    Raises ConfigurationError if the file is not Parquet, a column cannot be read, or `pyarrow` is not installed.
    """
    pa, parquet = libraries()
    with (
        path.open("rb") as raw,
        _named(path),
        parquet.ParquetFile(raw, coerce_int96_timestamp_unit="us") as file,
    ):
        schema = file.schema_arrow
        _refuse(schema.names, columns)
        # Columns that are not read may have any type.
        wanted = [name for name in schema.names if columns.wants(name)]
        takes = {name: _take(pa, name, schema.field(name).type, zoned_by_map) for name in wanted}
        numbers = count(1)
        for batch in file.iter_batches(ROWS, columns=wanted):
            held = [_plain(pa, batch.column(name)).to_pylist() for name in wanted]
            for values in zip(*held, strict=True):
                yield next(numbers), _row(wanted, values, takes)


def row_count(path: Path) -> int:
    """The number of rows in a file's metadata; raises ConfigurationError as `rows` does."""
    _, parquet = libraries()
    with path.open("rb") as raw, _named(path):
        return int(parquet.read_metadata(raw).num_rows)


def _row(names: Sequence[str], values: Sequence[object], takes: dict[str, Take]) -> Fields | str:
    try:
        return {
            name: takes[name](value) for name, value in zip(names, values, strict=True) if value is not None
        }
    except BadLine as bad:
        return str(bad)


def _refuse(names: Sequence[str], columns: Columns) -> None:
    if again := twice([*names]):
        raise ConfigurationError(f"column {quoted(again)} appears twice: rename or remove one")
    if problem := columns.problem(names):
        raise ConfigurationError(
            f"columns do not fit: {problem}; to read a file with other columns, use --map (docs/files.md)"
        )


def _plain(pa: Any, column: Any) -> Any:
    """Read times as integers: Python has no nanoseconds, and raises for years outside its range."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _plain(pa, column.dictionary_decode())
    return column.cast(pa.int64()) if pa.types.is_timestamp(kind) else column


def _take(pa: Any, name: str, kind: Any, zoned_by_map: frozenset[str]) -> Take:
    """The converter for a column of this type; raises ConfigurationError if there is none."""
    types = pa.types
    if types.is_dictionary(kind):
        return _take(pa, name, kind.value_type, zoned_by_map)
    if types.is_timestamp(kind):
        if kind.tz is None and name not in zoned_by_map:
            raise ConfigurationError(
                f"column {name!r} is {kind}, a time without a zone: write it with a zone, or set its zone "
                f'in a file for --map (docs/files.md): {name} = {{ zone = "UTC" }}'
            )
        return partial(_time, name, kind.unit, aware=kind.tz is not None)
    if _is_uuid(pa, name, kind):
        return _uuid
    if _is_pairs(pa, kind):
        return _pairs
    if types.is_struct(kind) and (again := twice([field.name for field in kind])):
        raise ConfigurationError(f"column {name!r} has the field {quoted(again)} twice")
    if types.is_float32(kind):
        return Single
    if any(fits(kind) for fits in _plain_types(pa)):
        return _as_is
    raise ConfigurationError(
        f"column {name!r} is {str(kind)[:80]}, which cannot be read: use text, numbers, times, a UUID or a map of text"
    )


def _plain_types(pa: Any) -> list[Callable[[Any], bool]]:
    """Types that have a Python equivalent."""
    types, is_text = pa.types, partial(_is_text, pa)
    return [
        is_text,
        types.is_integer,
        types.is_float64,
        types.is_decimal,
        types.is_date,
        types.is_boolean,
        types.is_null,
        lambda kind: types.is_map(kind) and is_text(kind.key_type) and is_text(kind.item_type),
        lambda kind: (
            types.is_struct(kind) and all(is_text(one.type) or types.is_null(one.type) for one in kind)
        ),
    ]


def _is_uuid(pa: Any, name: str, kind: Any) -> bool:
    """Whether its type is UUID, or 16 bytes in the column of the transaction id."""
    if isinstance(kind, pa.BaseExtensionType):
        return bool(kind.extension_name == "arrow.uuid")
    binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    return bool(kind == pa.binary(UUID_BYTES) or (binary and name == "transaction_id"))


def _is_text(pa: Any, kind: Any) -> bool:
    types = pa.types
    return bool(
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_string_view(kind)
        or (types.is_dictionary(kind) and _is_text(pa, kind.value_type))
    )


def _is_pairs(pa: Any, kind: Any) -> bool:
    """Whether it is a list of key and value, as writers without a map type write one."""
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        return False
    inner = kind.value_type
    return bool(
        pa.types.is_struct(inner)
        and [field.name for field in inner] == ["key", "value"]
        and all(_is_text(pa, field.type) for field in inner)
    )


def _as_is(value: object) -> object:
    return value


def _pairs(value: Sequence[dict[str, object] | None]) -> object:
    return [(pair["key"], pair["value"]) for pair in value if pair is not None]


def _uuid(value: UUID | bytes) -> str:
    if isinstance(value, UUID):
        return str(value)
    if len(value) != UUID_BYTES:
        raise BadLine(f"{len(value)} bytes instead of the 16 bytes of a UUID")
    return str(UUID(bytes=value))


_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


def _time(name: str, unit: str, value: int, *, aware: bool) -> datetime:
    """A time from the column's integer; fractions of a microsecond are cut off, as in text."""
    us = value * 1_000_000 // _PER_SECOND[unit]
    try:
        return from_us(us).astimezone(UTC) if aware else _NAIVE_EPOCH + timedelta(microseconds=us)
    except OverflowError:
        raise BadLine(f"{name} is not within the years 1 to 9999") from None


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn whatever the library raises about a file into one line."""
    try:
        yield
    except ConfigurationError:
        raise
    except Exception as error:  # noqa: BLE001 - a damaged file makes it raise nearly anything
        told = " ".join(str(error).split()) or type(error).__name__
        raise ConfigurationError(f"{path} cannot be read as Parquet: {told[:200]}") from None


def libraries() -> tuple[Any, Any]:
    """`pyarrow` and its `parquet`; raises ConfigurationError if they are not installed."""
    try:
        import pyarrow as pa  # noqa: PLC0415 - optional, and slow to load
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError:
        raise ConfigurationError(
            "Parquet needs an optional library: install wallet-ledger[parquet], or use another format"
        ) from None
    return pa, parquet
