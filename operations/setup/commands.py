"""The commands that set up: `wallet local` and `wallet init`."""

from pathlib import Path
from typing import Annotated

import typer

from config.errors import ConfigurationError
from local import DEFAULT_FOLDER
from operations.cli.arguments import Json, group

local = group("Run a real Kafka and PostgreSQL on this machine: up, down, status, env.")

Folder = Annotated[Path, typer.Option(help="Folder for the stack's data and logs.")]


@local.command()
def up(
    folder: Folder = DEFAULT_FOLDER,
    full_speed: Annotated[bool, typer.Option(help="Give Kafka 1 GiB of memory, for measurements.")] = False,
    as_json: Json = False,
) -> None:
    """Start the stack unless it is up, and print its addresses without the password."""
    from operations.setup import local as here

    here.up(folder, full_speed=full_speed, as_json=as_json)


@local.command()
def env(folder: Folder = DEFAULT_FOLDER, as_json: Json = False) -> None:
    """Print the settings for this stack, password included: eval "$(wallet local env)".

    Exit code 1 if it is down.
    """
    from operations.setup import local as here

    here.env(folder, as_json=as_json)


@local.command()
def down(
    folder: Folder = DEFAULT_FOLDER,
    delete: Annotated[bool, typer.Option(help="Also delete all data.")] = False,
    as_json: Json = False,
) -> None:
    """Stop the stack; its data stays for the next `up`."""
    from operations.setup import local as here

    here.down(folder, delete=delete, as_json=as_json)


@local.command()
def status(folder: Folder = DEFAULT_FOLDER, as_json: Json = False) -> None:
    """Show which servers are up, and where. Exit code 1 if one is down."""
    from operations.setup import local as here

    raise typer.Exit(0 if here.status(folder, as_json=as_json) else 1)


def init(
    history: Annotated[
        bool,
        typer.Option("--history", help="Open the input for `wallet import`: records keep their own dates."),
    ] = False,
    upstream: Annotated[
        bool, typer.Option("--open", help="Open the input to live records: the broker sets their time.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Confirm a change that cannot be undone.")] = False,
    as_json: Json = False,
) -> None:
    """Create the topics, pipeline record, schemas, tables and roles. Running it again changes nothing."""
    from operations.cli.context import current
    from operations.setup import init as initialising

    if history and upstream:
        raise ConfigurationError("use either --history or --open, not both")
    times: initialising.Times = "history" if history else "upstream" if upstream else "as they are"
    initialising.show(initialising.initialise(current(), times, agreed=yes), as_json=as_json)
