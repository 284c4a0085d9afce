"""`wallet local`: the Kafka and the PostgreSQL of this machine, for trying things out and for tests."""

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
from local.progress import Progress
from local.stack import DEFAULT_FOLDER, ServerStatus, Stack
from operations.cli.context import LOCAL_PARTITIONS

app = typer.Typer(
    help="A real Kafka and a real PostgreSQL on this machine.", no_args_is_help=True, add_completion=False
)
log = logging.getLogger(__name__)

T = TypeVar("T")


class StackDown(WalletError):  # noqa: N818 - the name is the message
    """The stack whose addresses are asked for is down."""


Folder = Annotated[Path, typer.Option(help="Where the stack keeps its data and logs.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


@app.command()
def up(
    folder: Folder = DEFAULT_FOLDER,
    full_speed: Annotated[bool, typer.Option(help="Kafka as for a measurement: 1 GiB.")] = False,
    as_json: Json = False,
) -> None:
    """Start the stack, or find it running, and say where it is, without the password."""
    stack = Stack(folder, from_environment().local_cache)
    _with_progress(lambda progress: stack.up(progress, full_speed=full_speed))
    _show(stack.status(), as_json=as_json)
    if not as_json:
        typer.echo(f'for other programs, with the password: eval "$({_command("env", folder)})"')


@app.command()
def env(folder: Folder = DEFAULT_FOLDER, as_json: Json = False) -> None:
    """Print the settings that lead to the stack, password included: eval "$(wallet local env)".

    Exit code 1 if it is down.
    """
    addresses = Stack(folder).addresses_if_up()
    if addresses is None:
        raise StackDown(f"the local stack in {folder} is down: run `{_command('up', folder)}`")
    # Its number of partitions, too: with the addresses set, the default would be that of a real cluster.
    variables = {**addresses.environment, "WALLET_PARTITIONS": str(LOCAL_PARTITIONS)}
    if as_json:
        typer.echo(json.dumps(variables))
        return
    for name, value in variables.items():
        typer.echo(f"export {name}={shlex.quote(value)}")


@app.command()
def down(
    folder: Folder = DEFAULT_FOLDER,
    delete: Annotated[bool, typer.Option(help="Remove all data as well.")] = False,
) -> None:
    """Stop the stack; what it holds stays for the next `up`."""
    stack = Stack(folder)
    _with_progress(stack.down)
    if delete:
        stack.delete()


@app.command()
def status(folder: Folder = DEFAULT_FOLDER, as_json: Json = False) -> None:
    """Say which servers run and where. Exit code 1 if one of them does not."""
    servers = Stack(folder).status()
    _show(servers, as_json=as_json)
    raise typer.Exit(code=0 if all(server.pid for server in servers) else 1)


def _show(servers: list[ServerStatus], *, as_json: bool) -> None:
    """Where the servers are. What is shown is copied and logged, so the password is not in it."""
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
    """Show what is going on: a spinner on a terminal, log lines elsewhere; never on standard output."""
    console = Console(stderr=True)
    if not console.is_terminal:
        return work(log.info)
    with console.status("local stack") as spinner:
        return work(spinner.update)
