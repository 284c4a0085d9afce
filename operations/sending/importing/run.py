"""`wallet import`: load an existing ledger with its own dates through the same pipeline (DESIGN section 3).

It reads everything before it sends anything: records in the input cannot be taken back, and a line that is left out
cannot be sent later with its date.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime
from datetime import time as clock
from itertools import islice
from pathlib import Path

import typer
from confluent_kafka.admin import AdminClient

from config.errors import BAD_LINES, DIFFERENCES, BadLines, ConfigurationError, Refused
from config.settings import Settings
from operations.cli.output import SHOWN, as_line, progress
from operations.sending.files import file as import_files
from operations.sending.files.mapping import Mapping, load
from operations.sending.files.shape import Shape
from operations.sending.files.source import STDIN, refuse_what_is_read_once
from operations.sending.files.temporary import Spool
from operations.sending.importing import check as import_check
from operations.sending.importing.lines import (
    EARLIEST,
    OPENING,
    RECORDED,
    Dated,
    Line,
    Opening,
    Part,
    Read,
    Reader,
    iso,
    keep,
    kept,
    recorded_transaction,
)
from operations.sending.importing.producer import (
    BATCH_BYTES,
    BATCH_LINES,
    ImportProducer,
    Progress,
    read_progress,
)
from operations.sending.lines import to_json
from operations.setup import init as history
from schemas.codec import decode_transaction
from schemas.records import EPOCH
from topics import retention, rights
from topics.cluster import check, describe, quiet_admin
from topics.history import is_open
from topics.names import Topics

#: Lines between two updates of the progress.
STRIDE = 1_000


@dataclass(frozen=True)
class Options:
    """What to import and how."""

    files: tuple[Path, ...] = ()
    form: import_files.Form | None = None
    opening: Path | None = None
    check: Path | None = None
    dry_run: bool = False
    leave_out_bad: bool = False
    mapping: Path | None = None
    earliest: datetime = EARLIEST


@dataclass
class Counts:
    """Lines by result."""

    good: int = 0
    bad: int = 0
    nothing: int = 0

    @property
    def all(self) -> int:
        """All lines."""
        return self.good + self.bad + self.nothing

    def add(self, read: Read) -> None:
        """Count one more."""
        if isinstance(read, Dated):
            self.good += 1
        elif read is None:
            self.nothing += 1
        else:
            self.bad += 1


def run(settings: Settings, options: Options, *, as_json: bool = False) -> int:
    """Import, check, or both, and print; returns the exit code. Raises a WalletError if that is not possible."""
    if not (options.files or options.opening or options.check):
        raise ConfigurationError("nothing to import: name files, --opening or --check")
    known = _files([options.check] if options.check else [], None, import_check.KNOWN)
    # Check this file before anything is sent, since that cannot be taken back.
    counts = [import_check.lines_of(file, options.earliest) for file in known]
    one, compared = _Import(settings, options), None
    if options.files or options.opening:
        one.run()
    if not as_json:
        for first in one.first:
            typer.echo(as_line(first))
    if not options.dry_run:
        for file, lines in zip(known, counts, strict=True):
            compared = import_check.run(settings, file, lines, options.earliest, as_json=as_json)
    if as_json:
        told = {
            "dry_run": options.dry_run,
            "good": one.counts.good,
            "bad": one.counts.bad,
            "zeros": one.counts.nothing,
            "done_before": one.done_before,
            "first": one.first,
            "balances": compared and asdict(compared),
        }
        typer.echo(as_line(told))
    if compared and compared.differ:
        return DIFFERENCES
    return BAD_LINES if one.counts.bad else 0


def first_day(text: str | None) -> datetime:
    """The day of `--earliest`, in UTC; raises ConfigurationError."""
    if text is None:
        return EARLIEST
    try:
        day = datetime.combine(date.fromisoformat(text), clock.min, UTC)
    except ValueError:
        raise ConfigurationError(f"--earliest {text!r} is not a date: write 1998-01-01") from None
    if day <= EPOCH:
        raise ConfigurationError(f"--earliest {text!r} is too early: Kafka has no times before 1970-01-02")
    return day


def _files(
    paths: Sequence[Path], form: import_files.Form | None, shape: Shape, mapping: Mapping | None = None
) -> list[import_files.File]:
    """Files that can be read twice, unlike a pipe; raises ConfigurationError."""
    if STDIN in paths:
        raise ConfigurationError("an import reads its files twice: name a file, not -")
    files = import_files.found(paths, form, shape, mapping)
    for file in files:
        refuse_what_is_read_once(file.path)
    return files


class _Import:
    """One import, step by step."""

    def __init__(self, settings: Settings, options: Options) -> None:
        self._settings, self._options = settings, options
        self._openings = [options.opening] if options.opening else []
        mapping = load(options.mapping) if options.mapping else None
        self._files = _files(self._openings, None, OPENING)
        self._files += _files(options.files, options.form, RECORDED, mapping)
        self.counts = Counts()
        #: Lines that earlier runs had done, and in a dry run the first good lines, as they would be sent.
        self.done_before, self.first = 0, list[dict[str, object]]()

    def run(self) -> None:
        """1. Digest the files, 2. refuse other files, 3. fence other imports, 4. read progress, 5. check, 6. send."""
        with progress("reading bytes", import_files.size(self._files)) as advance:
            digest, lines_about = import_files.contents(self._files, advance, self._reading())
        begun_ms = int(time.time() * 1_000)
        if self._options.dry_run:
            self._read_all(begun_ms, lines_about)
            self._tell("would be sent")
            return
        pipeline = check(self._settings)
        self._settings, schema_id = pipeline.rule(self._settings), pipeline.transaction_schema_id
        client = quiet_admin(self._settings)
        rights.require(
            self._settings, {Topics.of(self._settings).transactions: rights.READ | rights.WRITE}, {}
        )
        refuse_closed(client, self._settings)
        # Before we fence anybody: an import of other files may be running.
        self._done_before(digest)
        with closing(ImportProducer(self._settings, schema_id)) as producer:
            producer.open()
            before = self._done_before(digest)
            if before:
                self._resume(producer, before)
                return
            with closing(Spool()) as spool:
                self._read_all(begun_ms, lines_about, (client, spool))
                self._refuse_bad()
                self._send(producer, Progress(digest, self.counts.all, begun_ms), kept(spool))
        self._tell("sent")

    def _reading(self) -> str:
        """What else decides which lines are good, apart from the files; empty by default."""
        mapping = self._options.mapping and load(self._options.mapping).model_dump_json(exclude_unset=True)
        earliest = self._options.earliest.isoformat() if self._options.earliest != EARLIEST else ""
        return f"{mapping or ''}{earliest}"

    def _done_before(self, digest: str) -> Progress | None:
        """The progress of these files; raises Refused while another import is unfinished."""
        newest = read_progress(self._settings)
        if newest is None or newest.digest == digest:
            return newest
        if not newest.finished:
            raise Refused(
                f"an import of other files is unfinished at line {newest.done} of {newest.lines}: finish it first, "
                "with the same files in the same order, the same --map and the same --earliest"
            )
        return None

    def _resume(self, producer: ImportProducer, before: Progress) -> None:
        self.done_before = before.done
        if before.finished:
            typer.echo(f"all {before.lines} lines are already imported: nothing to do", err=True)
            return
        typer.echo(f"continuing at line {before.done} of {before.lines}", err=True)
        self._send(producer, before, self._rest(before))
        self._tell("sent, including earlier runs")

    # -- reading

    def _lines(self, begun_ms: int) -> Iterator[Line]:
        with closing(Opening(self._settings)) as opening:
            parts = [
                Part(file, opening if number < len(self._openings) else recorded_transaction)
                for number, file in enumerate(self._files)
            ]
            yield from Reader(
                parts, self._settings.max_record_bytes, begun_ms, self._options.earliest
            ).lines()

    def _read_all(
        self, begun_ms: int, lines_about: int, to_send: tuple[AdminClient, Spool] | None = None
    ) -> None:
        """Read every line and report bad ones; keep the lines if they are to be sent.

        Compares the first good line with the input at once, not after reading everything.
        """
        self.counts = Counts()
        with progress("checking lines", lines_about) as advance:
            for line in self._lines(begun_ms):
                self.counts.add(line.read)
                if isinstance(line.read, str):
                    typer.echo(f"{line}: {line.read}", err=True)
                elif line.read and self._options.dry_run and self.counts.good <= SHOWN:
                    self.first.append(_shown(line.read))
                if to_send:
                    client, spool = to_send
                    if isinstance(line.read, Dated) and self.counts.good == 1:
                        refuse_early(
                            client, self._settings, line, line.read.recorded_ms, opening=bool(self._openings)
                        )
                    keep(spool, line.read)
                if self.counts.all % STRIDE == 0:
                    advance(self.counts.all)
            advance(lines_about)

    def _refuse_bad(self) -> None:
        if self.counts.bad and not self._options.leave_out_bad:
            raise BadLines(
                f"{self.counts.bad} of {self.counts.all} lines are bad and nothing was sent: fix them, or add "
                "--leave-out-bad; they cannot be sent later with their dates"
            )

    # -- sending

    def _rest(self, before: Progress) -> Iterator[Read]:
        """Read every line again, as when the import began; reports bad lines only in the rest."""
        for number, line in enumerate(self._lines(before.begun_ms)):
            if number >= before.done and isinstance(line.read, str):
                typer.echo(f"{line}: {line.read}", err=True)
            yield line.read

    def _send(self, producer: ImportProducer, begun: Progress, every: Iterator[Read]) -> None:
        """Send the lines after those already done."""
        self.counts = Counts()
        reads = self._counted(every)
        with progress("importing", begun.lines) as advance:
            for number, _ in enumerate(islice(reads, begun.done)):
                if number % STRIDE == 0:
                    advance(number)
            for batch in _batches(reads):
                producer.write_lines(batch, replace(begun, done=self.counts.all))
                advance(self.counts.all)

    def _counted(self, reads: Iterator[Read]) -> Iterator[Read]:
        for read in reads:
            self.counts.add(read)
            yield read

    def _tell(self, verb: str) -> None:
        count = self.counts
        zeros = (
            f", {count.nothing} opening balances of zero, which need no transaction" if count.nothing else ""
        )
        typer.echo(f"{count.good} transactions {verb}, {count.bad} bad lines{zeros}", err=True)


def _shown(read: Dated) -> dict[str, object]:
    return to_json(decode_transaction(read.body)) | {"recorded_at": iso(read.recorded_ms)}


def _batches(reads: Iterator[Read]) -> Iterator[Sequence[Dated]]:
    """Group lines into batches of one transaction each; every line belongs to one batch."""
    batch: list[Dated] = []
    size = number = 0
    for read in reads:
        number += 1
        if isinstance(read, Dated):
            batch.append(read)
            size += len(read.key) + len(read.body)
        if number >= BATCH_LINES or size >= BATCH_BYTES:
            yield batch
            batch, size, number = [], 0, 0
    if number:
        yield batch


def refuse_closed(client: AdminClient, settings: Settings) -> None:
    """Raise Refused if the broker would replace the dates."""
    name = Topics.of(settings).transactions
    if not is_open(describe(client, [name])[name]):
        raise Refused(
            f"topic {name} is not open for history, so dates would not be kept: run `wallet init --history` first"
        )


def refuse_early(
    client: AdminClient, settings: Settings, first: Line, recorded_ms: int, *, opening: bool
) -> None:
    """Compare the first line with the records in the input and the topics' retention; raises Refused.

    `opening`: there are opening balances, and nothing may come before those.
    """
    tails = history.tails(client, settings)
    if opening and tails:
        raise Refused(
            "opening balances must come first, but the input already holds records: use a new pipeline"
        )
    newest_ms = max((tail.timestamp_ms for tail in tails.values()), default=0)
    if recorded_ms < newest_ms:
        raise Refused(
            f"{first} was recorded at {iso(recorded_ms)}, but the input holds records up to {iso(newest_ms)}: "
            "older ones could not keep their dates; import in order of time, or into a new pipeline"
        )
    topics = describe(client, Topics.of(settings).partitioned)
    if short := retention.too_short(settings, topics, time.time() * 1_000 - recorded_ms):
        raise Refused(
            f"topic {short} has retention.ms={retention.retention_ms(topics[short])} so Kafka would delete what was "
            f"recorded at {iso(recorded_ms)}: set unlimited retention until the history is loaded and read"
        )
