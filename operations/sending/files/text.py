"""Decode bytes to lines. One encoding per file: the byte-order mark's, the map's, or else UTF-8."""

import codecs
import io
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO

from config.errors import ConfigurationError
from operations.sending.files.source import head_of

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


def lines(source: BinaryIO, encoding: str | None) -> Iterator[str]:
    """Lines with their ends (LF, CR LF or CR); raises ConfigurationError for bytes not in the encoding."""
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
