"""What `wallet rebuild diff` prints."""

from dataclasses import asdict

import typer
from rich.console import Console

from operations.cli.exit_codes import DIFFERENCES
from operations.cli.output import as_line, console
from operations.rebuild.diff import Diff, WalletDifference
from operations.rebuild.explain import Change
from sinks.comparison import WalletSummary


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
            f"at most {diff.cut.not_compared:,} newer input records are not in both yet and were not compared"
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
