"""The `wallet` command. Each command imports what it needs when it runs, to keep `--help` fast."""

import errno
import io
import os
import signal
import sys
import threading
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from config import logs
from config.errors import BAD_LINES, INTERRUPTED, ConfigurationError, WalletError
from operations.cli.arguments import (
    At,
    EffectiveAt,
    Execute,
    From,
    Json,
    Mounted,
    To,
    Wallet,
    aware_time,
    read_by,
    run,
)

app = typer.Typer(
    help="A wallet ledger on an append-only log of events: Kafka, Faust and PostgreSQL.",
    epilog="Configure it with WALLET_* variables (docs/settings.md). Exit codes: docs/commands.md.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    cls=Mounted,
)

Share = Annotated[float, typer.Option(min=0.0, max=1.0)]
FileForm = Literal["jsonl", "csv", "parquet"]
MAP_HELP = "A TOML or JSON file that maps your columns to ours: docs/files.md."
SinkName = Literal["ledger", "snapshots", "rejections", "all"]
#: Errors of a full or read-only disk: they do not name the file.
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
#: What `all` means. The archive moves tables, so you have to name it.
SINKS = ("ledger", "snapshots", "rejections")


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
        # The reader has closed the pipe, as `head` does. Do not let the interpreter flush the rest at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)  # typer exits with the same code when it meets the closed pipe first
    except Exception as failure:
        error = failure if isinstance(failure, WalletError) else _of_the_surroundings(failure)
        if error is None:
            raise
        from operations.cli.context import remedy

        typer.echo(f"wallet: {logs.masked(str(error))}{remedy(error)}", err=True)
        sys.exit(error.exit_code)


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


def _group(name: str, help_: str) -> None:
    """Declare a group for the list of commands; operations/cli/arguments.py loads its module."""
    app.command(name, help=help_)(lambda: None)


_group("local", "Run a real Kafka and PostgreSQL on this machine: up, down, status, env.")


@app.command()
def init(
    history: Annotated[
        bool,
        typer.Option("--history", help="Open the input for `wallet import`: records keep their own dates."),
    ] = False,
    upstream: Annotated[
        bool, typer.Option("--open", help="Open the input to live records: the broker sets their time.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Confirm a change that cannot be undone.")] = False,
    as_json: Json = False,
) -> None:
    """Create the topics, pipeline record, schemas, tables and roles. Running it again changes nothing."""
    from operations.cli.context import current
    from operations.setup import init as initialising

    if history and upstream:
        raise ConfigurationError("use either --history or --open, not both")
    times: initialising.Times = "history" if history else "upstream" if upstream else "as they are"
    initialising.show(initialising.initialise(current(), times, agreed=yes), as_json=as_json)


@app.command()
def generate(
    count: Annotated[int, typer.Option(min=1, help="Number of records.")] = 10_000,
    rate: Annotated[float | None, typer.Option(min=0.1, help="Most records per second.")] = None,
    wallets: Annotated[int, typer.Option(min=1, help="Number of wallets.")] = 1_000,
    skew: Annotated[
        float, typer.Option(min=0.0, max=5.0, help="How unevenly wallets are used; 0: evenly, 1: Zipf's law.")
    ] = 0.8,
    transfers: Annotated[float, typer.Option(min=0, max=1, help="Share that are legs of transfers.")] = 0.2,
    duplicates: Annotated[float, typer.Option(min=0, max=1, help="Share that repeat a record.")] = 0.02,
    bad: Annotated[float, typer.Option(min=0, max=1, help="Share to be rejected, for all reasons.")] = 0.0,
    seed: Annotated[int | None, typer.Option(help="The same seed makes the same records.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write JSON Lines to this file (- for stdout) instead of Kafka.")
    ] = None,
) -> None:
    """Make synthetic transactions and send them with confirmed delivery, or write them as JSON Lines with --out."""
    import random

    from operations.sending import generating
    from operations.sending.generator import Mix

    mix = Mix(
        wallets=wallets,
        skew=skew,
        transfers=transfers,
        duplicates=duplicates,
        bad=bad,
        seed=random.SystemRandom().randrange(2**32) if seed is None else seed,
    )
    if out is not None:
        generating.to_file(out, count, mix)
        return
    from operations.cli.context import current

    generating.to_kafka(current(), count, mix, rate)


