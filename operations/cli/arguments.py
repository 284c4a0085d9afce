"""Command lines, and arguments that several commands share."""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from typer.core import TyperCommand, TyperGroup

from config.errors import ConfigurationError
from config.text import is_text

#: UsageError: click's, or the copy of it that newer versions of typer bring.
_NotUnderstood = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[1])
#: Options as they were called before, by command: scripts have them, so they work, but nothing shows them any more.
FORMERLY = {
    "wallet demo": {"--run-on": "--keep"},
    "wallet rebuild diff": {"--show": "--limit"},
    "wallet replay": {"--from-time": "--from", "--to-time": "--to"},
    "wallet verify": {"--from": "--folder", "--show": "--limit", "--to-time": "--to"},
}


def run(app: typer.Typer, arguments: Sequence[str], name: str) -> int:
    """Run a command line and return its exit code.

    Raises ConfigurationError, in one line, where typer would draw a box around a usage error, and for arguments
    that are not UTF-8, since these can be neither looked up nor printed.
    """
    for argument in arguments:
        if not is_text(argument):
            raise ConfigurationError(
                f"argument {argument!a} is not UTF-8: write it in UTF-8, or rename the file"
            )
    try:
        code = app(args=[*arguments], prog_name=name, standalone_mode=False)
    except _NotUnderstood as error:
        told = " ".join(error.format_message().split()).replace("Value error, ", "").rstrip(".")
        where = error.ctx.command_path if error.ctx else name
        raise ConfigurationError(f"{told[:1].lower()}{told[1:]}; see `{where} --help`") from None
    return code if isinstance(code, int) else 0


def aware_time(option: str, text: str) -> datetime:
    """An aware time in UTC. A time without a zone is refused: it would mean something else on every machine.

    Raises ConfigurationError.
    """
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"{option} {text!r} is not a time: write 2026-11-22T10:00:00Z") from None
    if at.tzinfo is None:
        raise ConfigurationError(f"{option} {text!r} has no zone: add Z or an offset such as +01:00")
    try:
        return at.astimezone(UTC)
    except OverflowError:
        raise ConfigurationError(
            f"{option} {text!r} is not within the years 1 to 9999 in UTC: use a time within them"
        ) from None


def month_of(option: str, text: str) -> date:
    """The first day of a month written as YYYY-MM."""
    try:
        return datetime.strptime(text, "%Y-%m").date()  # noqa: DTZ007 - a month has no zone
    except ValueError:
        raise ConfigurationError(f"{option} {text!r} is not a month: write 2026-08") from None


def refuse_two_outputs(file: Path, *, as_json: bool) -> None:
    """Raise ConfigurationError if both the file and the object of --json would be standard output."""
    if as_json and str(file) == "-":
        raise ConfigurationError("standard output cannot take the file and --json's object: name a file")


def partitions_of(count: int, *wanted: int | None) -> list[int]:
    """The partitions that `--partition` names, of a pipeline with `count`; all if it names none.

    Raises ConfigurationError for a partition that does not exist.
    """
    named = sorted({at for at in wanted if at is not None})
    if named and named[-1] >= count:
        raise ConfigurationError(f"--partition {named[-1]}: the pipeline has partitions 0 to {count - 1}")
    return named or [*range(count)]


class Group(TyperGroup):
    """A group that shows its help if no command is named, with exit code 0."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As typer does, but nothing at all is a question for help, not a mistake."""
        return super().parse_args(ctx, args or ([] if ctx.resilient_parsing else ["--help"]))


class Renamed(TyperCommand):
    """A command whose options had other names: what FORMERLY has is read as the present name, in messages, too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As typer does, with the present names."""
        present = FORMERLY.get(ctx.command_path, {})
        words = [word.partition("=") for word in args]
        return super().parse_args(
            ctx, [present.get(name, name) + sign + value for name, sign, value in words]
        )


def group(help_: str) -> typer.Typer:
    """A group of commands within `wallet`."""
    return typer.Typer(help=help_, cls=Group, add_completion=False)


def read_by(read: Callable[[str, str], object], option: str, help_: str, metavar: str = "<str>") -> Any:
    """An option whose value `read` makes of its name and its text."""

    def parser(text: str) -> object:
        return read(option, text)

    return typer.Option(option, help=help_, metavar=metavar, parser=parser)


Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Execute = Annotated[bool, typer.Option("--execute", help="Do it, not only a dry run.")]
Wallet = Annotated[str, typer.Argument(help="The wallet's id.")]
At = Annotated[datetime | None, read_by(aware_time, "--at", "At this time, by recorded_at; ISO 8601.")]
EffectiveAt = Annotated[
    datetime | None, read_by(aware_time, "--effective-at", "At this time, by occurred_at; ISO 8601.")
]
From = Annotated[datetime | None, read_by(aware_time, "--from", "Start at this time; ISO 8601.")]
To = Annotated[datetime | None, read_by(aware_time, "--to", "Stop before this time; ISO 8601.")]
