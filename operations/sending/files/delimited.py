"""CSV: a header, then rows. A file with another header is refused with one message about what it seems to be."""

import csv
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import NamedTuple, Protocol

from config.errors import ConfigurationError
from operations.sending.files import source
from operations.sending.files.shape import METADATA, Fields, Row, quoted, twice
from operations.sending.files.source import BOM

#: Most lines before the header.
PREAMBLE_LINES = 1_000
#: Lines that are searched for a header, to say where it is.
LOOK_LINES = 60
_SEPARATORS = ",;\t|"
#: A line with this many of our names counts as a header.
_HEADER_NAMES = 2


class Columns(Protocol):
    """Which columns a file may have."""

    @property
    def known(self) -> Collection[str]:
        """Names by which a header is recognised."""

    def problem(self, names: Sequence[str]) -> str | None:
        """What is wrong with a file's columns, or None."""

    def wants(self, name: str) -> bool:
        """Whether this column is read."""


@dataclass(frozen=True)
class Dialect:
    """The CSV dialect of a file; without `columns`, the first row that is not blank is the header."""

    delimiter: str = ","
    quote: str = '"'
    skip_lines: int = 0
    header_begins_with: str = ""
    columns: tuple[str, ...] = ()

    def reader(self, lines: Iterator[str]) -> Iterator[list[str]]:
        """Python's csv reader, in strict mode."""
        if not self.quote:
            return csv.reader(lines, delimiter=self.delimiter, quoting=csv.QUOTE_NONE, strict=True)
        return csv.reader(lines, delimiter=self.delimiter, quotechar=self.quote, strict=True)


class _Header(NamedTuple):
    """The first row that is not blank, or why it is not CSV; its line, the lines read, and those skipped before."""

    names: list[str]
    line: int
    read: list[str]
    before: int
    broken: str | None = None


def rows(lines: Iterator[str], dialect: Dialect, columns: Columns) -> Iterator[Row]:
    """Every row that is not blank, with the number of its first line.

    Raises ConfigurationError if the columns are wrong: then every row would be.
    """
    before, lines = _skipped(lines, dialect)
    read: list[str] = []
    row: list[str] = []
    reader = dialect.reader(_noted(lines, before, read, row))
    given = _Header([*dialect.columns], before, read, before)
    header = given if dialect.columns else _header(reader, before, read)
    _refuse(header, lines, dialect, columns)
    while True:
        number = before + _line_num(reader) + 1
        row.clear()
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield number, _broken(error, number, before + _line_num(reader))
            continue
        if cells is None:
            return
        if len(row) > 1 and all(line.count(dialect.delimiter) + 1 >= len(header.names) for line in row):
            last = number + len(row) - 1
            yield (
                number,
                f"each line up to line {last} may be a row by itself: is a quotation mark not closed?",
            )
        elif any(cells):
            yield number, _fields(header.names, cells, number, columns)


def _fields(names: list[str], cells: list[str], number: int, columns: Columns) -> Fields | str:
    first = cells[0].lstrip(BOM).strip('"')
    if first in columns.known or first.startswith(METADATA):
        again = [cell.lstrip(BOM).strip('"') for cell in cells]
        if again == names:
            return "the header is repeated: were files concatenated? Remove this line"
        if len(again) > 1 and columns.problem(again) is None:
            raise ConfigurationError(f"line {number} is a header with other columns: split the file there")
    if len(cells) != len(names):
        return f"{len(cells)} cells, but {len(names)} columns"
    if "" in names and any(cell for name, cell in zip(names, cells, strict=True) if not name):
        return "a value is in a column without a name"
    # CSV cannot tell empty text from no value; take it as no value.
    return {name: cell for name, cell in zip(names, cells, strict=True) if cell}


def _broken(error: csv.Error, first: int, last: int) -> str:
    also = f", up to line {last}" if last > first else ""
    if "unexpected end" in str(error):
        return f"not CSV{also}: a quotation mark is not closed"
    if "field larger" in str(error):
        most = csv.field_size_limit()
        return f"not CSV{also}: a cell has more than {most} characters, or a quotation mark is not closed"
    return f"not CSV{also}: {error}"


# -- the header


def _skipped(lines: Iterator[str], dialect: Dialect) -> tuple[int, Iterator[str]]:
    """Skip what the map says comes before the header; returns how many lines, and the rest."""
    if not dialect.header_begins_with:
        return sum(1 for _ in islice(lines, dialect.skip_lines)), lines
    for number, line in enumerate(islice(lines, PREAMBLE_LINES)):
        if line.startswith(dialect.header_begins_with):
            return number, chain([line], lines)
    raise ConfigurationError(
        f"no header found: none of its first {PREAMBLE_LINES} lines begins with {dialect.header_begins_with!r}"
    )


