"""What `wallet replay` prints: counts by partition, what stopped it, and how to continue."""

from collections.abc import Iterable
from copy import copy

import typer

from config.errors import WalletError
from operations.cli.exit_codes import INTERRUPTED
from operations.cli.output import as_line, show_table, table
from operations.replay.run import Outcome
from sinks.replay_positions import Stretch
from sinks.tables import Differs


def show(outcomes: Iterable[Outcome], *, as_json: bool) -> int:
    """Print outcomes as they come, up to the first unfinished one; returns the exit code."""
    code = 0
    for outcome in outcomes:
        if as_json:
            typer.echo(as_line(_fields(outcome)))
        else:
            _print(outcome)
            if isinstance(outcome.problem, Differs):
                typer.echo(outcome.problem.versions)
        if outcome.problem is not None:
            raise _hinting(outcome)
        if not outcome.finished:
            code = INTERRUPTED
            typer.echo(f"stopped; {_how_to_go_on(outcome)}", err=True)
            break
    return code


def _fields(outcome: Outcome) -> dict[str, object]:
    return {
        "sink": outcome.sink,
        "topic": outcome.topic,
        "executed": outcome.executed,
        "finished": outcome.finished,
        "read": sum(one.read for one in outcome.stretches),
        "inserted": sum(one.inserted for one in outcome.stretches),
        "equal": sum(one.equal for one in outcome.stretches),
        "problem": None if outcome.problem is None else str(outcome.problem),
        "versions": outcome.problem.versions if isinstance(outcome.problem, Differs) else None,
        "seconds": round(outcome.seconds, 3),
        "running": outcome.running,
        "partitions": [one._asdict() | {"equal": one.equal} for one in outcome.stretches],
    }


def _print(outcome: Outcome) -> None:
    done = outcome.executed
    typer.echo(
        f"sink {outcome.sink}, topic {outcome.topic}{'' if done else ' (dry run: nothing is written)'}"
    )
    columns = ("partition", "from", "to", "read up to", "read", "inserted" if done else "missing", "equal")
    rows = ([f"{number:,}" for number in _row(one)] for one in outcome.stretches)
    show_table(table(columns, rows, numbers=columns))
    rate = outcome.records / outcome.seconds if outcome.seconds else 0
    read, inserted, equal = (
        sum(counts) for counts in zip(*(_row(one)[4:] for one in outcome.stretches), strict=True)
    )
    typer.echo(
        f"{read:,} records read, {inserted:,} {'inserted' if done else 'would be inserted'}, {equal:,} equal, "
        f"{'0 different' if outcome.problem is None else 'stopped'}; {outcome.seconds:.1f} s, {rate:,.0f} records/s"
    )
    if not done and outcome.problem is None and outcome.finished:
        typer.echo("add --execute to do it" + (f"; but {outcome.running}" if outcome.running else ""))


def _row(one: Stretch) -> tuple[int, ...]:
    return one.partition, one.from_offset, one.to_offset, one.next_offset, one.read, one.inserted, one.equal


def _hinting(outcome: Outcome) -> WalletError:
    """What stopped a replay, as the same class and exit code, with what to do about it."""
    problem = outcome.problem
    assert problem is not None  # noqa: S101 - asked before
    told = copy(problem)
    told.args = (f"{problem}; {_how_to_go_on(outcome)}",)
    return told


def _how_to_go_on(outcome: Outcome) -> str:
    if not outcome.executed:
        return "this was a dry run, nothing was written"
    return (
        "what was read is written, the sink's own position is unchanged; continue with "
        f"`wallet replay {outcome.sink} --resume`"
    )
