"""The sum of each group's legs by currency, on disk, since there may be as many groups as entries."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import cast

import numpy as np
from rocksdict import Options, Rdict, WriteBatch

from audit.certify import Judged
from audit.report import Finding
from audit.wallets import currency_text

STORED_AT_ONCE = 10_000
WRITE_BUFFER_BYTES = 16 * 1024 * 1024


class GroupSums:
    """Sums by group; balanced groups are dropped, so only open ones are stored."""

    def __init__(self, path: Path) -> None:
        options = Options(raw_mode=True)
        options.set_write_buffer_size(WRITE_BUFFER_BYTES)
        self._db = Rdict(str(path), options)

    def add(self, judged: Judged) -> None:
        """Add the legs among these entries."""
        of, values = judged.columns.transaction, judged.values
        rows = np.flatnonzero(of.group_bytes >= 0)
        legs = zip(
            rows.tolist(),
            of.group_at[rows].tolist(),
            of.group_bytes[rows].tolist(),
            of.currency[rows].tolist(),
            of.signed[rows].tolist(),
            strict=True,
        )
        sums: dict[bytes, int] = {}
        for row, at, size, currency, amount in legs:
            key = b"%b\0%b" % (values[row][at : at + size], currency_text(currency).encode())
            sums[key] = sums.get(key, 0) + amount
        if sums:
            self._store(sums)

    def _store(self, sums: dict[bytes, int]) -> None:
        before = cast("list[bytes | None]", self._db.get([*sums]))
        batch = WriteBatch(raw_mode=True)
        for (key, amount), stored in zip(sums.items(), before, strict=True):
            total = amount + int(stored or 0)
            if total:
                batch.put(key, b"%d" % total)
            elif stored is not None:
                batch.delete(key)
        self._db.write(batch)

    def take(self, path: Path) -> None:
        """Add what another process has summed up."""
        others = GroupSums(path)
        try:
            left = iter(others._db.items())
            while some := {cast("bytes", key): int(total) for key, total in islice(left, STORED_AT_ONCE)}:
                self._store(some)
        finally:
            others.close()

    def unbalanced(self) -> Iterator[Finding]:
        """Every group that is not in balance, with its sum in each currency."""
        for key, total in self._db.items():
            group_id, currency = cast("bytes", key).decode().split("\0")
            detail = f"its legs sum to {int(total)} {currency} (minor units)"
            yield Finding("unbalanced group", group_id, detail)

    def close(self) -> None:
        """Write what is in memory and let go of the folder."""
        self._db.flush()
        self._db.close()
