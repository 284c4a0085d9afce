"""Open a file: recognise it by its first bytes, decompress gzip, refuse other binary formats by name, decode lines."""

import codecs
import contextlib
import gzip
import io
import re
import stat
import sys
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, cast

from config.errors import ConfigurationError

#: Beyond this many inflated bytes, the ratio to the compressed size is limited.
INFLATED_FREE_BYTES = 256 * 1024 * 1024
INFLATED_RATIO = 200
BUFFER_BYTES = 256 * 1024
#: Number of first bytes that are examined.
HEAD_BYTES = 16
STDIN = Path("-")

_GZIP = b"\x1f\x8b"
PARQUET = b"PAR1"
#: Formats that are not supported: first bytes, what it is, what to do.
_OTHERS = [
    (re.compile(pattern, re.DOTALL), what, remedy)
    for pattern, what, remedy in [
        (rb"\x28\xb5\x2f\xfd", "compressed with zstd", "run `unzstd` on it"),
        (rb"BZh[1-9]1AY&SY", "compressed with bzip2", "run `bunzip2` on it"),
        (rb"\xfd7zXZ", "compressed with xz", "run `unxz` on it"),
        (rb"\x04\x22\x4d\x18", "compressed with lz4", "run `unlz4` on it"),
        (rb"\xff\x06\0\0sNaPpY", "compressed with snappy", "decompress it"),
        (rb"\x1f[\x9d\xa0]", "compressed with compress", "run `uncompress` on it"),
        (rb"7z\xbc\xaf", "a 7z archive", "extract the file"),
        (
            rb"PK[\3\5\7][\4\6\x08]",
            "a ZIP archive or an Excel workbook",
            "unzip it, or save the sheet as CSV",
        ),
        (rb"\xd0\xcf\x11\xe0", "an old Excel workbook", "save the sheet as CSV"),
        (rb"%PDF", "a PDF", "ask for the export as CSV"),
        (rb"Obj\x01", "an Avro file", "convert it to Parquet or JSON Lines"),
        (rb"ORC.*[\0-\x08]", "an ORC file", "convert it to Parquet or JSON Lines"),
        (rb"ARROW1\0", "an Arrow file", "convert it to Parquet or JSON Lines"),
        (rb"SQLite format", "an SQLite database", "export the table as CSV"),
        # A header such as <DATE>;<TIME> is CSV.
        (rb"(?:\xef\xbb\xbf)?\s*<(?!\w+>[,;\t|])", "XML or HTML", "convert it to CSV or JSON Lines"),
    ]
]
#: Longest line, so that a file's contents do not decide how much memory it takes.
LINE_CHARACTERS = 16 * 1024 * 1024
BOM = "\ufeff"
#: Longest first: the mark of UTF-32 begins with that of UTF-16.
_MARKS = [
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
]
_SURROGATE = re.compile("[\ud800-\udfff]")


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The file's bytes, decompressed; `-` is standard input, which stays open.

    Raises ConfigurationError, without the file's name, if it is neither text nor gzip; OSError if it cannot be opened.
    """
    if path == STDIN and sys.stdin is None:
        raise ConfigurationError("it is closed")
    with contextlib.ExitStack() as stack:
        given = sys.stdin.buffer if path == STDIN else stack.enter_context(path.open("rb"))
        # Python's stdin is buffered; a replacement for it may not be.
        source = cast("io.BufferedReader", given if hasattr(given, "peek") else io.BufferedReader(given))
        if head_of(source).startswith(_GZIP):
            source = io.BufferedReader(_Inflated(source), BUFFER_BYTES)
            _refuse(head_of(source), "its gzip holds ")
        else:
            _refuse(head_of(source), "it is ")
        yield cast("BinaryIO", source)


def head_of(source: object) -> bytes:
    """The first bytes, without consuming them."""
    return bytes(cast("io.BufferedReader", source).peek(HEAD_BYTES)[:HEAD_BYTES])


def refuse_what_is_read_once(path: Path) -> None:
    """Raise ConfigurationError for a pipe or a device: an import reads its files twice."""
    with contextlib.suppress(OSError):  # reported when it is opened
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise ConfigurationError(
                f"{path} is not a regular file, but an import reads its files twice: write it to a file first"
            )


def _refuse(head: bytes, where: str) -> None:
    if head.startswith(_GZIP):
        raise ConfigurationError(f"{where}gzip again: run `gunzip` on it")
    if head.startswith(PARQUET):
        raise ConfigurationError(
            f"{where}Parquet: name it .parquet or add --format parquet, and do not compress it"
        )
    for pattern, what, remedy in _OTHERS:
        if pattern.match(head):
            raise ConfigurationError(f"{where}{what}: {remedy}")


class _Counted:
    """Counts the compressed bytes read."""

    def __init__(self, source: io.BufferedReader) -> None:
        self._source = source
        self.taken = 0

    def read(self, size: int = -1) -> bytes:
        chunk = self._source.read(size)
        self.taken += len(chunk)
        return chunk


class _Inflated(io.RawIOBase):
    """Decompressed gzip, all members; raises ConfigurationError if it is damaged or inflates too much."""

    def __init__(self, source: io.BufferedReader) -> None:
        self._compressed = _Counted(source)
        self._gzip = gzip.GzipFile(fileobj=cast("BinaryIO", self._compressed), mode="rb")
        self._given = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # what io calls it with
        """Read more bytes; returns 0 at the end."""
        try:
            chunk = self._gzip.read(len(buffer))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ConfigurationError(f"its gzip data is damaged or cut off: {error}") from None
        self._given += len(chunk)
        if self._given > max(INFLATED_FREE_BYTES, INFLATED_RATIO * self._compressed.taken):
            raise ConfigurationError(
                f"its gzip data inflates to more than {INFLATED_RATIO} times its size, as no export does: if it is "
                "right, run `gunzip` on it"
            )
        buffer[: len(chunk)] = chunk
        return len(chunk)


def lines(source: BinaryIO, encoding: str | None) -> Iterator[str]:
    """Lines with their ends (LF, CR LF or CR); raises ConfigurationError for bytes not in the encoding.

    A file has one encoding: that of its byte-order mark, the map's, or else UTF-8.
    """
    found = _encoding(head_of(source), encoding)
    # Bytes that do not decode become surrogates, so that the error can name the line.
    text = io.TextIOWrapper(source, found, errors="surrogateescape", newline="")
    number = 0
    try:
        while line := text.readline(LINE_CHARACTERS):
            number += 1
            if len(line) == LINE_CHARACTERS:
                raise ConfigurationError(f"line {number} has more than {LINE_CHARACTERS} characters")
            if not line.isascii() and (strange := _SURROGATE.search(line)):
                raise ConfigurationError(_not_text(number, ord(strange[0]) & 0xFF, encoding))
            yield line
    except UnicodeError as error:
        raise ConfigurationError(f"after line {number} it is not {encoding or found}: {error}") from None
    finally:
        with suppress(ValueError):  # already closed
            text.detach()  # or it would close the file, which its opener does


def _encoding(head: bytes, named: str | None) -> str:
    mark = next((found for mark, found in _MARKS if head.startswith(mark)), None)
    if mark and named and not codecs.lookup(named).name.startswith(mark):
        raise ConfigurationError(
            f"it begins with the byte-order mark of {mark}, but the map says {named}: correct the map"
        )
    if mark or named:
        return "utf-8-sig" if mark == "utf-8" else mark or str(named)
    for letter, zero, guess in ((head[0:1], head[1:2], "utf-16-le"), (head[1:2], head[0:1], "utf-16-be")):
        if zero == b"\0" and letter not in {b"", b"\0"}:
            raise ConfigurationError(f"it is not UTF-8 and looks like {guess}: {_say(guess)}")
    return "utf-8"


def _not_text(number: int, byte: int, named: str | None) -> str:
    told = f"line {number} has the byte 0x{byte:02x}"
    if named:
        return f"{told}, which is not {named}: set another encoding"
    western = bytes([byte]).decode("cp1252", "replace")
    return (
        f"it is not UTF-8: {told}, which is {western!r} in Windows-1252; if that is right, {_say('cp1252')}"
    )


def _say(encoding: str) -> str:
    return f'write encoding = "{encoding}" to a file and pass it with --map (docs/files.md)'
