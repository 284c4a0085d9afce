"""`wallet local`: a Kafka and a PostgreSQL on this machine, for trying things out and for tests."""

import shlex
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypeVar

import typer
from rich.console import Console

from config.errors import WalletError
from config.logs import EventLog, masked
from config.settings import from_environment
from local import DEFAULT_FOLDER
from local.server import Progress
from local.stack import ServerStatus, Stack
from operations.cli.context import LOCAL_PARTITIONS
from operations.cli.output import as_line

log = EventLog("operations.local")

T = TypeVar("T")


def up(folder: Path, *, full_speed: bool, as_json: bool) -> None:
    """Start the stack in this folder unless it is up, and print its servers."""
    stack = Stack(folder, from_environment().local_cache)
    _with_progress(lambda progress: stack.up(progress, full_speed=full_speed))
    _show(stack.status(), as_json=as_json)
    if not as_json:
        typer.echo(f'to set the variables for other programs: eval "$({_command("env", folder)})"')


def env(folder: Path, *, as_json: bool) -> None:
    """Print the variables that lead to this stack; raises WalletError if it is down."""
    addresses = Stack(folder).addresses_if_up()
    if addresses is None:
        raise WalletError(f"the local stack in {folder} is down: run `{_command('up', folder)}`")
    # The number of partitions, too: with addresses set, the default would be a real cluster's.
    variables = {**addresses.environment, "WALLET_PARTITIONS": str(LOCAL_PARTITIONS)}
    if as_json:
        typer.echo(as_line(variables))
        return
    for name, value in variables.items():
        typer.echo(f"export {name}={shlex.quote(value)}")


def down(folder: Path, *, delete: bool, as_json: bool) -> None:
    """Stop the stack and, if wanted, delete its data; as JSON it names what ran."""
    stack = Stack(folder)
    ran = [server.name for server in stack.status() if server.pid]
    _with_progress(stack.down)
    if delete:
        stack.delete()
    if as_json:
        typer.echo(as_line({"stopped": ran, "deleted": delete}))


def status(folder: Path, *, as_json: bool) -> bool:
    """Print the servers; returns whether all are up."""
    servers = Stack(folder).status()
    _show(servers, as_json=as_json)
    return all(server.pid for server in servers)


def _show(servers: list[ServerStatus], *, as_json: bool) -> None:
    """Print the servers. Output is copied and logged, so it does not contain the password."""
    hushed = [replace(server, address=server.address and masked(server.address)) for server in servers]
    if as_json:
        typer.echo(as_line({"servers": [asdict(server) for server in hushed]}))
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
        return work(lambda line: log.info("local_stack", step=line))
    with console.status("local stack") as spinner:
        return work(spinner.update)
