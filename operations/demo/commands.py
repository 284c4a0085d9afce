"""The command `wallet demo`."""

from typing import Annotated

import typer

from operations.cli.arguments import Json


def demo(
    count: Annotated[int, typer.Option(min=1_000, help="Number of records.")] = 100_000,
    wallets: Annotated[int, typer.Option(min=100, help="Number of wallets.")] = 5_000,
    keep: Annotated[
        bool,
        typer.Option("--keep", help="Keep what it made, and leave the pipeline running, with a console."),
    ] = False,
    stop: Annotated[bool, typer.Option("--stop", help="Only stop the pipeline that --keep left.")] = False,
    as_json: Json = False,
) -> None:
    """Run the whole pipeline on mixed input, kill its worker half-way, and check every balance."""
    from operations.demo import run as showing

    if stop:
        showing.stop(as_json=as_json)
        return
    raise typer.Exit(showing.run(count, wallets, keep=keep, as_json=as_json))
