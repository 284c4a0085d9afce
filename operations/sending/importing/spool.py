"""Checked lines, kept on disk until they are sent, so that changing the file meanwhile has no effect."""

import struct
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from operations.sending.files.temporary import room, temporary
from operations.sending.importing.lines import Dated, Read

#: recorded_at in milliseconds, and the lengths of key and body.
_HEAD = struct.Struct("<qHI")
#: Stand for recorded_at on a line without a transaction, and on a bad line.
_NOTHING, _BAD = 0, -1


class Spool:
    """Lines in order, in a temporary file (`TMPDIR`); about 100 bytes each."""

    def __init__(self) -> None:
        self._file = temporary("import")

    def add(self, read: Read) -> None:
        """Keep one more line; for a bad one, only that it existed."""
        if isinstance(read, Dated):
            key, body, recorded_ms = read
            kept = _HEAD.pack(recorded_ms, len(key), len(body)) + key + body
        else:
            kept = _HEAD.pack(_NOTHING if read is None else _BAD, 0, 0)
        with room():
            self._file.write(kept)

    def reads(self) -> Iterator[Read]:
        """The kept lines, from the first."""
        with room():
            self._file.seek(0)
        take = self._file.read
        while head := take(_HEAD.size):
            recorded_ms, key_bytes, body_bytes = _HEAD.unpack(head)
            if recorded_ms > 0:
                yield Dated(take(key_bytes), take(body_bytes), recorded_ms)
            else:
                yield None if recorded_ms == _NOTHING else "told before"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._file.close()