@app.command()
def send(
    file: Annotated[
        Path, typer.Argument(help="JSON Lines, CSV or Parquet; - for standard input.", metavar="FILE")
    ],
    form: Annotated[FileForm | None, typer.Option("--format", help="Default: by the file's name.")] = None,
    mapping: Annotated[Path | None, typer.Option("--map", help=MAP_HELP)] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only check the lines and show the first ones as they would be sent."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Send the transactions in a file. Good lines are delivered, bad ones are reported with their number.

    Exit code 6 if any line was bad or not delivered.
    """
    from operations.cli.context import current
    from operations.sending import send as sending

    settings = current(servers=not dry_run)
    sent = sending.send_file(file, form, settings, mapping=mapping, dry_run=dry_run, as_json=as_json)
    if sent.bad:
        raise typer.Exit(BAD_LINES)


@app.command("import")
def import_(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="JSON Lines, CSV or Parquet, oldest first.", metavar="FILE"),
    ] = None,
    form: Annotated[
        FileForm | None, typer.Option("--format", help="Format of the files. Default: by their names.")
    ] = None,
    mapping: Annotated[Path | None, typer.Option("--map", help=MAP_HELP)] = None,
    opening: Annotated[Path | None, typer.Option(help="A file of opening balances, imported first.")] = None,
    check: Annotated[
        Path | None, typer.Option(help="A file of balances to compare once everything is written.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only check the lines and show the first ones as they would be sent."),
    ] = False,
    earliest: Annotated[
        str | None, typer.Option(help="Earliest date to accept, YYYY-MM-DD.", show_default="2000-01-01")
    ] = None,
    leave_out_bad: Annotated[
        bool, typer.Option("--leave-out-bad", help="Send the good lines even if others are bad.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Load an existing ledger with its own dates, exactly once. If it is interrupted, run it again to continue.

    Exit code 6 if any line was bad, 8 if balances differ.
    """
    from operations.cli.context import current
    from operations.sending.importing import run as importing

    options = importing.Options(
        tuple(files or ()),
        form,
        opening,
        check,
        dry_run,
        leave_out_bad,
        mapping,
        importing.first_day(earliest),
    )
    raise typer.Exit(importing.run(current(servers=not dry_run), options, as_json=as_json))


Processes = Annotated[
    int, typer.Option(min=1, max=64, help="Run this many processes, which start, stop and end together.")
]


@app.command()
def worker(processes: Processes = 1) -> None:
    """Run a worker until SIGTERM or Ctrl-C. Start several to share the partitions."""
    from operations.cli.context import current

    if processes > 1:
        from operations.cli.processes import run

        raise typer.Exit(run(processes, current(), "worker"))
    from streams import worker as streaming
    from vitals import spans

    settings = current()
    with spans.exported("worker", settings.prefix):
        raise typer.Exit(streaming.run(settings))


@app.command()
def sink(
    name: Annotated[
        Literal["ledger", "snapshots", "rejections", "archive", "all"],
        typer.Argument(help="Tables to fill. archive seals and moves old months; all does not include it."),
    ] = "all",
    processes: Processes = 1,
) -> None:
    """Write topics to PostgreSQL until SIGTERM or Ctrl-C. Start several to share the partitions."""
    from operations.cli.context import current

    if processes > 1:
        from operations.cli.processes import run

        raise typer.Exit(run(processes, current(), "sink", name))
    from sinks import consumer
    from vitals import spans
    from vitals.ending import END_S, end_within, ended_by

    stop = threading.Event()
    signals: list[int] = []

    def told_to_stop(number: int, _: object) -> None:
        signals.append(number)
        stop.set()
        end_within(END_S, lambda: None, ended_by(signals))

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, told_to_stop)
    settings = current()
    with spans.exported("sink", settings.prefix):
        consumer.run(settings, SINKS if name == "all" else (name,), stop, _open_input)
    raise typer.Exit(ended_by(signals))


def _open_input(*of: Any) -> Any:
    """How sinks read the input; imported late, since aiokafka is slow to load and most commands do without."""
    from topics.incoming import Incoming

    return Incoming(*of)


@app.command()
def status(
    watch: Annotated[bool, typer.Option("--watch", help="Repeat until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between updates with --watch.")] = 2.0,
    as_json: Json = False,
) -> None:
    """Show position and lag of every partition at the worker and each sink, and rejections by reason."""
    from operations.cli.context import briefly
    from operations.looking import status as looking

    looking.show(briefly(), every_s=every if watch else None, as_json=as_json)


@app.command()
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


@app.command()
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


@app.command()
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


_group("rejections", "Work with rejected records: list, show, resubmit.")


_group("export", "Write files for others: topics and sealed months as Parquet, statements as CSV or journal.")


