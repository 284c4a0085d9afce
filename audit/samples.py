"""The history of some wallets, kept while they are audited, to ask PostgreSQL's balance functions about."""

from dataclasses import dataclass, field
from typing import NamedTuple
from zlib import crc32

import numpy as np

from audit.certify import Judged
from audit.columns import Longs
from audit.wallets import Wallets

#: Entries kept in all; above it every second wallet is let go.
ENTRIES = 20_000
#: Wallets asked about, and times asked about each.
WALLETS, TIMES = 200, 5
MOST_LOTS = 1 << 30
_SPREAD = np.uint64(0x9E3779B97F4A7C15)


class Step(NamedTuple):
    """One entry of a sampled wallet: its times, signed amount and the balance after it."""

    recorded_ms: int
    occurred_us: int
    amount: int
    balance: int


@dataclass
class History:
    """A wallet's entries since the audit began; `complete` if that was its first."""

    lot: int
    first_sequence: int
    steps: list[Step] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether it begins with the wallet's first entry."""
        return self.first_sequence == 1

    @property
    def last_sequence(self) -> int:
        """The sequence of the newest entry."""
        return self.first_sequence + len(self.steps) - 1

    def times(self) -> list[Step]:
        """Some entries, spread from the first to the last, at whose times to ask."""
        count = len(self.steps)
        return [self.steps[at] for at in sorted({count * n // TIMES for n in range(TIMES)} | {count - 1})]

    def balance_at(self, recorded_ms: int) -> int:
        """The balance after the last entry recorded up to and at this time, which must not be before the first."""
        return next(step.balance for step in reversed(self.steps) if step.recorded_ms <= recorded_ms)

    def balance_before(self, recorded_ms: int) -> int | None:
        """The balance after the last entry recorded before this time; None where the history does not know it."""
        before = [step.balance for step in self.steps if step.recorded_ms < recorded_ms]
        return before[-1] if before else (0 if self.complete else None)

    def effective_at(self, occurred_us: int) -> int:
        """The sum of what occurred up to and at this time; only for a complete history."""
        return sum(step.amount for step in self.steps if step.occurred_us <= occurred_us)


class Samples:
    """Histories of wallets chosen by lot, so that each is whole, within a bounded number of entries."""

    def __init__(self) -> None:
        self.histories: dict[str, History] = {}
        self._one_in = 1
        self._entries = 0
        self._too_long: set[str] = set()

    def add(self, judged: Judged, wallets: Wallets, partition: int) -> None:
        """Take over the entries of chosen wallets."""
        certified, of = judged.certified, judged.columns.transaction
        lots = _lots(certified.wallet, partition)
        rows = np.flatnonzero(lots % self._one_in == 0)
        chosen = zip(
            lots[rows].tolist(),
            certified.wallet[rows].tolist(),
            certified.sequence[rows].tolist(),
            certified.recorded_ms[rows].tolist(),
            of.occurred_us[rows].tolist(),
            of.signed[rows].tolist(),
            certified.balance[rows].tolist(),
            strict=True,
        )
        for lot, number, sequence, *step in chosen:
            if lot % self._one_in:
                continue
            wallet_id = wallets.names[number].decode()
            if wallet_id in self._too_long:
                continue
            history = self.histories.get(wallet_id)
            if history is None:
                history = self.histories[wallet_id] = History(lot, sequence)
            history.steps.append(Step(*step))
            self._entries += 1
            if self._entries > ENTRIES:
                self._let_go()

    def chosen(self) -> list[tuple[str, History]]:
        """As many wallets as are asked about."""
        in_order = sorted(self.histories.items(), key=lambda one: crc32(one[0].encode()))
        return in_order[:WALLETS]

    def _let_go(self) -> None:
        """Half of the wallets; where one alone is too much, that one."""
        self._one_in = min(2 * self._one_in, MOST_LOTS)
        for wallet_id, history in [*self.histories.items()]:
            if history.lot % self._one_in:
                del self.histories[wallet_id]
        # What is left may be a few wallets with most of the entries.
        while sum(len(history.steps) for history in self.histories.values()) > ENTRIES // 2:
            longest = max(self.histories, key=lambda name: len(self.histories[name].steps))
            del self.histories[longest]
            self._too_long.add(longest)
        self._entries = sum(len(history.steps) for history in self.histories.values())


def _lots(wallet: Longs, partition: int) -> Longs:
    """A number for each wallet of a partition, as if by chance, and always the same."""
    mixed = (wallet.astype(np.uint64) + np.uint64(partition << 32) + np.uint64(1)) * _SPREAD
    return (mixed >> np.uint64(34)).astype(np.int64)
