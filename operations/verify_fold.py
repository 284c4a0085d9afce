"""The worker's own fold, watched: what it posts, and the groups whose legs it posts."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import cast

from rocksdict import Rdict, WriteBatch

from schemas.records import CREDIT, Balance, Transaction
from streams.batch import Outputs
from streams.posting import Fold, Readable
from streams.store import StoreMemory
from streams.wallet import Position, Posted

Entered = tuple[Balance, Transaction]


class WatchedFold(Fold):
    """`streams.posting.Fold`, which also tells each entry's balance; its outputs keep a batch's last ones only."""

    entered: list[Entered]

    def _enter(
        self, one: Readable, posted: Posted, before: Balance | None, at: Position, out: Outputs
    ) -> Balance:
        after = super()._enter(one, posted, before, at, out)
        self.entered.append((after, one.transaction))
        return after


class GroupSums:
    """The sum of each group's legs by currency, on disk: groups may be as many as entries.

    A group in balance is forgotten, so what is stored is what is open.
    """

    def __init__(self, path: Path, memory: StoreMemory) -> None:
        self._db = Rdict(str(path), memory.options())

    def add(self, entered: Iterable[Entered]) -> None:
        """Add the legs among these entries."""
        sums: dict[bytes, int] = {}
        for _, transaction in entered:
            group_id = transaction[6]
            if group_id is not None:
                key = f"{group_id}\0{transaction[4]}".encode()
                amount = transaction[3] if transaction[2] == CREDIT else -transaction[3]
                sums[key] = sums.get(key, 0) + amount
        if not sums:
            return
        before = cast("list[bytes | None]", self._db.get([*sums]))
        batch = WriteBatch(raw_mode=True)
        for (key, amount), stored in zip(sums.items(), before, strict=True):
            total = amount + int(stored or 0)
            if total:
                batch.put(key, b"%d" % total)
            elif stored is not None:
                batch.delete(key)
        self._db.write(batch)

    def unbalanced(self) -> Iterator[tuple[str, str, int]]:
        """Group, currency and sum of every group that is not in balance."""
        for key, total in self._db.items():
            group_id, currency = cast("bytes", key).decode().split("\0")
            yield group_id, currency, int(total)

    def close(self) -> None:
        """Write what is in memory and let go of the folder."""
        self._db.flush()
        self._db.close()
