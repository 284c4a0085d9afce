"""What the store's code takes for rocksdict: key and value in memory, with what a crash leaves of them.

A write is atomic. When the process dies, everything that was written is there. When the machine does, the
newest writes may be gone, never an older one without those after it. A copy of any earlier state can be
put back, as from a backup.
"""

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
        self.changes: dict[bytes, bytes] = {}

    def put(self, key: bytes, value: bytes) -> None:
        """Add one change."""
        self.changes[key] = value


class Disk:
    """One machine's disk: the writes that were made, in their order."""

    def __init__(self) -> None:
        self.writes: list[dict[bytes, bytes]] = []
        self.flushed = 0
        self.user: Process | None = None

    @property
    def content(self) -> dict[bytes, bytes]:
        """What all writes together come to."""
        return {key: value for write in self.writes for key, value in write.items()}

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

    def put(self, key: bytes, value: bytes) -> None:
        """Write one value."""
        self._write({key: value}, "put into the store")

    def write(self, batch: WriteBatch) -> None:
        """Write a batch, all of it or nothing."""
        self._write(batch.changes, "write to the store")

    def _write(self, changes: dict[bytes, bytes], what: str) -> None:
        self._stage.effect(what)
        if self._stage.fault("disk full", 0.003):
            raise OSError("no space left on device")
        self._disk.writes.append(dict(changes))
        self._content |= changes

    def flush(self) -> None:
        """Make what was written safe from a crash of the machine."""
        self._stage.effect("flush the store")
        self._disk.flushed = len(self._disk.writes)

    def close(self) -> None:
        """Let go of the folder."""
        if self._disk.user is self._process:
            self._disk.user = None
