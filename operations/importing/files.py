"""The rows of files to import: JSON Lines, CSV or Parquet, whatever they mean."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from config.errors import ConfigurationError
from operations.importing import parquet as import_parquet
from operations.lines import METADATA, Fields, Row, rows
from operations.output import Advance

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
    """A file to read, and what it must hold: `more` names the columns beyond those of a transaction."""

    path: Path
    form: Form
    more: tuple[str, ...] = ()

    def rows(self) -> Iterator[Row]:
        """Every row with its number (of the line, in Parquet of the row), not checked.

        Raises ConfigurationError for a file that cannot be read or has columns that are not known.
        """
        try:
            if self.form == "parquet":
                for number, fields in import_parquet.rows(self.path):
                    yield number, _metadata_gathered(fields)
                return
            with self.path.open("rb") as source:
                yield from rows(source, self.form, self.more)
        except OSError as error:
            raise _unreadable(self.path, error) from None
        except ConfigurationError as error:
            told = str(error)
            raise ConfigurationError(
                told if told.startswith(str(self.path)) else f"{self.path}: {told}"
            ) from None


def found(paths: Sequence[Path], form: Form | None, more: Sequence[str]) -> list[File]:
    """These files, of one form or by their names' endings; raises ConfigurationError."""
    return [File(path, form or _form(path), tuple(more)) for path in paths]


class Contents(NamedTuple):
    """What files hold: a SHA-256 over their contents in their order, and about how many lines that is."""

    digest: str
    lines_about: int


def contents(files: Sequence[File], advance: Advance) -> Contents:
    """Read files once for what they hold; `advance` hears bytes."""
    everything = hashlib.sha256()
    done = lines = 0
    for file in files:
        one = hashlib.sha256()
        try:
            with file.path.open("rb") as source:
                while chunk := source.read(CHUNK_BYTES):
                    one.update(chunk)
                    lines += chunk.count(b"\n") if file.form != "parquet" else 0
                    done += len(chunk)
                    advance(done)
        except OSError as error:
            raise _unreadable(file.path, error) from None
        lines += import_parquet.row_count(file.path) if file.form == "parquet" else 0
        everything.update(one.digest())
    return Contents(everything.hexdigest(), lines)


def size(files: Sequence[File]) -> int:
    """Bytes of all of them."""
    try:
        return sum(file.path.stat().st_size for file in files)
    except OSError as error:
        raise _unreadable(Path(error.filename), error) from None


def _form(path: Path) -> Form:
    if str(path) == "-":
        raise ConfigurationError("an import is read twice and can be resumed: name a file, not -")
    form = _FORMS.get(path.suffix.lower())
    if form is None:
        raise ConfigurationError(
            f"{path} ends neither in .jsonl, .csv nor .parquet: rename it, or say --format for the files to import"
        )
    return form


def _metadata_gathered(fields: Fields) -> Fields | str:
    """A map, or columns `metadata.<key>` as CSV has them, as one object; or what is wrong with it."""
    pairs = [
        (name.removeprefix(METADATA), fields.pop(name)) for name in [*fields] if name.startswith(METADATA)
    ]
    if isinstance(mapped := fields.get("metadata"), list):
        pairs += mapped
    if not pairs:
        return fields
    metadata = dict(pairs)
    return fields | {"metadata": metadata} if len(metadata) == len(pairs) else "a metadata key comes twice"


def _unreadable(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(f"{path} cannot be read: {error.strerror or error}")
