"""Rows of Parquet files, by the optional library `pyarrow`; a few thousand are in memory at a time."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from config.errors import ConfigurationError

ROWS = 4_096


def rows(path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    """Every row as fields, numbered from 1; a null is a field that is not there.

    Timestamps come as aware times, or naive where the column has no zone; a map comes as a list of pairs. Raises
    ConfigurationError for what is no Parquet file, and where `pyarrow` is not installed.
    """
    pa, parquet = _libraries()
    try:
        with parquet.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(ROWS):
                for fields in _in_microseconds(pa, batch).to_pylist():
                    number += 1
                    yield number, {name: value for name, value in fields.items() if value is not None}
    except pa.ArrowException as error:
        raise _unreadable(path, error) from None


def row_count(path: Path) -> int:
    """How many rows a file says that it has; raises ConfigurationError as `rows` does."""
    pa, parquet = _libraries()
    try:
        return int(parquet.read_metadata(path).num_rows)
    except pa.ArrowException as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> ConfigurationError:
    told = " ".join(str(error).split())
    return ConfigurationError(f"{path} cannot be read as Parquet: {told[:200]}")


def _in_microseconds(pa: Any, batch: Any) -> Any:
    """Nanoseconds as microseconds, which is what times have here; what is finer is cut off, as in text."""
    types = pa.types
    fields = [
        field.with_type(pa.timestamp("us", field.type.tz))
        if types.is_timestamp(field.type) and field.type.unit == "ns"
        else field
        for field in batch.schema
    ]
    return batch.cast(pa.schema(fields), safe=False)


def _libraries() -> tuple[Any, Any]:
    try:
        import pyarrow as pa  # noqa: PLC0415 - optional, and slow to load
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError:
        raise ConfigurationError(
            "Parquet needs a library that is optional: install wallet-ledger[parquet], or use JSON Lines or CSV"
        ) from None
    return pa, parquet
