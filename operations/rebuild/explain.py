"""Why a transaction is in only one ledger, or has other values in the other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from operations.rebuild.cut import CommonCut
from operations.rebuild.diff import Pair
from operations.rebuild.place import Place
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

    def __init__(self, place: Place, cut: CommonCut, live: Connection, shadow: Connection) -> None:
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
                yield _alone(live, "live", "shadow", why_not_here.get(_place_of(live)))
            elif shadow:
                yield _alone(shadow, "shadow", "live", why_not_there.get(_place_of(shadow)))

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
        f"posted in {'the shadow' if here == 'shadow' else 'live'}, rejected in "
        f"{'the shadow' if there == 'shadow' else 'live'}: {reason}",
        entry.wallet_id,
        str(entry.transaction_id),
        entry.type,
        entry.amount,
        posted if here == "live" else rejected,
        posted if here == "shadow" else rejected,
        why.detail if why else "",
        is_cause=True,
    )


def _place_of(entry: ComparedEntry) -> tuple[int, int]:
    return entry.source_partition, entry.source_offset


def _plain(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else str(value) if not isinstance(value, int) else value
