"""What the store's code takes for rocksdict: key and value in memory, with what a crash leaves of them.

A write is atomic. When the process dies, everything that was written is there. When the machine does, the
newest writes may be gone, never an older one without those after it. A copy of any earlier state can be
put back, as from a backup.
"""

from collections.abc import Iterator
from pathlib import PurePosixPath

from tests.simulation.processes import Process, Stage


class Folder(PurePosixPath):
    """A path that needs no disk."""

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """There is nothing to make."""

    def rename(self, target: PurePosixPath) -> None:
        """Its content goes when the other folder is removed."""


class WriteBatch:
    """Changes to be written together."""

    def __init__(self, raw_mode: bool) -> None:
        assert raw_mode
        #: None where a key is deleted.
        self.changes: dict[bytes, bytes | None] = {}
        self.ranges: list[tuple[bytes, bytes]] = []

    def put(self, key: bytes, value: bytes) -> None:
        """Add one change."""
        self.changes[key] = value

    def delete(self, key: bytes) -> None:
        """Delete one."""
        self.changes[key] = None

    def delete_range(self, begin: bytes, end: bytes) -> None:
        """Delete what is there from one key to the one before another; nothing of it is put in the same batch."""
        self.ranges.append((begin, end))


class Disk:
    """One machine's disk: the writes that were made, in their order."""

    def __init__(self) -> None:
        #: None where a key was deleted.
        self.writes: list[dict[bytes, bytes | None]] = []
        self.flushed = 0
        self.user: Process | None = None

    @property
    def content(self) -> dict[bytes, bytes]:
        """What all writes together come to."""
        newest = {key: value for write in self.writes for key, value in write.items()}
        return {key: value for key, value in newest.items() if value is not None}

    def back_to(self, writes: int) -> None:
        """Have only the first so many writes."""
        del self.writes[writes:]
        self.flushed = min(self.flushed, writes)


class Store:
    """An open store: `rocksdict.Rdict` as far as it is used."""

    def __init__(self, stage: Stage, disk: Disk) -> None:
        self._stage = stage
        self._disk = disk
        assert disk.user is None or disk.user.ended, "a folder is used by one process at a time"
        self._process = disk.user = stage.running
        self._content = disk.content

    def get(self, key: bytes | list[bytes]) -> bytes | list[bytes | None] | None:
        """One value, or one for each key."""
        if isinstance(key, list):
            return [self._content.get(one) for one in key]
        return self._content.get(key)

    def items(self, from_key: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All from a key on, in order, as they are now."""
        return iter(sorted(item for item in self._content.items() if item[0] >= from_key))

    def write(self, batch: WriteBatch) -> None:
        """Write a batch, all of it or nothing."""
        deleted = [key for key in self._content if any(begin <= key < end for begin, end in batch.ranges)]
        self._stage.effect("write to the store")
        if self._stage.fault("disk full", 0.003):
            raise OSError("no space left on device")
        self._disk.writes.append(dict.fromkeys(deleted) | batch.changes)
        newest = {key: value for key, value in self._content.items() if key not in deleted} | batch.changes
        self._content = {key: value for key, value in newest.items() if value is not None}

    def flush(self) -> None:
        """Make what was written safe from a crash of the machine."""
        self._stage.effect("flush the store")
        self._disk.flushed = len(self._disk.writes)

    def close(self) -> None:
        """Let go of the folder."""
        if self._disk.user is self._process:
            self._disk.user = None
