"""The commands that look: `wallet console`, `status`, `balance`, `statement` and `inspect`."""

from typing import Annotated

import typer

from operations.cli.arguments import At, EffectiveAt, From, Json, To, Wallet


def console(
    openapi: Annotated[bool, typer.Option("--openapi", help="Print the OpenAPI document and exit.")] = False,
) -> None:
    """Serve the HTTP API and the console's pages until SIGTERM or Ctrl-C. You can run several."""
    from console import app as console_app
    from console import serve
    from operations.cli.context import current

    if openapi:
        import json

        document = console_app.openapi(current(servers=False))
        typer.echo(json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True))
        return
    raise typer.Exit(serve.run(current()))


def status(
    watch: Annotated[bool, typer.Option("--watch", help="Repeat until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between updates with --watch.")] = 2.0,
    as_json: Json = False,
) -> None:
    """Show position and lag of every partition at the worker and each sink, and rejections by reason."""
    from operations.cli.context import briefly
    from operations.looking.status import show

    show(briefly(), every_s=every if watch else None, as_json=as_json)


def balance(
    wallet: Wallet,
    at: At = None,
    effective_at: EffectiveAt = None,
    as_json: Json = False,
) -> None:
    """Show a wallet's balance, now or at a time. Exit code 1 if the wallet has no entry."""
    from operations.cli.context import briefly
    from operations.looking import balances as reading

    reading.show_balance(briefly(), wallet, at, effective_at, as_json=as_json)


def statement(
    wallet: Wallet,
    begin: From = None,
    end: To = None,
    as_json: Json = False,
) -> None:
    """List a wallet's entries with the balance after each. --json prints JSON Lines."""
    from operations.cli.context import briefly
    from operations.looking import balances as reading

    reading.show_statement(briefly(), wallet, begin, end, as_json=as_json)


def inspect(
    wallet: Wallet,
    at: At = None,
    at_offset: Annotated[int | None, typer.Option(min=0, help="After this record of the input.")] = None,
    effective_at: EffectiveAt = None,
    entries: Annotated[
        int, typer.Option(min=0, max=10_000, help="Also show this many of the newest entries.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Show a wallet at any offset or time, from the topics alone. Exit code 1 if it has no entry."""
    from operations.cli.context import briefly
    from operations.looking.inspect import Moment, look, show

    place = Moment(at, at_offset, effective_at)
    found = look(briefly(), wallet, place, max(1, entries))
    show(found, place, entries, as_json=as_json)
