"""`wallet send`: send the transactions of a file to Kafka; report bad lines by number and leave them out.

A file is read to its end first, so that nothing is sent from one that turns out to have another format. Standard
input is sent as it comes, since it may have no end.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import typer

from config.settings import Settings
from operations.cli.output import SHOWN, as_line
from operations.sending.delivery import may_send
from operations.sending.files.file import Form, found
from operations.sending.files.mapping import load
from operations.sending.files.shape import BadLine, Row
from operations.sending.files.source import STDIN
from operations.sending.files.temporary import Spool
from operations.sending.lines import TRANSACTION, to_json, to_transaction
from schemas.codec import decode_transaction, encode_transaction, frame
from schemas.producer import InvalidTransaction, TransactionProducer, Undelivered, encoded
from schemas.records import Transaction
from schemas.versions import FIXED_IDS

Tell = Callable[[int, str], None]
#: A line's number, and its transaction.
Good = tuple[int, Transaction]


@dataclass
class Sent:
    """Lines by result: good ones once Kafka has confirmed them or, in a dry run, once they are read."""

    good: int
    bad: int
    #: In a dry run the first good lines, as they would be sent.
    first: list[dict[str, object]]


def send_file(
    path: Path,
    form: Form | None,
    settings: Settings,
    *,
    mapping: Path | None = None,
    dry_run: bool = False,
    as_json: bool = False,
) -> Sent:
    """Send good lines and report bad ones on stderr; in a dry run show the first good ones on stdout."""
    [file] = found([path], form, TRANSACTION, load(mapping) if mapping else None)
    bad: list[int] = []

    def tell(number: int, reason: str) -> None:
        bad.append(number)
        typer.echo(f"line {number}: {reason}", err=True)

    good_ones = _good_ones(file.rows(), tell)
    first: list[dict[str, object]] = []
    if dry_run:
        good_ones = _fitting(good_ones, settings.max_record_bytes, tell)
        first = [to_json(transaction) for _, transaction in islice(good_ones, SHOWN)]
        good = len(first) + sum(1 for _ in good_ones)
    elif path == STDIN:
        good = _deliver(settings, good_ones, tell)
    else:
        with closing(Spool()) as spool:
            for number, transaction in good_ones:
                spool.add(number, b"", encode_transaction(transaction))
            kept = ((number, decode_transaction(body)) for number, _, body in spool.lines())
            good = _deliver(settings, kept, tell)
    sent = Sent(good, len(bad), first)
    _show(sent, dry_run=dry_run, as_json=as_json)
    return sent


def _show(sent: Sent, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        typer.echo(as_line({"dry_run": dry_run} | asdict(sent)))
        return
    for one in sent.first:
        typer.echo(as_line(one))
    typer.echo(f"{sent.good} lines {'are good' if dry_run else 'sent'}, {sent.bad} bad", err=True)


def _deliver(settings: Settings, lines: Iterator[Good], tell: Tell) -> int:
    """Send every line and return how many were confirmed; reports the others."""
    settings, _ = may_send(settings)
    producer = TransactionProducer(settings)
    try:
        with producer:
            for number, transaction in lines:
                try:
                    producer.send(transaction, reference=str(number))
                except InvalidTransaction as error:
                    tell(number, str(error))
                except Undelivered:
                    tell(number, "not sent, nor is any line after it: Kafka does not confirm those before it")
                    raise
    except Undelivered as error:
        for failure in error.failures:
            tell(int(failure.reference), f"not delivered: {failure.error}")
    return producer.confirmed


def _fitting(lines: Iterator[Good], most_bytes: int, tell: Tell) -> Iterator[Good]:
    """The lines that a producer would take; reports the others as it does."""
    for number, transaction in lines:
        try:
            encoded(transaction, frame(FIXED_IDS.transaction), most_bytes)
        except InvalidTransaction as error:
            tell(number, str(error))
        else:
            yield number, transaction


def _good_ones(rows: Iterator[Row], tell: Tell) -> Iterator[Good]:
    """The lines that hold a transaction; reports the others."""
    for number, row in rows:
        if isinstance(row, str):
            tell(number, row)
            continue
        try:
            transaction = to_transaction(row)
        except BadLine as bad:
            tell(number, str(bad))
        else:
            yield number, transaction
