"""Which entries of two ledgers are the same transaction, and why one is in only one of them or has other values."""

from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import groupby
from typing import Any

from operations.rebuild.cut import CommonCut
from operations.rebuild.place import Rebuild
from operations.rejections.listing import transaction_in
from sinks import comparison
from sinks.comparison import ComparedEntry, StoredRejection
from sinks.postgres import Connection
from topics.cluster import read_pipeline

#: Fields that two entries of the same transaction must agree on, also when the input is a copy.
FIELDS = ("transaction_id", "type", "amount", "currency", "sequence", "balance", "recorded_at")
#: Fields that must agree, too, if both read the same topic.
SAME_INPUT_FIELDS = (*FIELDS, "source_partition", "source_offset", "hash")
NOT_FOUND = "no rejection found"
#: The two sides, as a difference names them.
LIVE, SHADOW = "live", "the shadow"
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

    def order(one: tuple[int, ComparedEntry]) -> tuple[str, Any]:
        # Code point order of wallet ids is also the order of their UTF-8 bytes.
        return one[1].wallet_id, one[1].source_offset if same_input else one[1].recorded_at

    both = merge(((0, one) for one in live), ((1, one) for one in shadow), key=order)
    for _, of_wallet in groupby(both, key=lambda one: one[1].wallet_id):
        # Entries without a counterpart so far, the oldest first, by what matches them.
        waiting: tuple[dict[Hashable, deque[ComparedEntry]], ...] = ({}, {})
        counts = [0, 0]
        for side, entry in of_wallet:
            known_by = entry.source_offset if same_input else entry.transaction_id
            if known_by in waiting[1 - side]:
                counts[1 - side] -= 1
                yield _pair(side, entry, _popped(waiting[1 - side], known_by))
                continue
            waiting[side].setdefault(known_by, deque()).append(entry)
            counts[side] += 1
            if counts[side] > WAITING:
                counts[side] -= 1
                yield _pair(side, _popped(waiting[side], next(iter(waiting[side]))), None)
        for side in (0, 1):
            yield from (_pair(side, entry, None) for some in waiting[side].values() for entry in some)


def _popped(waiting: dict[Hashable, deque[ComparedEntry]], known_by: Hashable) -> ComparedEntry:
    entry = waiting[known_by].popleft()
    if not waiting[known_by]:
        del waiting[known_by]
    return entry


def _pair(side: int, entry: ComparedEntry, other: ComparedEntry | None) -> Pair:
    return (other, entry) if side else (entry, other)


@dataclass(frozen=True)
class Change:
    """One transaction that differs between the ledgers: the kind of difference, and both versions.

    It is a cause if it is in only one of them; later differences in its wallet are consequences.
    """

    kind: str
    wallet_id: str
    transaction_id: str
    type: str
    amount: int
    live: dict[str, object] | None
    shadow: dict[str, object] | None
    detail: str = ""
    is_cause: bool = False


class Explainer:
    """Finds the reason for each differing pair, many at a time."""

    def __init__(self, place: Rebuild, cut: CommonCut, live: Connection, shadow: Connection) -> None:
        self._place, self._cut = place, cut
        self._live, self._shadow = live, shadow
        pipeline = read_pipeline(place.live)
        self._schema_id = pipeline.transaction_schema_id if pipeline else 0
        self._fields = FIELDS if place.copied else SAME_INPUT_FIELDS

    def differs(self, pair: Pair) -> bool:
        """Whether the two differ."""
        live, shadow = pair
        return live is None or shadow is None or bool(self._differing(live, shadow))

    def explained(self, pairs: Sequence[Pair]) -> Iterator[Change]:
        """These pairs, in order, with the reasons."""
        missing_here = [live for live, shadow in pairs if live and shadow is None]
        missing_there = [shadow for live, shadow in pairs if shadow and live is None]
        why_not_here = self._reasons(self._shadow, self._cut.shadow, missing_here)
        why_not_there = self._reasons(self._live, self._cut.live, missing_there)
        for live, shadow in pairs:
            if live and shadow:
                yield self._otherwise(live, shadow)
            elif live:
                yield _alone(live, LIVE, SHADOW, why_not_here.get(_place_of(live)))
            elif shadow:
                yield _alone(shadow, SHADOW, LIVE, why_not_there.get(_place_of(shadow)))

    def _differing(self, live: ComparedEntry, shadow: ComparedEntry) -> list[str]:
        return [name for name in self._fields if getattr(live, name) != getattr(shadow, name)]

    def _otherwise(self, live: ComparedEntry, shadow: ComparedEntry) -> Change:
        names = self._differing(live, shadow)
        # A different balance or sequence already changes the hash.
        told = [name for name in names if name != "hash"] or names
        return Change(
            f"posted in both with another {', '.join(told)}",
            live.wallet_id,
            str(live.transaction_id),
            live.type,
            live.amount,
            {name: _plain(getattr(live, name)) for name in told},
            {name: _plain(getattr(shadow, name)) for name in told},
        )

    def _reasons(
        self, connection: Connection, cut: Sequence[int], missing: Sequence[ComparedEntry]
    ) -> dict[tuple[int, int], StoredRejection]:
        """The rejection on one side for each entry of the other, by the entry's source."""
        if not missing:
            return {}
        if not self._place.copied:
            return comparison.rejections_at(connection, [_place_of(entry) for entry in missing])
        # A copy has other offsets: there, find the transaction in the record itself.
        wanted = {(entry.wallet_id, str(entry.transaction_id)): _place_of(entry) for entry in missing}
        found: dict[tuple[int, int], StoredRejection] = {}
        wallets = sorted({entry.wallet_id for entry in missing})
        for rejection in comparison.rejections_of(connection, cut, wallets):
            if place := wanted.get(self._named(rejection) or ("", "")):
                found.setdefault(place, rejection)
        return found

    def _named(self, rejection: StoredRejection) -> tuple[str, str] | None:
        try:
            found = transaction_in(self._place.live, self._schema_id, rejection.value)
        except ValueError:
            return None
        return (found.wallet_id, found.transaction_id) if found else None


def _alone(entry: ComparedEntry, here: str, there: str, why: StoredRejection | None) -> Change:
    reason = why.reason if why else NOT_FOUND
    posted: dict[str, object] = {"sequence": entry.sequence, "balance": entry.balance}
    rejected: dict[str, object] = {"rejected": reason}
    return Change(
        f"posted in {here}, rejected in {there}: {reason}",
        entry.wallet_id,
        str(entry.transaction_id),
        entry.type,
        entry.amount,
        posted if here == LIVE else rejected,
        rejected if here == LIVE else posted,
        why.detail if why else "",
        is_cause=True,
    )


def _place_of(entry: ComparedEntry) -> tuple[int, int]:
    return entry.source_partition, entry.source_offset


def _plain(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else str(value) if not isinstance(value, int) else value
