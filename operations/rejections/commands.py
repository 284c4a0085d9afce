"""The commands of `wallet rejections`."""

from pathlib import Path
from typing import Annotated

import typer

from operations.cli.arguments import Execute, From, Json, To, group

app = group("Work with rejected records: list, show, resubmit.")

Reasons = Annotated[list[str] | None, typer.Option("--reason", help="Only this reason; repeatable.")]
Partition = Annotated[int | None, typer.Option(min=0, help="Only this partition of the input.")]
FromOffset = Annotated[int | None, typer.Option(min=0, help="Start at this offset of the input.")]
ToOffset = Annotated[int | None, typer.Option(min=0, help="Stop before this offset of the input.")]


@app.command("list")
def list_them(
    reason: Reasons = None,
    partition: Partition = None,
    from_offset: FromOffset = None,
    to_offset: ToOffset = None,
    from_time: From = None,
    to_time: To = None,
    key: Annotated[str | None, typer.Option(help="Only records with this key.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="List this many rejections; all are counted.")] = 50,
    as_json: Json = False,
) -> None:
    """List rejections, and count them by reason."""
    from operations.cli.context import briefly
    from operations.rejections.listing import Wanted, reasons_of, show_list

    wanted = Wanted(reasons_of(reason or ()), partition, from_offset, to_offset, from_time, to_time, key)
    show_list(briefly(), wanted, limit, as_json=as_json)


@app.command("show")
def show_one(
    partition: Annotated[int, typer.Argument(min=0, help="Partition of the input.")],
    offset: Annotated[int, typer.Argument(min=0, help="Offset in the input.")],
    as_json: Json = False,
) -> None:
    """Show all of one rejection: headers, bytes in hex, decoded where possible."""
    from operations.cli.context import briefly
    from operations.rejections import listing

    listing.show_one(briefly(), partition, offset, as_json=as_json)


@app.command("resubmit")
def resubmit_some(
    reason: Reasons = None,
    partition: Partition = None,
    from_offset: FromOffset = None,
    to_offset: ToOffset = None,
    offsets: Annotated[
        Path | None, typer.Option(help="Only the records in this file of PARTITION:OFFSET lines.")
    ] = None,
    execute: Execute = False,
    rate: Annotated[float, typer.Option(min=0.1, help="Most records per second.")] = 500.0,
    max_attempts: Annotated[int, typer.Option(min=1, help="Most resubmissions of one record.")] = 3,
    key_from_wallet: Annotated[
        bool, typer.Option("--key-from-wallet", help="Use the wallet id as key instead of the original key.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Send rejected records again as new records at the end of the input. A dry run without --execute."""
    from operations.cli.context import current
    from operations.rejections import resubmit
    from operations.rejections.listing import Wanted, reasons_of

    named = None if offsets is None else resubmit.named_in(offsets)
    wanted = Wanted(reasons_of(reason or ()), partition, from_offset, to_offset, named=named)
    options = resubmit.Options(execute, rate, max_attempts, key_from_wallet)
    resubmit.run(current(), wanted, options, as_json=as_json)
