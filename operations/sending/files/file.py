"""A file to read: its format, its rows, and a digest of its contents."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from config.errors import ConfigurationError
from operations.cli.output import Advance
from operations.sending.files import delimited, jsonl, parquet, source
from operations.sending.files import source as text
from operations.sending.files.delimited import Columns, Dialect
from operations.sending.files.mapped import Mapped
from operations.sending.files.mapping import Mapping
from operations.sending.files.shape import BadLine, Fields, Row, Shape, gathered

Form = Literal["jsonl", "csv", "parquet"]

_FORMS: dict[str, Form] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
CHUNK_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class File:
    """A file, its format, the fields its rows must have, and the map to those, if any."""

    path: Path
    form: Form
    shape: Shape
    mapping: Mapping | None = None

    def rows(self) -> Iterator[Row]:
        """Every row that is not blank, with its fields or what is wrong with it.

        Raises ConfigurationError, naming the file, if it cannot be read or has another format.
        """
        try:
            if self.mapping is None:
                for number, row in self._raw(self.shape):
                    yield number, row if isinstance(row, str) else _judged(row, None)
                return
            with closing(Mapped(self.mapping, self.shape)) as mapped:
                for number, row in self._raw(mapped):
                    # Each JSON object has its own fields; columns were checked once.
                    strange = (
                        mapped.strange(row) if self.form == "jsonl" and not isinstance(row, str) else None
                    )
                    yield number, strange or (row if isinstance(row, str) else _judged(row, mapped))
        except OSError as error:
            raise _unreadable(self.path, error) from None
        except ConfigurationError as error:
            raise _named(self.path, error, has_map=self.shape.metadata) from None

    def _raw(self, columns: Columns) -> Iterator[Row]:
        if self.form == "parquet":
            if self.path == source.STDIN:
                raise ConfigurationError("Parquet cannot be read from standard input: name the file")
            zoned = columns.zoned if isinstance(columns, Mapped) else frozenset[str]()
            yield from parquet.rows(self.path, columns, zoned_by_map=zoned)
            return
        with source.opened(self.path) as opened:
            found = text.lines(opened, self.mapping.encoding if self.mapping else None)
            if self.form == "csv":
                yield from delimited.rows(found, self.mapping.dialect if self.mapping else Dialect(), columns)
            else:
                yield from jsonl.rows(found, self.shape)


def _judged(row: Fields, mapped: Mapped | None) -> Fields | str:
    try:
        return gathered(mapped.fields(row) if mapped else row)
    except BadLine as bad:
        return str(bad)


def found(
    paths: Sequence[Path], form: Form | None, shape: Shape, mapping: Mapping | None = None
) -> list[File]:
    """These files, with the given format or the one of their extensions; raises ConfigurationError."""
    return [File(path, form or _form(path), shape, mapping) for path in paths]


class Contents(NamedTuple):
    """A SHA-256 over the contents of files in order, and about how many lines they have."""

    digest: str
    lines_about: int


def contents(files: Sequence[File], advance: Advance, reading: str = "") -> Contents:
    """Read files once, decompressed, to digest them; `advance` gets bytes.

    `reading` is whatever else decides what their rows mean.
    """
    everything = hashlib.sha256(reading.encode())
    done = lines = 0
    for file in files:
        one = hashlib.sha256()
        try:
            with file.path.open("rb") if file.form == "parquet" else source.opened(file.path) as opened:
                while chunk := opened.read(CHUNK_BYTES):
                    one.update(chunk)
                    lines += chunk.count(b"\n") if file.form != "parquet" else 0
                    done += len(chunk)
                    advance(done)
        except OSError as error:
            raise _unreadable(file.path, error) from None
        except ConfigurationError as error:
            raise _named(file.path, error) from None
        lines += parquet.row_count(file.path) if file.form == "parquet" else 0
        everything.update(one.digest())
    return Contents(everything.hexdigest(), lines)


def size(files: Sequence[File]) -> int:
    """Total bytes of these files."""
    try:
        return sum(file.path.stat().st_size for file in files)
    except OSError as error:
        raise _unreadable(Path(error.filename), error) from None


def _form(path: Path) -> Form:
    """The format by the file's extension, without .gz; standard input is JSON Lines."""
    if path == source.STDIN:
        return "jsonl"
    name = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    form = _FORMS.get(name.suffix.lower())
    if form is None:
        raise ConfigurationError(
            f"{path} does not end in .jsonl, .csv or .parquet: rename it, or add --format jsonl, csv or parquet"
        )
    return form


def _named(path: Path, error: ConfigurationError, *, has_map: bool = True) -> ConfigurationError:
    told, name = str(error), "standard input" if path == source.STDIN else str(path)
    if "--map" in told and not has_map:
        told += "; --map does not apply to balances: change the file"
    return ConfigurationError(told if told.startswith(name) else f"{name}: {told}")


def _unreadable(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(f"{path} cannot be read: {error.strerror or error}")
