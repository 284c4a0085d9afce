"""The commands of `wallet rebuild`."""

from typing import Annotated

import typer

from config.decisions import Overdraft
from operations.cli.arguments import Execute, Json, Renamed, group

app = group("Rebuild the ledger next to the live one: start, status, diff, switch, discard.")

Prefix = Annotated[str | None, typer.Option(help="The shadow's name. Default: WALLET_REBUILD_PREFIX.")]


@app.command("start")
def start(
    prefix: Prefix = None,
    overdraft: Annotated[
        Overdraft | None, typer.Option(help="Overdraft policy, if it should differ.")
    ] = None,
    id_window_days: Annotated[
        int | None, typer.Option(min=1, max=36_500, help="Days to remember ids, if it should differ.")
    ] = None,
    no_id_window: Annotated[bool, typer.Option("--no-id-window", help="Remember every id forever.")] = False,
    snapshot_every: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help="Entries between snapshots, if it should differ.")
    ] = None,
    max_record_bytes: Annotated[
        int | None, typer.Option(min=1_024, max=16_777_216, help="Largest record, if it should differ.")
    ] = None,
    partitions: Annotated[
        int | None,
        typer.Option(min=1, max=10_000, help="Another number of partitions; copies the input first."),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Keep following the input until stopped.")] = False,
    as_json: Json = False,
) -> None:
    """Build the shadow up to the current end of the input. Run it again to continue."""
    from operations.cli.children import stopping_on_signals
    from operations.cli.context import current
    from operations.cli.output import as_line
    from operations.rebuild import run as building
    from operations.rebuild.place import Policies, find

    window = 0 if no_id_window else id_window_days
    policies = Policies(partitions, snapshot_every, overdraft, max_record_bytes, window)
    with stopping_on_signals():
        place = find(current(), prefix, policies)
        with building.alone(place):
            building.start(place, follow=follow)
    if as_json:
        typer.echo(as_line({"shadow": place.shadow.prefix, "input": place.input, "complete": True}))
        return
    typer.echo(
        f"the shadow {place.shadow.prefix} has everything that was in {place.input} when this run began"
    )
    typer.echo("next: compare with `wallet rebuild diff`, then `switch` to it or `discard` it")


@app.command("status")
def status(prefix: Prefix = None, as_json: Json = False) -> None:
    """Show how far the shadow is, by partition."""
    from operations.cli.context import briefly
    from operations.rebuild.place import find
    from operations.rebuild.status import look, show

    show(look(find(briefly(), prefix)), as_json=as_json)


@app.command("diff", cls=Renamed)
def diff(
    prefix: Prefix = None,
    limit: Annotated[int, typer.Option(min=0, help="Show this many wallets; all are counted.")] = 20,
    as_json: Json = False,
) -> None:
    """Compare the shadow with the live ledger, wallet by wallet. Exit code 8 if any differs."""
    from operations.cli.context import current
    from operations.rebuild import diff as comparing
    from operations.rebuild.place import find

    found = comparing.run(find(current(), prefix), limit)
    raise typer.Exit(comparing.show(found, as_json=as_json))


@app.command("switch")
def switch(prefix: Prefix = None, execute: Execute = False, as_json: Json = False) -> None:
    """Let the shadow finish, verify it and say which settings to change. A rehearsal without --execute."""
    from operations.cli.children import stopping_on_signals
    from operations.cli.context import current
    from operations.rebuild import switch as switching
    from operations.rebuild.place import find
    from operations.rebuild.run import alone

    with stopping_on_signals():
        place = find(current(), prefix)
        with alone(place):
            switching.show(switching.run(place, execute=execute), as_json=as_json)


@app.command("discard")
def discard(
    prefix: Prefix = None,
    execute: Execute = False,
    even_switched: Annotated[
        bool, typer.Option("--even-switched", help="Even if it was switched to.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Remove the shadow's topics, groups, tables and folder. A dry run without --execute."""
    from operations.cli.context import current
    from operations.rebuild import discard as removing
    from operations.rebuild.place import find
    from operations.rebuild.run import alone

    place = find(current(), prefix)
    with alone(place):
        removal = removing.run(place, execute=execute, switched=even_switched)
    removing.show(removal, as_json=as_json)
