"""`wallet rebuild diff`: compare the shadow's ledger with the live one by wallet, explained by transaction."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from heapq import merge
from itertools import groupby

import typer
from rich.console import Console

from config.errors import DIFFERENCES
from operations.cli.output import as_line, console
from operations.rebuild.cut import CommonCut, common
from operations.rebuild.explain import Change, Explainer, Pair, aligned
from operations.rebuild.place import Rebuild
from sinks import comparison
from sinks.comparison import WalletSummary
from sinks.postgres import Connection

#: Differing wallets that are examined at a time.
WALLETS = 500
#: Entries without a counterpart that are explained at a time.
EXPLAINED = 5_000
#: Shown of one wallet: transactions in only one ledger, and those that differ as a consequence.
CAUSES, CONSEQUENCES = 10, 2


@dataclass
class WalletDifference:
    """One wallet on both sides; None if it has no entry there."""

    wallet_id: str
    live: WalletSummary | None
    shadow: WalletSummary | None
    causes: list[Change] = field(default_factory=list)
    consequences: list[Change] = field(default_factory=list)
    more_changes: int = 0


@dataclass
class Diff:
    """What differs, counted in full; `shown` has the first differing wallets."""

    live: str
    shadow: str
    cut: CommonCut
    same_input: bool
    wallets: int = 0
    entries: int = 0
    different: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    live_reasons: dict[str, int] = field(default_factory=dict)
    shadow_reasons: dict[str, int] = field(default_factory=dict)
    shown: list[WalletDifference] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Whether every wallet is the same in both."""
        return not self.different


def run(place: Rebuild, show: int) -> Diff:
    """Compare; keeps the first `show` wallets that differ. Raises Refused if there is no common point."""
    place.begun()
    cut = common(place)
    diff = Diff(place.live.prefix, place.shadow.prefix, cut, not place.copied)
    name = "wallet rebuild diff"
    with (
        comparison.compared(place.live, name) as live,
        comparison.compared(place.shadow, name) as shadow,
    ):
        _Comparison(place, diff, live, shadow, show).run()
    return diff


class _Comparison:
    """One pass over both databases."""

    def __init__(self, place: Rebuild, diff: Diff, live: Connection, shadow: Connection, show: int) -> None:
        self._diff, self._show = diff, show
        self._live, self._shadow = live, shadow
        self._cut, self._same_input = diff.cut, diff.same_input
        self._explainer = Explainer(place, diff.cut, live, shadow)

    def run(self) -> None:
        """1. Compare sums of whole wallets. 2. Compare entry by entry those wallets whose sums differ."""
        self._diff.live_reasons = comparison.reasons(self._live, self._cut.live)
        self._diff.shadow_reasons = comparison.reasons(self._shadow, self._cut.shadow)
        suspects: dict[str, WalletDifference] = {}
        for wallet_id, live, shadow in self._summaries():
            self._diff.wallets += 1
            self._diff.entries += live.entries if live else 0
            if live != shadow:
                suspects[wallet_id] = WalletDifference(wallet_id, live, shadow)
            if len(suspects) >= WALLETS:
                self._look_into(suspects)
                suspects = {}
        if suspects:
            self._look_into(suspects)

    def _summaries(self) -> Iterator[tuple[str, WalletSummary | None, WalletSummary | None]]:
        """Each wallet with its summary on both sides, by the bytes of the ids."""
        cuts = (self._live, self._cut.live), (self._shadow, self._cut.shadow)
        ours, theirs = (comparison.summaries(*one, same_input=self._same_input) for one in cuts)
        both = merge(
            ((0, one) for one in ours), ((1, one) for one in theirs), key=lambda one: one[1].wallet_id
        )
        for wallet_id, found in groupby(both, key=lambda one: one[1].wallet_id):
            sides = dict(found)
            yield wallet_id, sides.get(0), sides.get(1)

    def _look_into(self, suspects: dict[str, WalletDifference]) -> None:
        found: set[str] = {
            wallet_id for wallet_id, one in suspects.items() if _newest(one.live) != _newest(one.shadow)
        }
        wallets = sorted(suspects)
        live = comparison.entries(self._live, self._cut.live, wallets)
        shadow = comparison.entries(self._shadow, self._cut.shadow, wallets)
        differing: list[Pair] = []
        for pair in aligned(live, shadow, same_input=self._same_input):
            if self._explainer.differs(pair):
                differing.append(pair)
            if len(differing) >= EXPLAINED:
                found |= self._explain(differing, suspects)
                differing = []
        found |= self._explain(differing, suspects)
        self._diff.different += len(found)
        room = max(0, self._show - len(self._diff.shown))
        self._diff.shown += [suspects[wallet_id] for wallet_id in sorted(found)[:room]]

    def _explain(self, differing: Sequence[Pair], suspects: dict[str, WalletDifference]) -> set[str]:
        """Count these by kind, keep the first of each wallet; returns the wallets."""
        wallets: set[str] = set()
        for change in self._explainer.explained(differing):
            self._diff.kinds[change.kind] += 1
            wallets.add(change.wallet_id)
            one = suspects[change.wallet_id]
            kept, most = (one.causes, CAUSES) if change.is_cause else (one.consequences, CONSEQUENCES)
            if len(kept) < most:
                kept.append(change)
            else:
                one.more_changes += 1
        return wallets


