"""`wallet archive status` and `run`: the state of each month; seal and move those that are due."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from threading import Event

import typer
from rich.table import Table

from config.errors import Refused, WalletError
from config.settings import Settings
from config.times import month_name, rfc3339
from operations.cli.output import as_line, progress, show_table, table
from sinks.archive import seals
from sinks.archive.compare import Advance
from sinks.archive.seals import Month, Seal
from sinks.archive.work import Archive, Moved, Sealed
from sinks.postgres import READER
from topics.cluster import agreed
from topics.incoming import Incoming

#: Reasons shown for an incomplete month; --json has all.
SHOWN_REASONS = 3


@dataclass(frozen=True)
class Standing:
    """One month: its state, and why it is not archived yet."""

    month: str
    state: str
    entries: int
    exact: bool
    seal: str | None
    sealed_at: str | None
    reasons: tuple[str, ...] = ()


def show_status(settings: Settings, *, as_json: bool) -> None:
    """Print every month that has rows; asks Kafka only about months that are due and not sealed."""
    settings = agreed(settings)
    with Archive(settings, "archive status", Incoming, READER) as archive:
        known = archive.seals()
        standings = [_standing(archive, month, known.get(month.first)) for month in archive.months()]
    if as_json:
        typer.echo(as_line({"months": [asdict(one) for one in standings]}))
    elif standings:
        show_table(_drawn(standings))
    else:
        typer.echo("no month has any rows")


def _standing(archive: Archive, month: Month, seal: Seal | None) -> Standing:
    if seal:
        state = "archived" if month.archived else "sealed"
        told = (seal.seal.hex(), rfc3339(seal.sealed_at))
        return Standing(month.name, state, seal.content.entries, True, *told)
    entries, exact = seals.entries(archive.connection, month)
    if month.archived:
        state, reasons = "archived without a seal", ["`wallet verify` reports it as a difference"]
    elif month.ends > datetime.now(UTC):
        state, reasons = "open", []
    elif not archive.is_due(month):
        state, reasons = "not due", [archive.not_due(month)]
    else:
        reasons = [*archive.completeness(month).reasons]
        state = "incomplete" if reasons else "due"
    return Standing(month.name, state, entries, exact, None, None, tuple(reasons))


def _drawn(standings: Sequence[Standing]) -> Table:
    rows = (
        (
            one.month,
            one.state,
            f"{one.entries:,}" if one.exact else f"about {one.entries:,}",
            f"{one.seal[:16]}... of {one.sealed_at}" if one.seal else "",
            _why(one.reasons),
        )
        for one in standings
    )
    return table(("month", "state", "entries", "seal", ""), rows, numbers=("entries",))


def _why(reasons: Sequence[str]) -> str:
    more = len(reasons) - SHOWN_REASONS
    return "; ".join(reasons[:SHOWN_REASONS]) + (f"; and {more} more" if more > 0 else "")


def run(settings: Settings, only: date | None, *, as_json: bool) -> None:
    """Seal and move what is due and complete, and print what was done.

    Raises Refused while another process archives, WalletError if the named month cannot be sealed yet.
    """
    settings = agreed(settings)
    with Archive(settings, "archive run", Incoming) as archive, ExitStack() as bars:
        if not archive.is_ours():
            raise Refused(f"{archive.holder()} is already archiving: wait until it is done")
        if only:
            _refuse_unready(archive, only)
        sealed, moved, waiting = archive.work(_bar(bars), Event(), only)
    _print(sealed, moved, as_json=as_json)
    if waiting is None:
        return
    why = "; ".join(waiting.reasons)
    if only:
        before = "" if waiting.month.first == only else f", which comes before {month_name(only)},"
        raise WalletError(f"month {waiting.month.name}{before} cannot be sealed yet: {why}")
    if not as_json:
        typer.echo(f"{waiting.month.name} waits: {why}")


def _refuse_unready(archive: Archive, only: date) -> None:
    """Raise WalletError, before anything is done, if the named month cannot be sealed now."""
    month = next((month for month in archive.months() if month.first == only), None)
    if month is None:
        raise WalletError(
            f"month {month_name(only)} has no rows, so there is nothing to archive: `wallet archive status` lists "
            "months"
        )
    if only in archive.seals():
        return
    why = archive.completeness(month).reasons if archive.is_due(month) else [archive.not_due(month)]
    if why:
        raise WalletError(f"month {month.name} cannot be sealed yet: {'; '.join(why)}")


def _bar(bars: ExitStack) -> Callable[[Month, int], Advance]:
    def advance_of(month: Month, size: int) -> Advance:
        # Finish the previous month's bar.
        bars.close()
        return bars.enter_context(progress(f"sealing {month.name}", size))

    return advance_of


def _print(sealed: Sequence[Sealed], moved: Sequence[Moved], *, as_json: bool) -> None:
    if as_json:
        typer.echo(
            as_line({"sealed": [_sealed(one) for one in sealed], "moved": [_moved(one) for one in moved]})
        )
        return
    for one in sealed:
        entries, took_s = one.seal.content.entries, one.took_s
        typer.echo(
            f"sealed {one.month.name}: {entries:,} entries in {took_s:.1f} s ({entries / max(took_s, 0.001):,.0f}/s), "
            f"{one.seal_rows:,} snapshots added, seal {one.seal.seal.hex()}"
        )
    for move in moved:
        typer.echo(
            f"moved {move.month.name}: waited {move.waited_ms:.0f} ms for locks, held them for {move.took_ms:.0f} ms, "
            f"attempt {move.attempts}"
        )
    if not (sealed or moved):
        typer.echo("nothing to seal or move")


def _sealed(one: Sealed) -> dict[str, object]:
    return {
        "month": one.month.name,
        "entries": one.seal.content.entries,
        "snapshots_added": one.seal_rows,
        "seal": one.seal.seal.hex(),
        "took_s": round(one.took_s, 3),
    }


def _moved(one: Moved) -> dict[str, object]:
    return {
        "month": one.month.name,
        "waited_ms": round(one.waited_ms, 1),
        "took_ms": round(one.took_ms, 1),
        "attempts": one.attempts,
    }
