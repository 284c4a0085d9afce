"""Align two lists of a wallet's entries: which are in both, and which in only one."""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from itertools import groupby
from typing import Any

from sinks.comparison import ComparedEntry

#: Most entries that wait for their counterpart; beyond that, the oldest is taken to have none.
WAITING = 10_000

#: The same transaction in both ledgers, or in one of them.
Pair = tuple[ComparedEntry | None, ComparedEntry | None]


def aligned(
    live: Iterable[ComparedEntry], shadow: Iterable[ComparedEntry], *, same_input: bool
) -> Iterator[Pair]:
    """Pair up all entries, wallet by wallet; both sides must be ordered by wallet and sequence.

    With the same input, entries are matched by source offset. A copy has other offsets; there they are matched by id
    and order in time.
    """
    identity: Callable[[ComparedEntry], Hashable]
    order: Callable[[ComparedEntry], Any]
    if same_input:
        identity = order = _offset
    else:
        identity, order = _transaction_id, _recorded_at
    for ours, theirs in _by_wallet(live, shadow):
        yield from _of_one(ours, theirs, identity, order)


def _offset(entry: ComparedEntry) -> int:
    return entry.source_offset


def _transaction_id(entry: ComparedEntry) -> Hashable:
    return entry.transaction_id


def _recorded_at(entry: ComparedEntry) -> Any:
    return entry.recorded_at


def _by_wallet(
    live: Iterable[ComparedEntry], shadow: Iterable[ComparedEntry]
) -> Iterator[tuple[Iterator[ComparedEntry], Iterator[ComparedEntry]]]:
    """The entries of each wallet on both sides; read them before moving to the next wallet."""
    sides = [groupby(side, key=lambda entry: entry.wallet_id) for side in (live, shadow)]
    heads = [next(side, None) for side in sides]
    while found := [head[0] for head in heads if head]:
        wallet_id = min(found)  # code point order is also the order of the UTF-8 bytes
        taken = [head[1] if head and head[0] == wallet_id else iter(()) for head in heads]
        yield taken[0], taken[1]
        heads = [
            next(side, None) if head and head[0] == wallet_id else head
            for side, head in zip(sides, heads, strict=True)
        ]


class _Waiting:
    """Entries of one side without a counterpart so far, by the key that matches them."""

    def __init__(self, identity: Callable[[ComparedEntry], Hashable]) -> None:
        self._identity = identity
        self._entries: dict[Hashable, deque[ComparedEntry]] = {}
        self._count = 0

    def add(self, entry: ComparedEntry) -> ComparedEntry | None:
        """Let it wait; returns the oldest one if there are too many."""
        self._entries.setdefault(self._identity(entry), deque()).append(entry)
        self._count += 1
        return self._pop(next(iter(self._entries))) if self._count > WAITING else None

    def counterpart(self, entry: ComparedEntry) -> ComparedEntry | None:
        """The waiting entry of the other side that matches this one."""
        known_by = self._identity(entry)
        return self._pop(known_by) if known_by in self._entries else None

    def rest(self) -> Iterator[ComparedEntry]:
        """Those left without a counterpart."""
        while self._entries:
            yield self._pop(next(iter(self._entries)))

    def _pop(self, known_by: Hashable) -> ComparedEntry:
        waiting = self._entries[known_by]
        entry = waiting.popleft()
        if not waiting:
            del self._entries[known_by]
        self._count -= 1
        return entry


def _of_one(
    live: Iterator[ComparedEntry],
    shadow: Iterator[ComparedEntry],
    identity: Callable[[ComparedEntry], Hashable],
    order: Callable[[ComparedEntry], Any],
) -> Iterator[Pair]:
    ours, theirs = _Waiting(identity), _Waiting(identity)
    a, b = next(live, None), next(shadow, None)
    while a or b:
        if a and (b is None or order(a) <= order(b)):
            if found := theirs.counterpart(a):
                yield a, found
            elif alone := ours.add(a):
                yield alone, None
            a = next(live, None)
        elif b:
            if found := ours.counterpart(b):
                yield found, b
            elif alone := theirs.add(b):
                yield None, alone
            b = next(shadow, None)
    yield from ((alone, None) for alone in ours.rest())
    yield from ((None, alone) for alone in theirs.rest())
