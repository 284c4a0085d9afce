"""CSV: a header, then rows. What a file is that has no header of ours is told in one message."""

import csv
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import NamedTuple, Protocol

from config.errors import ConfigurationError
from operations.sending.files.shape import METADATA, Fields, Row, quoted, twice
from operations.sending.files.text import BOM

#: Lines in front of a header, at most.
PREAMBLE_LINES = 1_000
#: Lines in which a header is looked for, to say where it is.
LOOK_LINES = 60
_SEPARATORS = ",;\t|"
#: So many names of ours in one line make it a header.
_HEADER_NAMES = 2


class Columns(Protocol):
    """Which columns a file may have."""

    @property
    def known(self) -> Collection[str]:
        """Names that a header is known by."""

    def problem(self, names: Sequence[str]) -> str | None:
        """What is wrong with a file's columns, if anything is."""

    def wants(self, name: str) -> bool:
        """Whether anything is taken from this column."""


@dataclass(frozen=True)
class Dialect:
    """How a file is written; without `columns`, its first row that is not blank names them."""

    delimiter: str = ","
    quote: str = '"'
    skip_lines: int = 0
    header_begins_with: str = ""
    columns: tuple[str, ...] = ()

    def reader(self, lines: Iterator[str]) -> Iterator[list[str]]:
        """The library's reader, strict."""
        if not self.quote:
            return csv.reader(lines, delimiter=self.delimiter, quoting=csv.QUOTE_NONE, strict=True)
        return csv.reader(lines, delimiter=self.delimiter, quotechar=self.quote, strict=True)


class _Header(NamedTuple):
    """The first row that is not blank, or why it is no CSV; its line, the lines up to there, those before them."""

    names: list[str]
    line: int
    read: list[str]
    before: int
    broken: str | None = None


def rows(lines: Iterator[str], dialect: Dialect, columns: Columns) -> Iterator[Row]:
    """Every row that is not blank, with the number of its first line.

    Raises ConfigurationError where the columns are not right: nothing else of such a file would be.
    """
    before, lines = _skipped(lines, dialect)
    read: list[str] = []
    reader = dialect.reader(_noted(lines, read))
    given = _Header([*dialect.columns], before, read, before)
    header = given if dialect.columns else _header(reader, before, read)
    _refuse(header, lines, dialect, columns)
    while True:
        number = before + _line_num(reader) + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield number, _broken(error, number, before + _line_num(reader))
            continue
        if cells is None:
            return
        if any(cells):
            yield number, _fields(header.names, cells, number, columns)


def _fields(names: list[str], cells: list[str], number: int, columns: Columns) -> Fields | str:
    first = cells[0].lstrip(BOM).strip('"')
    if first in columns.known or first.startswith(METADATA):
        again = [cell.lstrip(BOM).strip('"') for cell in cells]
        if again == names:
            return "the header comes again: were files put together?"
        if len(again) > 1 and columns.problem(again) is None:
            raise ConfigurationError(
                f"line {number} is another header, with other columns: split the file there"
            )
    if len(cells) != len(names):
        return f"{len(cells)} cells, but {len(names)} columns"
    if "" in names and any(cell for name, cell in zip(names, cells, strict=True) if not name):
        return "a cell stands in a column that has no name"
    # CSV cannot tell an empty text from none; none is what is meant.
    return {name: cell for name, cell in zip(names, cells, strict=True) if cell}


def _broken(error: csv.Error, first: int, last: int) -> str:
    also = f", up to line {last}" if last > first else ""
    if "unexpected end" in str(error):
        return f"not CSV{also}: a quotation mark opens and is not closed"
    if "field larger" in str(error):
        most = csv.field_size_limit()
        return f"not CSV{also}: a cell of more than {most} characters; or a quotation mark is not closed"
    return f"not CSV{also}: {error}"


# -- the header


def _skipped(lines: Iterator[str], dialect: Dialect) -> tuple[int, Iterator[str]]:
    """What stands in front of the header, as the map says: how many lines, and the rest."""
    if not dialect.header_begins_with:
        return sum(1 for _ in islice(lines, dialect.skip_lines)), lines
    for number, line in enumerate(islice(lines, PREAMBLE_LINES)):
        if line.startswith(dialect.header_begins_with):
            return number, chain([line], lines)
    raise ConfigurationError(
        f"none of its first {PREAMBLE_LINES} lines begins with {dialect.header_begins_with!r}, as its header should"
    )


def _noted(lines: Iterator[str], read: list[str]) -> Iterator[str]:
    """The same lines; the first of them are kept, to say what they are."""
    for line in lines:
        if len(read) < LOOK_LINES:
            read.append(line)
        yield line


def _header(reader: Iterator[list[str]], before: int, read: list[str]) -> _Header:
    try:
        names = next((cells for cells in reader if any(cells)), None)
    except csv.Error as error:
        first = next((number for number, line in enumerate(read, start=1) if line.strip()), 1)
        return _Header([], before + first, read, before, _broken(error, 1, 1))
    if names is None:
        raise ConfigurationError("it is empty: not even a header is in it")
    return _Header(names, before + _line_num(reader), read, before)


def _refuse(header: _Header, rest: Iterator[str], dialect: Dialect, columns: Columns) -> None:
    """Raise ConfigurationError for a header that is not right, and say what it is."""
    named = [name for name in header.names if name]
    if again := twice(named):
        raise ConfigurationError(f"column {quoted(again)} comes twice")
    problem = columns.problem(named)
    if "metadata" in named and "metadata" not in columns.known:
        problem = problem or f"column 'metadata' is not known in CSV: use {METADATA}<key>"
    if problem is None and header.broken is None:
        return
    first = next((line for line in header.read if line.strip()), "")
    if first.lstrip().startswith(("{", "[")):
        raise ConfigurationError("it begins like JSON: name it .jsonl or say --format jsonl")
    look = [*header.read, *islice(rest, LOOK_LINES - len(header.read))]
    if what := _what_it_is(look, header, dialect, columns):
        raise ConfigurationError(f"{what} (in a file for --map, docs/files.md, or change the file)")
    if header.broken:
        raise ConfigurationError(f"line {header.line} is no header: {header.broken}")
    raise ConfigurationError(
        f"{_other_separator(header, first)}columns do not fit: {problem}; a file with columns of its own needs --map "
        "(docs/files.md)"
    )


def _other_separator(header: _Header, first: str) -> str:
    """Where nothing separates the columns, what may."""
    mark = max(_SEPARATORS, key=first.count)
    if len(header.names) > 1 or not first.count(mark):
        return ""
    return f"its columns may be separated by {mark!r} (delimiter = {_toml(mark)}); "


def _what_it_is(look: Sequence[str], header: _Header, dialect: Dialect, columns: Columns) -> str | None:
    """Where the header is and how it is written, if some line looks like one and the way is what differs."""
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
        parts.append(f"its header is in line {line}: skip_lines = {line - 1}")
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
    """Lines that the reader has taken so far; its type has no name."""
    return int(reader.line_num)  # type: ignore[attr-defined]
