"""`wallet export topics`: Parquet files of whole partitions or of sealed months, with a manifest that proves them.

A file gets its name once it is complete; then the manifest lists it. If a run is interrupted, the next one starts
again with the unfinished file. A run after a complete one adds what has come since.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any

import typer
from confluent_kafka import Message

from config.errors import DIFFERENCES, Refused
from config.folders import locked
from config.pipeline import Pipeline
from config.settings import Settings
from config.times import month_name
from operations.cli.arguments import partitions_of
from operations.cli.output import Advance, as_line, behind, progress
from operations.export import columns
from operations.export.columns import Kind
from operations.export.manifest import ExportedMonth, File, Manifest, packed, sha256_of
from operations.export.spans import Logs, Span, of_month, sealed, whole
from operations.sending.files.parquet import libraries
from schemas.registry import schema_ids
from sinks.archive.entries import signed_sum
from sinks.archive.seals import Seal
from streams.accepted import read_accepted
from topics.cluster import check, identity, quiet_admin

#: Bytes of keys and values in one row group, which is as much as is kept in memory.
GROUP_BYTES = 32 << 20


@dataclass(frozen=True)
class Options:
    """What to export: topics by our names, partitions (empty: all), months (None: whole partitions)."""

    folder: Path
    topics: Sequence[str]
    partitions: Sequence[int]
    months: Sequence[date] | None
    records_per_file: int


@dataclass(frozen=True)
class Report:
    """What one run wrote; `months` are those that it compared with their seals."""

    folder: str
    files: int
    records: int
    bytes: int
    months: list[ExportedMonth]


def run(settings: Settings, options: Options, *, as_json: bool) -> int:
    """Export and print; returns the exit code, 0 only if every sealed month matches its seal."""
    pa, _ = libraries()
    pipeline = check(settings)
    settings = pipeline.rule(settings)
    partitions = partitions_of(settings.partitions, *options.partitions)
    options.folder.mkdir(parents=True, exist_ok=True)
    only_one = locked(options.folder / ".lock", lambda _: _taken(options.folder))
    with closing(Logs(settings)) as logs, only_one:
        manifest = Manifest.of(options.folder, _origin(settings, pipeline, logs, options.topics))
        kept = read_accepted(settings)
        manifest.accepted = {str(at): [asdict(one) for one in some] for at, some in kept.items()}
        export = Export(pa, options, logs, manifest, pipeline)
        if options.months is None:
            export.write([*whole(logs, options.topics, partitions)])
        else:
            for seal in sealed(settings, options.months):
                wanted = [
                    span for span in of_month(logs, options.topics, seal) if span.partition in partitions
                ]
                export.write(wanted)
                if "ledger" in options.topics and len(partitions) == settings.partitions:
                    export.compare(seal)
    report = export.report()
    typer.echo(as_line(asdict(report)) if as_json else _told(report))
    return 0 if all(month.as_sealed for month in report.months) else DIFFERENCES


def _taken(folder: Path) -> Refused:
    return Refused(f"another `wallet export` is writing into {folder}: wait until it is done")


def _origin(settings: Settings, pipeline: Pipeline, logs: Logs, names: Sequence[str]) -> dict[str, Any]:
    """What the offsets belong to."""
    client = quiet_admin(settings)
    ids = {f"{name} topic": list(identity(client, logs.topic(name))) for name in names}
    known = {
        "prefix": settings.prefix,
        "pipeline": asdict(pipeline),
        "schema ids": list(schema_ids(settings)),
    }
    return known | {
        name: f"{logs.topic(name.split()[0])} with id {topic_id} of cluster {cluster}"
        for name, (cluster, topic_id) in ids.items()
    }


class Export:
    """One run of an export into one folder."""

    def __init__(self, pa: Any, options: Options, logs: Logs, manifest: Manifest, pipeline: Pipeline) -> None:
        self._pa, self._options, self._logs, self._manifest = pa, options, logs, manifest
        self._kinds = columns.kinds(pipeline.transaction_schema_id)
        self._written: list[File] = []
        self._compared: list[ExportedMonth] = []

    def write(self, spans: Sequence[Span]) -> None:
        """Write what is missing of these."""
        left = [self._left(span) for span in spans]
        title = f"exporting {spans[0].month}" if spans and spans[0].month else "exporting"
        total, done = sum(span.end - span.begin for span in left), 0
        with progress(title, total) as advance:
            for span in left:
                self._write(span, behind(advance, done))
                done += span.end - span.begin
            advance(total)

    def _left(self, span: Span) -> Span:
        known = self._manifest.next_offset(span.topic, span.partition, span.month)
        return span if known is None else span._replace(begin=min(max(span.begin, known), span.end))

    def _write(self, span: Span, advance: Advance) -> None:
        """Write the files of one span; none if it holds no records."""
        begin, part = span.begin, None
        for messages in self._logs[span.topic].slices(span.partition, span.begin, span.end):
            kept = [message for message in messages if span.keep is None or span.keep(message)]
            while kept:
                part = part or Part(self._pa, self._kinds[span.topic], self._options.folder, span, begin)
                room = self._options.records_per_file - part.records
                part.add(kept[:room])
                begin, kept = (kept[:room][-1].offset() or 0) + 1, kept[room:]
                if part.records >= self._options.records_per_file:
                    self._finish(part, begin)
                    part = None
            advance((messages[-1].offset() or 0) + 1 - span.begin)
        if part:
            # After the last record there are only transaction marks and records that are not wanted.
            self._finish(part, span.end)

    def _finish(self, part: "Part", to_offset: int) -> None:
        done = part.close(to_offset)
        self._written.append(done)
        self._manifest.files.append(done)
        self._manifest.save(self._options.folder)

    def compare(self, seal: Seal) -> None:
        """Read a month's files again and compare them with its seal."""
        name = month_name(seal.content.month)
        entries, amount, total = 0, 0, sha256()
        files = [one for one in self._manifest.files if (one.topic, one.month) == ("ledger", name)]
        for one in sorted(files, key=lambda file: (file.partition, file.from_offset)):
            entries, amount = entries + one.records, amount + (one.amount or 0)
            for hashes in hashes_in(self._options.folder / one.path, one.sha256):
                total.update(b"".join(hashes))
        content = seal.content
        before = None if seal.previous is None else seal.previous.hex()
        same = (entries, amount, total.digest()) == (content.entries, content.amount, content.hash)
        found = ExportedMonth(name, entries, amount, total.hexdigest(), seal.seal.hex(), same, before)
        self._compared.append(found)
        others = [month for month in self._manifest.months if month.month != name]
        self._manifest.months = sorted([*others, found], key=lambda month: month.month)
        self._manifest.save(self._options.folder)

    def report(self) -> Report:
        """What was done."""
        folder = self._options.folder
        size = sum((folder / one.path).stat().st_size for one in self._written)
        records = sum(one.records for one in self._written)
        return Report(str(folder), len(self._written), records, size, self._compared)


