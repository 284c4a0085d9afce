"""`wallet local`: a Kafka and a PostgreSQL on this machine, for trying things out and for tests."""

import json
import logging
import shlex
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console

from config.errors import WalletError
from config.logs import masked
from config.settings import from_environment
from local.server import Progress
from local.stack import DEFAULT_FOLDER, ServerStatus, Stack
from operations.cli.arguments import Json, group
from operations.cli.context import LOCAL_PARTITIONS

app = group("Run a real Kafka and PostgreSQL on this machine.")
log = logging.getLogger(__name__)

T = TypeVar("T")


Folder = Annotated[Path, typer.Option(help="Folder for the stack's data and logs.")]


@app.command()
def up(
    folder: Folder = DEFAULT_FOLDER,
    full_speed: Annotated[bool, typer.Option(help="Give Kafka 1 GiB of memory, for measurements.")] = False,
    as_json: Json = False,
) -> None:
    """Start the stack unless it is up, and print its addresses without the password."""
    stack = Stack(folder, from_environment().local_cache)
    _with_progress(lambda progress: stack.up(progress, full_speed=full_speed))
    _show(stack.status(), as_json=as_json)
    if not as_json:
        typer.echo(f'to set the variables for other programs: eval "$({_command("env", folder)})"')


@app.command()
def env(folder: Folder = DEFAULT_FOLDER, as_json: Json = False) -> None:
    """Print the settings for this stack, password included: eval "$(wallet local env)".

    Exit code 1 if it is down.
    """
    addresses = Stack(folder).addresses_if_up()
    if addresses is None:
        raise WalletError(f"the local stack in {folder} is down: run `{_command('up', folder)}`")
    # The number of partitions, too: with addresses set, the default would be a real cluster's.
    variables = {**addresses.environment, "WALLET_PARTITIONS": str(LOCAL_PARTITIONS)}
    if as_json:
        typer.echo(json.dumps(variables))
        return
    for name, value in variables.items():
        typer.echo(f"export {name}={shlex.quote(value)}")


@app.command()
def down(
    folder: Folder = DEFAULT_FOLDER,
    delete: Annotated[bool, typer.Option(help="Also delete all data.")] = False,
) -> None:
    """Stop the stack; its data stays for the next `up`."""
    stack = Stack(folder)
    _with_progress(stack.down)
    if delete:
        stack.delete()


@app.command()
def status(folder: Folder = DEFAULT_FOLDER, as_json: Json = False) -> None:
    """Show which servers are up, and where. Exit code 1 if one is down."""
    servers = Stack(folder).status()
    _show(servers, as_json=as_json)
    raise typer.Exit(code=0 if all(server.pid for server in servers) else 1)


def _show(servers: list[ServerStatus], *, as_json: bool) -> None:
    """Print the servers. Output is copied and logged, so it does not contain the password."""
    hushed = [replace(server, address=server.address and masked(server.address)) for server in servers]
    if as_json:
        typer.echo(json.dumps([asdict(server) for server in hushed], default=str))
        return
    for server in hushed:
        typer.echo(_line(server))


def _command(name: str, folder: Path) -> str:
    return f"wallet local {name}" + (
        "" if folder == DEFAULT_FOLDER else f" --folder {shlex.quote(str(folder))}"
    )


def _line(server: ServerStatus) -> str:
    where = f"up    pid {server.pid}  {server.address}" if server.pid else "down"
    return f"{server.name:<9} {where}"


def _with_progress(work: Callable[[Progress], T]) -> T:
    """Show progress: a spinner on a terminal, log lines elsewhere; never on standard output."""
    console = Console(stderr=True)
    if not console.is_terminal:
        return work(log.info)
    with console.status("local stack") as spinner:
        return work(spinner.update)