_group("rebuild", "Rebuild the ledger next to the live one: start, status, diff, switch, discard.")


@app.command()
def verify(
    partition: Annotated[int | None, typer.Option(min=0, help="Only this partition.")] = None,
    to_offset: Annotated[
        int | None, typer.Option(min=0, help="Stop before this offset of the input.")
    ] = None,
    to_time: Annotated[
        datetime | None, read_by(aware_time, "--to-time", "Stop before this time of the input; ISO 8601.")
    ] = None,
    since: Annotated[
        Path | None, typer.Option(help="Continue from the verified point in this folder.")
    ] = None,
    save: Annotated[Path | None, typer.Option(help="Save a verified point here if nothing differs.")] = None,
    no_postgres: Annotated[bool, typer.Option("--no-postgres", help="Only check Kafka.")] = False,
    show: Annotated[int, typer.Option(min=0, help="Show this many differences; all are counted.")] = 20,
    jobs: Annotated[int, typer.Option(min=1, help="Number of processes to share the partitions.")] = 1,
    export: Annotated[Path | None, typer.Option(help="Also write the report to this JSON file.")] = None,
    from_: Annotated[
        Path | None,
        typer.Option("--from", help="Verify a folder that `wallet export topics` wrote, without servers."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Audit everything the pipeline wrote against its input. It only reads.

    Exit code 8 if anything differs.
    """
    from operations.cli.context import current
    from operations.verify import offline
    from operations.verify import run as auditing
    from operations.verify.report import show as show_report
    from operations.verify.run import Options

    options = Options(partition, to_offset, to_time, since, save, not no_postgres, show, jobs, export)
    report = auditing.run(current(), options) if from_ is None else offline.run(from_, options)
    raise typer.Exit(show_report(report, as_json=as_json))


@app.command("inspect")
def inspect_(
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
    from operations.looking import inspect

    place = inspect.Place(at, at_offset, effective_at)
    found = inspect.look(briefly(), wallet, place, max(1, entries))
    inspect.show(found, place, entries, as_json=as_json)


@app.command()
def replay(
    name: Annotated[SinkName, typer.Argument(help="The sink to replay.")] = "all",
    partition: Annotated[int | None, typer.Option(min=0, help="Only this partition.")] = None,
    from_offset: Annotated[int | None, typer.Option(min=0, help="Start at this offset of the topic.")] = None,
    from_time: Annotated[
        datetime | None, read_by(aware_time, "--from-time", "Start at this time of the topic; ISO 8601.")
    ] = None,
    back: Annotated[str | None, typer.Option(help="Start this long ago: 36h, 7d, 1d12h.")] = None,
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="Start at the first record.")
    ] = False,
    to_offset: Annotated[int | None, typer.Option(min=0, help="Stop before this offset.")] = None,
    to_time: Annotated[
        datetime | None, read_by(aware_time, "--to-time", "Stop before this time; ISO 8601.")
    ] = None,
    execute: Execute = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an unfinished replay.")] = False,
    abandon: Annotated[bool, typer.Option("--abandon", help="Forget an unfinished replay.")] = False,
    as_json: Json = False,
) -> None:
    """Read a sink's topic again: insert missing rows, compare the others. A dry run without --execute."""
    from operations.cli.context import current
    from operations.replay import run as replaying
    from operations.replay.ranges import Range, duration

    since = duration("--back", back)
    wanted = Range(partition, from_offset, from_time, since, from_beginning, to_offset, to_time)
    how = replaying.How(execute, resume, abandon)
    names = SINKS if name == "all" else (name,)
    raise typer.Exit(replaying.run(current(), names, wanted, how, as_json=as_json))


_group("archive", "Seal and archive old months: status, run, verify.")


@app.command()
def demo(
    count: Annotated[int, typer.Option(min=1_000, help="Number of records.")] = 100_000,
    wallets: Annotated[int, typer.Option(min=100, help="Number of wallets.")] = 5_000,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the topics and the database afterwards.")
    ] = False,
    run_on: Annotated[
        bool, typer.Option("--run-on", help="Keep them, and leave the pipeline running, with a console.")
    ] = False,
    stop: Annotated[bool, typer.Option("--stop", help="Only stop the pipeline that --run-on left.")] = False,
) -> None:
    """Run the whole pipeline on mixed input, kill its worker half-way, and check every balance."""
    from operations.demo import run as showing

    if stop:
        showing.stop()
        return
    raise typer.Exit(showing.run(count, wallets, keep=keep, run_on=run_on))