class Part:
    """A file being written, under a temporary name until it is complete."""

    def __init__(self, pa: Any, kind: Kind, folder: Path, span: Span, begin: int) -> None:
        self._pa, self._kind, self._span, self._begin = pa, kind, span, begin
        place = f"{span.month}/" if span.month else ""
        self._folder, self._name = folder, f"{place}{kind.name}/{span.partition:05}-{begin:020}.parquet"
        self._path = folder / self._name
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._unfinished = self._path.with_suffix(".part")
        _, parquet = libraries()
        self._writer = parquet.ParquetWriter(self._unfinished, columns.schema(pa, kind), compression="zstd")
        self._waiting: list[Message] = []
        self._waiting_bytes = 0
        self._content = sha256()
        self._amount = 0
        #: So far.
        self.records = 0

    def add(self, messages: Sequence[Message]) -> None:
        """Append these records."""
        self.records += len(messages)
        content = packed(messages)
        self._content.update(content)
        if self._kind.name == "ledger":
            self._amount += _signed([message.value() or b"" for message in messages])
        self._waiting += messages
        self._waiting_bytes += len(content)
        if self._waiting_bytes > GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        self._writer.write_table(columns.row_group(self._pa, self._kind, self._waiting))
        self._waiting, self._waiting_bytes = [], 0

    def close(self, to_offset: int) -> File:
        """Finish the file: it is on disk under its final name when this returns."""
        if self._waiting:
            self._flush()
        self._writer.close()
        with self._unfinished.open("rb") as written:
            os.fsync(written.fileno())
        self._unfinished.replace(self._path)
        return File(
            self._name,
            self._kind.name,
            self._span.partition,
            self._begin,
            to_offset,
            self.records,
            self._amount if self._kind.name == "ledger" else None,
            self._content.hexdigest(),
            sha256_of(self._path),
            self._span.month,
        )


def _signed(values: Sequence[bytes]) -> int:
    """Credits minus debits; damaged entries count as 0 and have no readable columns either."""
    try:
        return signed_sum(values)
    except (IndexError, ValueError):
        return sum(_signed([value]) for value in values) if len(values) > 1 else 0


def hashes_in(path: Path, digest: str) -> Iterator[list[bytes]]:
    """The entries' hashes in a file, in order; raises Refused if the file has changed since it was written."""
    if not path.exists() or sha256_of(path) != digest:
        raise Refused(
            f"{path} is missing or has changed since it was written: export the month again into another folder"
        )
    _, parquet = libraries()
    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=["hash"]):
            yield batch.column("hash").to_pylist()


def _told(report: Report) -> str:
    lines = [
        f"{report.records:,} records in {report.files} new files ({report.bytes / 1e6:,.1f} MB) in {report.folder}"
    ]
    for month in report.months:
        verdict = (
            f"matches its seal {month.seal}" if month.as_sealed else f"does NOT match its seal {month.seal}"
        )
        lines.append(f"{month.month}: {month.entries:,} entries, {verdict}")
    return "\n".join(lines)
