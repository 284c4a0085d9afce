"""`wallet verify --folder`: audit what `wallet export topics` wrote, with nothing but the folder.

An export has no balances, rows or group offset: input records after the newest outcome count as in flight.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from datetime import date
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from audit.avro import Entry
from audit.columns import sources
from audit.contract import NO_HASH, Contract, frame
from audit.groups import GroupSums
from audit.lanes import NONE, rejection_sources
from audit.months import Month
from audit.partition import STRETCH_RECORDS, PartitionAudit, Span
from audit.report import Difference, Differences, Findings, Report, What
from audit.seals import Content
from config.errors import ConfigurationError, Refused
from config.pipeline import Pipeline
from operations.cli.arguments import partitions_of
from operations.cli.output import behind, progress
from operations.export.manifest import NAME, ExportedMonth, File, Manifest, sha256_of
from operations.sending.files.parquet import libraries
from operations.verify.judging import GROUPS, contract_of
from operations.verify.report import export
from operations.verify.run import Options
from schemas.accepted import Accepted, AcceptedIds
from topics.names import Topics
from topics.source import Source

#: Topics that must be there, in the order of their export.
KINDS = ("input", "ledger", "rejections", "snapshots")
#: Beyond every offset.
ANY_OFFSET = 1 << 62
RAW = ["offset", "timestamp", "record_key", "record_value", "record_headers"]
MONTHS_ALONE = "sealed months without their input: entries are compared with each other and with their seals"
LEFT_OUT = "`balances`, PostgreSQL and topic settings are not in an export"


class Folder:
    """The files of an export, partition by partition."""

    def __init__(self, path: Path, manifest: Manifest, differences: Differences) -> None:
        self.path, self._differences = path, differences
        self.files: dict[tuple[str, int], list[File]] = {}
        self.months: dict[str, list[File]] = {}
        for one in sorted(manifest.files, key=lambda file: (file.partition, file.from_offset)):
            if one.month is None:
                self.files.setdefault((one.topic, one.partition), []).append(one)
            elif one.topic == "ledger":
                self.months.setdefault(one.month, []).append(one)

    def refuse_gaps(self, partitions: Sequence[int]) -> None:
        """Raise Refused unless the export of these partitions is complete."""
        for at in partitions:
            for kind in KINDS:
                files = self.files.get((kind, at), [])
                if kind == "input" and (not files or files[0].from_offset > 0):
                    raise Refused(
                        f"{self.path} lacks the first records of input partition {at}: export all "
                        "topics, whole partitions, into one folder"
                    )
                for one, behind_it in pairwise(files):
                    if one.to_offset < behind_it.from_offset:
                        raise Refused(
                            f"{self.path} is incomplete: {kind} partition {at} ends at offset {one.to_offset} and "
                            f"continues at {behind_it.from_offset}: export it again into another folder"
                        )

    def compare_with_manifest(self) -> None:
        """Report files that are missing or do not match the manifest."""
        for files in [*self.files.values(), *self.months.values()]:
            for one in files:
                path = self.path / one.path
                if not path.exists():
                    self._tell("missing", one, "the file does not exist")
                elif sha256_of(path) != one.sha256:
                    self._tell("altered", one, "its SHA-256 is not the manifest's")

    def end(self, kind: str, partition: int) -> int:
        """The end of a partition in the export."""
        files = self.files.get((kind, partition), [])
        return files[-1].to_offset if files else 0

    def records(self, kind: str, partition: int, count: int) -> Iterator[list[Source]]:
        """The records of a partition, `count` at a time; reports and skips a file that cannot be read."""
        for one in self.files.get((kind, partition), []):
            yield from self.records_of(one, count)

    def records_of(self, one: File, count: int) -> Iterator[list[Source]]:
        """The records of one file."""
        pa, parquet = libraries()
        try:
            with parquet.ParquetFile(self.path / one.path) as file:
                for batch in file.iter_batches(count, columns=RAW):
                    yield _records(pa, batch)
        except (OSError, pa.ArrowException) as failure:
            self._tell("altered", one, f"it cannot be read: {str(failure).splitlines()[0]}")

    def newest_source(self, kind: str, partition: int, end: int) -> int:
        """The newest source before an offset that the last records of a topic name; -1 if there is none."""
        files = [one for one in self.files.get((kind, partition), []) if one.records]
        pa, parquet = libraries()
        for one in reversed(files):
            try:
                with parquet.ParquetFile(self.path / one.path) as file:
                    for number in reversed(range(file.num_row_groups)):
                        group = file.read_row_group(number, columns=RAW)
                        records = [record for batch in group.to_batches() for record in _records(pa, batch)]
                        named: list[int] = sources([one.value or b"" for one in records]).tolist()
                        if kind != "ledger":
                            named = rejection_sources(records)
                        if known := [source for source in named if NONE < source < end]:
                            return max(known)
            except (OSError, pa.ArrowException):
                continue  # reported when it is read
        return NONE

    def _tell(self, what: What, one: File, detail: str) -> None:
        self._differences.add(
            Difference(one.path, what, one.partition, one.from_offset, detail=detail, check="export")
        )


def _records(pa: Any, batch: Any) -> list[Source]:
    offsets, times, keys, values, headers = (batch.column(name) for name in RAW)
    named = (
        tuple((each["name"].decode(errors="replace"), each["value"]) for each in some or ())
        for some in headers.to_pylist()
    )
    columns = (
        offsets.to_pylist(),
        times.cast(pa.int64()).to_pylist(),
        keys.to_pylist(),
        values.to_pylist(),
        named,
    )
    return [Source(*one) for one in zip(*columns, strict=True)]


class Reader:
    """Reads one topic of an export as it would be read from Kafka."""

    def __init__(self, folder: Folder, kind: str) -> None:
        self._folder, self._kind = folder, kind
        self._partition, self._end = 0, 0
        self._batches: Iterator[list[Source]] | None = None

    def start(self, partition: int, _: int, end: int) -> None:
        """Start reading a partition, up to an offset (excluded)."""
        self._partition, self._end, self._batches = partition, end, None

    def next(self, count: int) -> list[Source]:
        """The next records; empty only at the end."""
        if self._batches is None:
            self._batches = self._folder.records(self._kind, self._partition, count)
        for records in self._batches:
            if found := [record for record in records if record.offset < self._end]:
                return found
        return []


def run(path: Path, options: Options) -> Report:
    """Verify an export and report; raises a WalletError if that is not possible."""
    options.refuse_what_needs_servers()
    began_s, began_cpu_s = time.monotonic(), time.process_time()
    if not (path / NAME).is_file():
        raise ConfigurationError(f"{path} holds no export: write one with `wallet export topics {path}`")
    manifest = Manifest.of(path, {})
    pipeline, topics, contract = _pipeline(path, manifest)
    partitions = partitions_of(pipeline.partitions, options.partition)
    differences = Differences(options.shown)
    report = Report(str(manifest.origin["prefix"]), asdict(pipeline), differences, Findings(options.shown))
    folder = Folder(path, manifest, differences)
    if folder.months and not folder.files:
        _of_months(folder, manifest.months, topics, contract, report, options)
    else:
        _of_partitions(folder, topics, contract, partitions, report)
    report.took_s = report.folding_s = time.monotonic() - began_s
    report.folding_cpu_s = time.process_time() - began_cpu_s
    if options.export:
        export(report, str(manifest.origin.get("input topic")), "", options.export)
    return report


def _of_partitions(
    folder: Folder, topics: Topics, contract: Contract, partitions: Sequence[int], report: Report
) -> None:
    """Whole partitions: judge their input, and hold what was made of it against that."""
    folder.refuse_gaps(partitions)
    folder.compare_with_manifest()
    kinds = dict(
        zip((topics.transactions, topics.ledger, topics.rejections, topics.snapshots), KINDS, strict=True)
    )
    spans = [_span(folder, at, kinds) for at in partitions]
    with (
        TemporaryDirectory(prefix="wallet-verify-") as work,
        progress("verifying", sum(span.source for span in spans)) as advance,
        closing(GroupSums(Path(work) / GROUPS)) as groups,
    ):
        done = 0
        for span in spans:
            audit = PartitionAudit(
                contract,
                topics,
                span,
                lambda topic: Reader(folder, kinds.get(topic, "")),
                Path(work),
                report.differences,
                report.findings,
                watch=lambda stretch: groups.add(stretch.judged),
                without_balances=True,
            )
            report.covered.append(audit.run(behind(advance, done), lambda: ()))
            done += span.source
        advance(done)
        if len(partitions) == contract.partitions:
            for finding in groups.unbalanced():
                report.findings.add(finding)
    report.notes.append(LEFT_OUT)


def _of_months(
    folder: Folder,
    months: Sequence[ExportedMonth],
    topics: Topics,
    contract: Contract,
    report: Report,
    options: Options,
) -> None:
    """Sealed months without their input: compare their entries with each other and with their seals."""
    if options.partition is not None:
        raise ConfigurationError(
            "--partition needs an export of whole partitions: a seal covers all partitions; leave it out"
        )
    folder.compare_with_manifest()
    wallets: dict[str, Entry] = {}
    total = sum(one.records for files in folder.months.values() for one in files)
    with progress("verifying", total) as advance:
        done = 0
        for one in months:
            month = Month(
                topics.ledger, one.month, frame(contract.entry_schema_id), wallets, report.differences
            )
            for file in folder.months.get(one.month, []):
                for records in folder.records_of(file, STRETCH_RECORDS):
                    month.add(file.partition, records)
                    advance(done := done + len(records))
            for detail in _beside_seal(one, month.content):
                report.differences.add(Difference("archive_seals", "altered", detail=detail, check="seals"))
            report.rows[one.month] = month.content.entries
    report.notes.append(MONTHS_ALONE)


def _beside_seal(told: ExportedMonth, found: Content) -> Iterator[str]:
    month = date.fromisoformat(f"{told.month}-01")
    if (told.entries, told.amount, told.hash) != (found.entries, found.amount, found.hash.hex()):
        yield f"the entries of {told.month} are not those in the manifest"
    if not told.as_sealed:
        yield f"the entries of {told.month} did not match their seal when they were exported"
    if told.previous != "":
        before = NO_HASH if told.previous is None else bytes.fromhex(told.previous)
        right = sha256(before + found.covered(month)).hexdigest()
        if right != told.seal:
            yield f"the seal of {told.month} is {told.seal[:16]}..., its entries give {right[:16]}..."


def _span(folder: Folder, at: int, kinds: Mapping[str, str]) -> Span:
    end = folder.end("input", at)
    newest = max(folder.newest_source(kind, at, end) for kind in KINDS[1:3])
    ends = {topic: folder.end(kind, at) for topic, kind in kinds.items()}
    # Records written after the input was exported are in flight.
    return Span(at, 0, newest + 1, ANY_OFFSET, dict.fromkeys(ends, 0), ends)


def _pipeline(path: Path, manifest: Manifest) -> tuple[Pipeline, Topics, Contract]:
    origin = manifest.origin
    try:
        pipeline = Pipeline.from_json(json.dumps(origin["pipeline"]).encode())
        ids = [int(one) for one in origin["schema ids"]]
        accepted = {
            int(at): AcceptedIds(int(at), [Accepted(**one) for one in some])
            for at, some in manifest.accepted.items()
        }
        names = {name: f"{origin['prefix']}.{name}" for name in Topics.__dataclass_fields__}
        topics = Topics(
            **names
            | {
                "transactions": str(origin.get("input topic", "(not exported)")).split(
                    " with id ", maxsplit=1
                )[0]
            }
        )
    except (KeyError, TypeError, ValueError):
        raise ConfigurationError(
            f"{path / NAME} does not describe its pipeline fully: export all topics again into another folder"
        ) from None
    return pipeline, topics, contract_of(topics.transactions, pipeline, ids, accepted)
