"""What `wallet rebuild switch` prints."""

from dataclasses import asdict

import typer

from operations.cli.output import as_line
from operations.rebuild.switch import Outcome


def show(outcome: Outcome, *, as_json: bool) -> None:
    """Print what to do next."""
    if as_json:
        typer.echo(as_line(asdict(outcome)))
        return
    if outcome.verified_offsets is not None:
        typer.echo(f"verified: {outcome.verified_offsets:,} offsets of the shadow's input, no differences")
    for obstacle in outcome.obstacles:
        typer.echo(f"before the switch: {obstacle}")
    typer.echo(
        "change these settings of workers, sinks and readers now:"
        if outcome.executed
        else "settings to change when you switch:"
    )
    for change in outcome.changes:
        typer.echo(
            f"  {change.setting}={change.shadow or ''}" + (f"   (was {change.live})" if change.live else "")
        )
    if outcome.input_changes:
        typer.echo(
            f"producers send to {outcome.input} from now on"
            if outcome.executed
            else f"producers move to {outcome.input}"
        )
    if outcome.executed and outcome.pause_s is not None:
        typer.echo(f"pause so far: {outcome.pause_s:.1f} s since the live pipeline wrote its last row")
    if not outcome.executed:
        typer.echo("rehearsal, nothing was changed: stop the live pipeline, then add --execute")
