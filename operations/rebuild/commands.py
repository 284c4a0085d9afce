"""The commands of `wallet rebuild`."""

from typing import Annotated, Literal

import typer

from operations.cli.children import stopping_on_signals
from operations.cli.context import briefly, current
from operations.rebuild import diff as rebuild_diff
from operations.rebuild import diff_show as rebuild_diff_show
from operations.rebuild import discard as rebuild_discard
from operations.rebuild import run as rebuild_run
from operations.rebuild import status as rebuild_status
from operations.rebuild import switch as rebuild_switch
from operations.rebuild import switch_show as rebuild_switch_show
from operations.rebuild.begin import alone
from operations.rebuild.place import Policies, find

app = typer.Typer(
    help="The ledger built anew beside the live one, by the same fold over the same input: start, status, diff, "
    "switch, discard.",
    no_args_is_help=True,
    add_completion=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Prefix = Annotated[str | None, typer.Option(help="The shadow's name; else WALLET_REBUILD_PREFIX.")]
Execute = Annotated[bool, typer.Option("--execute", help="Do it; otherwise only say what.")]


@app.command("start")
def start(
    prefix: Prefix = None,
    overdraft: Annotated[Literal["allow", "reject"] | None, typer.Option(help="Another policy.")] = None,
    id_window_days: Annotated[
        int | None, typer.Option(min=1, max=36_500, help="Another window of ids.")
    ] = None,
    no_id_window: Annotated[bool, typer.Option("--no-id-window", help="Every id counts for ever.")] = False,
    snapshot_every: Annotated[int | None, typer.Option(min=1, max=1_000_000, help="Other snapshots.")] = None,
    max_record_bytes: Annotated[
        int | None, typer.Option(min=1_024, max=16_777_216, help="Another limit of a record.")
    ] = None,
    partitions: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Another number: the input is copied first.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with what comes, until stopped.")] = False,
) -> None:
    """Build the shadow, or go on with it, up to the end of the input as of now."""
    window = 0 if no_id_window else id_window_days
    policies = Policies(partitions, snapshot_every, overdraft, max_record_bytes, window)
    with stopping_on_signals():
        place = find(current(), prefix, policies)
        with alone(place):
            rebuild_run.start(place, follow=follow)
    typer.echo(f"the shadow {place.shadow.prefix} has everything that was in {place.input} when it began")
    typer.echo("next: `wallet rebuild diff` compares, `switch` changes over, `discard` removes it")


@app.command("status")
def status(prefix: Prefix = None, as_json: Json = False) -> None:
    """How far the shadow is, partition by partition."""
    rebuild_status.show(rebuild_status.look(find(briefly(), prefix)), as_json=as_json)


@app.command("diff")
def diff(
    prefix: Prefix = None,
    show: Annotated[int, typer.Option(min=0, help="Wallets shown; all are counted.")] = 20,
    as_json: Json = False,
) -> None:
    """Compare the shadow with the live ledger, wallet by wallet. Exit code 8 where any differs."""
    found = rebuild_diff.run(find(current(), prefix), show)
    raise typer.Exit(rebuild_diff_show.show(found, as_json=as_json))


@app.command("switch")
def switch(prefix: Prefix = None, execute: Execute = False, as_json: Json = False) -> None:
    """Change over to the shadow: check, let it finish, verify it, and say which settings to change."""
    with stopping_on_signals():
        place = find(current(), prefix)
        with alone(place):
            rebuild_switch_show.show(rebuild_switch.run(place, execute=execute), as_json=as_json)


@app.command("discard")
def discard(
    prefix: Prefix = None,
    execute: Execute = False,
    even_switched: Annotated[
        bool, typer.Option("--even-switched", help="Also one that was switched to.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Remove the shadow: its topics, groups, tables and folder. A dry run without --execute."""
    place = find(current(), prefix)
    with alone(place):
        removal = rebuild_discard.run(place, execute=execute, switched=even_switched)
    rebuild_discard.show(removal, as_json=as_json)
