"""`wallet send`: the transactions of a file to Kafka; what is bad is told by its line and left out."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import typer

from config.cluster import check
from config.errors import ConfigurationError
from config.history import refuse_while_open
from config.settings import Settings
from operations.lines import Form, Line, parse
from schemas.producer import InvalidTransaction, TransactionProducer, Undelivered
from schemas.records import Transaction

#: Exit code of `wallet send` when a line was bad or not delivered (docs/commands.md).
BAD_LINES = 6

_FORMS: dict[str, Form] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv"}

Tell = Callable[[int, str], None]


def send_file(path: Path, form: Form | None, settings: Settings, *, dry_run: bool = False) -> tuple[int, int]:
    """Send what is good, tell what is not on stderr; how many lines were good and how many bad.

    Good lines are counted once Kafka has confirmed them, or, in a dry run, once they were read.
    """
    form = form or _form(path)
    bad: list[int] = []

    def tell(number: int, reason: str) -> None:
        bad.append(number)
        typer.echo(f"line {number}: {reason}", err=True)

    with _opened(path) as source:
        good_ones = _good_ones(parse(source, form), tell)
        good = sum(1 for _ in good_ones) if dry_run else _deliver(settings, good_ones, tell)
    return good, len(bad)


def _deliver(settings: Settings, lines: Iterator[tuple[int, Transaction]], tell: Tell) -> int:
    """Send every line and return how many were confirmed; those that were not are told."""
    check(settings)
    refuse_while_open(settings)
    sent = failed = 0
    try:
        with TransactionProducer(settings) as producer:
            for number, transaction in lines:
                try:
                    producer.send(transaction, reference=str(number))
                    sent += 1
                except InvalidTransaction as error:
                    tell(number, str(error))
    except Undelivered as error:
        failed = len(error.failures)
        for failure in error.failures:
            tell(int(failure.reference), f"not delivered: {failure.error}")
    return sent - failed


def _good_ones(lines: Iterator[Line], tell: Tell) -> Iterator[tuple[int, Transaction]]:
    """The lines that hold a transaction; the others are told."""
    for line in lines:
        if isinstance(line.read, Transaction):
            yield line.number, line.read
        else:
            tell(line.number, line.read)


def _opened(path: Path) -> contextlib.AbstractContextManager[BinaryIO]:
    if str(path) == "-":
        return contextlib.nullcontext(sys.stdin.buffer)
    try:
        return path.open("rb")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None


def _form(path: Path) -> Form:
    """The form by the file's ending; standard input is JSON Lines."""
    if str(path) == "-":
        return "jsonl"
    form = _FORMS.get(path.suffix.lower())
    if form is None:
        raise ConfigurationError(
            f"{path} ends neither in .jsonl nor in .csv: say --format jsonl or --format csv"
        )
    return form
