"""The `wallet` command: its commands in the sections of docs/commands.md.

Each command imports what it needs when it runs: `--help` is quick.
"""

import errno
import io
import os
import sys
import traceback
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

import typer

from config import logs
from config.errors import BUG, INTERRUPTED, READER_GONE, ConfigurationError, WalletError
from operations.archive.commands import app as archive
from operations.cli.arguments import Group, Renamed, run
from operations.demo.commands import demo
from operations.export.commands import app as export
from operations.looking.commands import balance, console, inspect, statement, status
from operations.rebuild.commands import app as rebuild
from operations.rejections.commands import app as rejections
from operations.replay.commands import replay
from operations.running.commands import sink, worker
from operations.sending.commands import generate, import_, send
from operations.setup.commands import init, local
from operations.verify.commands import verify

#: The sections, and the commands and groups of each.
PANELS: dict[str, dict[str, Callable[..., None] | typer.Typer]] = {
    "Setting up": {"local": local, "init": init},
    "Sending": {"send": send, "import": import_, "generate": generate},
    "Running": {"worker": worker, "sink": sink},
    "Looking": {
        "console": console,
        "status": status,
        "balance": balance,
        "statement": statement,
        "inspect": inspect,
    },
    "Old months": {"archive": archive},
    "Replaying": {"replay": replay},
    "Auditing": {"verify": verify, "rejections": rejections, "export": export},
    "Rebuilding": {"rebuild": rebuild},
    "Demo": {"demo": demo},
}
#: Errors of a full or read-only disk: they do not name the file.
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


class Sections(Group):
    """`wallet`, whose help shows the sections in their order; typer's own puts groups behind commands."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the signature is click's
        """All names, section by section."""
        return [name for commands in PANELS.values() for name in commands]


app = typer.Typer(
    help="A wallet ledger on an append-only log of events: Kafka, Faust and PostgreSQL.",
    epilog="Configure it with WALLET_* variables (docs/settings.md). Exit codes: docs/commands.md.",
    pretty_exceptions_enable=False,
    cls=Sections,
)
for _panel, _commands in PANELS.items():
    for _name, _command in _commands.items():
        if isinstance(_command, typer.Typer):
            app.add_typer(_command, name=_name, rich_help_panel=_panel)
        else:
            app.command(_name, rich_help_panel=_panel, cls=Renamed)(_command)


def main() -> None:
    """Run the command line: an error that the user can fix is one line on stderr and an exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # escape what the terminal's encoding cannot show
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = run(app, sys.argv[1:], "wallet")
        sys.stdout.flush()  # here, so that a closed pipe is handled below
        sys.exit(code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        _end_unread()
    except SystemExit as ending:
        # typer and rich end a program whose output is a closed pipe themselves, with 1.
        if isinstance(ending.__context__, BrokenPipeError):
            _end_unread()
        raise
    except Exception as failure:  # noqa: BLE001 - Python's exit code for a bug would be an answer
        error = failure if isinstance(failure, WalletError) else _of_the_surroundings(failure)
        if error is None:
            sys.stderr.write(logs.masked(traceback.format_exc()))
            sys.exit(BUG)
        from operations.cli.context import remedy

        typer.echo(f"wallet: {logs.masked(str(error))}{remedy(error)}", err=True)
        sys.exit(error.exit_code)


def _end_unread() -> NoReturn:
    """End without a word, as a Unix tool that gets SIGPIPE; the interpreter must not flush the rest at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(READER_GONE)


def _of_the_surroundings(failure: Exception) -> WalletError | None:
    """A file or server error that no command has handled, as one of ours; None for a bug."""
    if isinstance(failure, OSError) and (failure.filename or failure.errno in FULL):
        what = failure.filename or "cannot write"
        return ConfigurationError(f"{what}: {failure.strerror}")
    from config.errors import NotReachable
    from sinks import postgres
    from topics.causes import because, error_of

    if (error := error_of(failure)) is not None:
        return because(error, NotReachable(f"Kafka: {error.str()}"))
    return postgres.lost(failure)


def _tell_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"wallet {version('wallet-ledger')}")
        raise typer.Exit


@app.callback()
def _every_command(
    _version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", is_eager=True, callback=_tell_version),
    ] = False,
) -> None:
    logs.configure()
