"""The certified state of each wallet of a partition so far, in columns: about 300 bytes per wallet."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import murmur2

from audit.columns import Longs, Words, is_wallet_id
from audit.contract import NO_HASH, Balance

FIRST_ROWS = 1_024
FILE = "wallets.npz"
COLUMNS = ("balance", "sequence", "currency", "recorded_ms", "source", "told", "at_home")


class Wallets:
    """Wallets by number, in the order in which they were first seen. Rows of a new one are zero."""

    def __init__(self, partition: int, partitions: int) -> None:
        self._partition, self._partitions = partition, partitions
        self._numbers: dict[bytes, int] = {}
        self.names: list[bytes] = []
        self.links: list[bytes] = []
        self.balance: Longs = np.zeros(FIRST_ROWS, np.int64)
        self.sequence: Longs = np.zeros(FIRST_ROWS, np.int64)
        self.currency: Words = np.zeros(FIRST_ROWS, np.uint64)
        self.recorded_ms: Longs = np.zeros(FIRST_ROWS, np.int64)
        self.source: Longs = np.zeros(FIRST_ROWS, np.int64)
        #: Sequence of the newest balance seen in `balances`.
        self.told: Longs = np.zeros(FIRST_ROWS, np.int64)
        #: Whether wallet and partition belong to each other, by the contract.
        self.at_home = np.zeros(FIRST_ROWS, np.bool_)
        #: The recorded_at of the partition's newest entry.
        self.newest_ms = int(np.iinfo(np.int64).min)
        #: Other possible newest balances of a wallet with a fault; the first is the right one.
        self.suspects: dict[int, list[Balance | None]] = {}

    def save(self, folder: Path, newest_ms: int) -> None:
        """Keep all of it in a folder; `newest_ms` is the recorded_at of the partition's newest entry."""
        count = len(self.names)
        columns = {name: getattr(self, name)[:count] for name in COLUMNS}
        lengths = np.fromiter(map(len, self.names), np.int64, count)
        np.savez(
            folder / FILE,
            names=np.frombuffer(b"".join(self.names), np.uint8),
            lengths=lengths,
            links=np.frombuffer(b"".join(self.links), np.uint8),
            newest_ms=newest_ms,
            **columns,
        )

    def load(self, folder: Path) -> None:
        """Load what a folder has, if anything."""
        if not (folder / FILE).exists():
            return
        with np.load(folder / FILE, allow_pickle=False) as kept:
            names, links = kept["names"].tobytes(), kept["links"].tobytes()
            ends = np.cumsum(kept["lengths"]).tolist()
            for begin, end in zip([0, *ends][:-1], ends, strict=True):
                self._add(names[begin:end])
            count = len(self.names)
            for name in COLUMNS:
                getattr(self, name)[:count] = kept[name]
            self.newest_ms = int(kept["newest_ms"])
        size = len(NO_HASH)
        self.links = [links[at * size : (at + 1) * size] for at in range(count)]

    def __len__(self) -> int:
        return len(self.names)

    def numbers(self, names: Sequence[bytes]) -> Longs:
        """The numbers of wallets by id; new ones get the next numbers."""
        known = self._numbers
        try:
            found = [known[name] for name in names]
        except KeyError:
            found = [known[name] if name in known else self._add(name) for name in names]
        return np.array(found, dtype=np.int64)

    def number(self, name: bytes) -> int:
        """The number of one wallet, -1 for one that was never seen."""
        return self._numbers.get(name, -1)

    def _add(self, name: bytes) -> int:
        number = self._numbers[name] = len(self.names)
        self.names.append(name)
        self.links.append(NO_HASH)
        if number == len(self.balance):
            for column in COLUMNS:
                rows = getattr(self, column)
                setattr(self, column, np.concatenate([rows, np.zeros_like(rows)]))
        self.at_home[number] = is_wallet_id(name) and murmur2(name, self._partitions) == self._partition
        return number

    def get(self, number: int) -> Balance | None:
        """The newest certified balance of a wallet, None where it has no entry yet."""
        if not self.sequence[number]:
            return None
        return balance_at(self, number, self.names[number].decode(), self._partition)


def balance_at(rows: Any, row: int, wallet_id: str, partition: int) -> Balance:
    """One row as a Balance, of whatever has these columns; `links` are the entries' hashes."""
    return Balance(
        wallet_id,
        currency_text(int(rows.currency[row])),
        int(rows.balance[row]),
        int(rows.sequence[row]),
        int(rows.recorded_ms[row]),
        partition,
        int(rows.source[row]),
        rows.links[row],
    )


def currency_code(text: str) -> int:
    """Three letters as the number that columns hold."""
    return int.from_bytes(text.encode(), "little")


def currency_text(code: int) -> str:
    """The letters of such a number."""
    return code.to_bytes(3, "little").decode(errors="replace")