def _newest(summary: WalletSummary | None) -> WalletSummary | None:
    """What is shown, without the digest: two versions of PostgreSQL need not agree on it."""
    return summary._replace(digest=0) if summary else None


def show(diff: Diff, *, as_json: bool) -> int:
    """Print it; returns the exit code, 0 only if nothing differs."""
    if as_json:
        typer.echo(as_line(fields(diff)))
    else:
        _print(diff, console())
    return 0 if diff.equal else DIFFERENCES


def fields(diff: Diff) -> dict[str, object]:
    """As JSON has it."""
    return asdict(diff) | {
        "equal": diff.equal,
        "kinds": dict(diff.kinds.most_common()),
        "shown": [
            asdict(one) | {"live": _summary(one.live), "shadow": _summary(one.shadow)} for one in diff.shown
        ],
    }


def _print(diff: Diff, output: Console) -> None:
    lines = [
        f"live {diff.live}, shadow {diff.shadow}: {diff.wallets:,} wallets, {diff.entries:,} live entries compared"
    ]
    if diff.cut.not_compared:
        lines.append(
            f"up to {diff.cut.not_compared:,} newer input records are not in both ledgers yet and were not compared"
        )
    for one in diff.shown:
        lines += _wallet(one)
    if more := diff.different - len(diff.shown):
        lines.append(f"... {more:,} more wallets")
    lines += [f"{count:,} {kind}" for kind, count in diff.kinds.most_common()]
    for reason in sorted(diff.live_reasons | diff.shadow_reasons):
        live, shadow = diff.live_reasons.get(reason, 0), diff.shadow_reasons.get(reason, 0)
        if live != shadow:
            lines.append(f"rejected as {reason}: {live:,} in live, {shadow:,} in the shadow")
    for line in lines:
        output.print(line, markup=False)
    if diff.equal:
        output.print("every wallet is the same in both", style="green")
    else:
        output.print(f"{diff.different:,} wallets differ", style="red")


def _wallet(one: WalletDifference) -> list[str]:
    lines = [f"wallet {one.wallet_id}: live {_told(one.live)}; shadow {_told(one.shadow)}"]
    lines += [f"  {_change(change)}" for change in (*one.causes, *one.consequences)]
    return [*lines, f"  ... {one.more_changes:,} more"] if one.more_changes else lines


def _told(summary: WalletSummary | None) -> str:
    if summary is None:
        return "no entry"
    return f"{summary.balance} {summary.currency} after {summary.entries:,} entries"


def _summary(summary: WalletSummary | None) -> dict[str, object] | None:
    if summary is None:
        return None
    return {name: value for name, value in summary._asdict().items() if name not in {"wallet_id", "digest"}}


def _change(change: Change) -> str:
    sign = "-" if change.type == "DEBIT" else "+"
    told = f"{change.transaction_id} {sign}{change.amount} {change.kind}"
    if change.detail:
        return f"{told} ({change.detail})"
    if change.live and change.shadow and "rejected" not in {*change.live, *change.shadow}:
        both = ", ".join(f"{name} {value} / {change.shadow[name]}" for name, value in change.live.items())
        return f"{told} (live / shadow: {both})"
    return told
