"""The history of some wallets, kept while folding, to ask PostgreSQL's balance functions about."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple
from zlib import crc32

from operations.verify.fold import Entered
from schemas.records import CREDIT

#: Entries kept in all; above it every second wallet is let go.
ENTRIES = 20_000
#: Wallets asked about, and times asked about each.
WALLETS, TIMES = 200, 5


class Step(NamedTuple):
    """One entry of a sampled wallet: its times, signed amount and the balance after it."""

    recorded_ms: int
    occurred_us: int
    amount: int
    balance: int


@dataclass
class History:
    """A wallet's entries since the fold began; `complete` if that was its first."""

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

    def effective_at(self, occurred_us: int) -> int:
        """The sum of what occurred up to and at this time; only for a complete history."""
        return sum(step.amount for step in self.steps if step.occurred_us <= occurred_us)


class Samples:
    """Histories of wallets chosen by their ids alone, so that each is whole, within a bounded number of entries."""

    def __init__(self) -> None:
        self.histories: dict[str, History] = {}
        self._one_in = 1
        self._entries = 0
        self._too_long: set[str] = set()

    def add(self, entered: Iterable[Entered]) -> None:
        """Take over the entries of chosen wallets."""
        histories, one_in = self.histories, self._one_in
        for balance, transaction in entered:
            wallet_id = balance[0]
            if one_in > 1 and crc32(wallet_id.encode()) % one_in:
                continue
            if wallet_id in self._too_long:
                continue
            history = histories.get(wallet_id)
            if history is None:
                history = histories[wallet_id] = History(balance[3])
            amount = transaction[3] if transaction[2] == CREDIT else -transaction[3]
            history.steps.append(Step(balance[4], transaction[5], amount, balance[2]))
            self._entries += 1
            if self._entries > ENTRIES:
                self._let_go()
                one_in = self._one_in

    def chosen(self) -> list[tuple[str, History]]:
        """As many wallets as are asked about."""
        in_order = sorted(self.histories.items(), key=lambda one: crc32(one[0].encode()))
        return in_order[:WALLETS]

    def _let_go(self) -> None:
        """Half of the wallets; where one alone is too much, that one."""
        self._one_in *= 2
        for wallet_id, history in list(self.histories.items()):
            if crc32(wallet_id.encode()) % self._one_in:
                del self.histories[wallet_id]
            elif len(history.steps) > ENTRIES // 2:
                del self.histories[wallet_id]
                self._too_long.add(wallet_id)
        self._entries = sum(len(history.steps) for history in self.histories.values())