def _noted(lines: Iterator[str], before: int, read: list[str], row: list[str]) -> Iterator[str]:
    """The same lines; keeps the first of them to describe the file in an error, and adds each to the row in hand.

    Raises ConfigurationError for a row that is too long.
    """
    size = 0
    for number, line in enumerate(lines, before + 1):
        if len(read) < LOOK_LINES:
            read.append(line)
        size = len(line) + (size if row else 0)
        if size > source.LINE_CHARACTERS:
            raise ConfigurationError(
                f"the row up to line {number} has more than {source.LINE_CHARACTERS} characters: is a quotation mark "
                "not closed?"
            )
        row.append(line)
        yield line


def _header(reader: Iterator[list[str]], before: int, read: list[str]) -> _Header:
    try:
        names = next((cells for cells in reader if any(cells)), None)
    except csv.Error as error:
        first = next((number for number, line in enumerate(read, start=1) if line.strip()), 1)
        return _Header([], before + first, read, before, _broken(error, 1, 1))
    if names is None:
        raise ConfigurationError("it is empty: it has not even a header")
    return _Header(names, before + _line_num(reader), read, before)


def _refuse(header: _Header, rest: Iterator[str], dialect: Dialect, columns: Columns) -> None:
    """Raise ConfigurationError for a wrong header, and say how to read the file."""
    named = [name for name in header.names if name]
    if again := twice(named):
        raise ConfigurationError(f"column {quoted(again)} appears twice: rename or remove one")
    problem = columns.problem(named)
    if "metadata" in named and "metadata" not in columns.known:
        problem = problem or f"CSV has no column 'metadata': use {METADATA}<key>"
    if problem is None and header.broken is None:
        return
    first = next((line for line in header.read if line.strip()), "")
    if first.lstrip().startswith(("{", "[")):
        raise ConfigurationError("it looks like JSON: name it .jsonl or add --format jsonl")
    look = [*header.read, *islice(rest, LOOK_LINES - len(header.read))]
    if what := _what_it_is(look, header, dialect, columns):
        raise ConfigurationError(f"{what} (in a file for --map, docs/files.md, or change the file)")
    if header.broken:
        raise ConfigurationError(f"line {header.line} is not a header: {header.broken}")
    raise ConfigurationError(
        f"{_other_separator(header, first)}columns do not fit: {problem}; to read a file with other columns, use --map "
        "(docs/files.md)"
    )


def _other_separator(header: _Header, first: str) -> str:
    """A guess at the delimiter if the header has only one column."""
    mark = max(_SEPARATORS, key=first.count)
    if len(header.names) > 1 or not first.count(mark):
        return ""
    return f"its columns seem to be separated by {mark!r} (delimiter = {_toml(mark)}); "


def _what_it_is(look: Sequence[str], header: _Header, dialect: Dialect, columns: Columns) -> str | None:
    """Where the header is and its dialect, if a line looks like our header under other settings."""
    known = {name.casefold() for name in columns.known}
    hits, line, separator, written = 0, 0, "", [""]
    for number, text in enumerate(look, start=header.before + 1):
        for mark in _SEPARATORS:
            cells = text.strip().lstrip(BOM).split(mark)
            found = sum(_bare(cell) in known for cell in cells)
            if found > hits:
                hits, line, separator, written = found, number, mark, cells
    if hits < min(_HEADER_NAMES, len(known)):
        return None
    parts = []
    if line != header.line:
        parts.append(f"its header is on line {line}: skip_lines = {line - 1}")
    if separator != dialect.delimiter:
        parts.append(f"its columns are separated by {separator!r}: delimiter = {_toml(separator)}")
    other = [name for name in written if _bare(name) in known and name.strip('"') not in columns.known]
    if other:
        parts.append(f"its columns are written {quoted(other)}: capitals, spaces and quotation marks count")
    return "; ".join(parts) or None


def _bare(cell: str) -> str:
    return cell.strip().strip("\"'").strip().casefold()


def _toml(text: str) -> str:
    return '"\\t"' if text == "\t" else f'"{text}"'


def _line_num(reader: Iterator[list[str]]) -> int:
    """Lines that the reader has read so far; typed here because its type has no public name."""
    return int(reader.line_num)  # type: ignore[attr-defined]
