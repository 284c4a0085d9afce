"""A guard for the fold's speed: two figures that a busy machine hardly moves, held against recorded ones.

The ratio is the processor time of the fold and its store to that of fastavro reading the same transactions, in turn
in one process. The instructions of the fold alone are counted by callgrind.
"""

import ctypes
import gc
import json
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Annotated

import fastavro
import typer

import __main__
from benchmarks.filling import transactions
from config.pipeline import Pipeline
from operations.cli.output import console, show_table, table
from schemas import native
from schemas.codec import HEADER_BYTES, TransactionCodec
from schemas.records import Balance
from schemas.versions import FIXED_IDS, schema_text
from streams.batch import Outputs
from streams.posting import Fold
from streams.store import Cursor, Identity, PartitionStore, StoreMemory
from streams.wallet import Known
from topics.source import Source

RECORDED = Path(__file__).with_name("guard.json")
RECORDS, WALLETS, BATCH_RECORDS = 40_000, 1_000, 2_000
ROUNDS = 7
#: callgrind counts while Python is in this function, which nothing else here calls.
COUNTED = "PyRun_SimpleStringFlags"
COUNTED_BATCHES = 2
#: A figure that is worse than the recorded one by more than this is a finding.
RATIO_MAY_BE, INSTRUCTIONS_MAY_BE = 1.25, 1.03
COUNT_S = 900.0
PIPELINE = Pipeline(FIXED_IDS.transaction, 1, 1_000, "allow", 1_048_576, None, 1)


@dataclass(frozen=True)
class Figures:
    """What one run found, and where; `instructions` are of one record, None where callgrind is not to be had."""

    ratio: float
    instructions: int | None
    python: str
    compiled: bool


class Memory:
    """A past that is kept in memory."""

    def __init__(self) -> None:
        self._balances: dict[bytes, Balance] = {}
        self._ids: dict[bytes, Known] = {}

    def balances(self, wallets: set[bytes]) -> dict[bytes, Balance]:
        """As `Past` says."""
        return {wallet: self._balances[wallet] for wallet in wallets if wallet in self._balances}

    def known(self, ids: list[bytes]) -> dict[bytes, Known]:
        """As `Past` says."""
        return {one: self._ids[one] for one in ids if one in self._ids}

    def write(self, out: Outputs) -> None:
        """Take a batch over."""
        self._balances |= out.balances
        self._ids |= out.new_ids


def _batches(count: int) -> list[list[Source]]:
    records = transactions(count, WALLETS, 1)
    sources = (
        Source(offset, 1_700_000_000_000 + offset, record.key, record.value, ())
        for offset, record in enumerate(records)
    )
    return [list(islice(sources, BATCH_RECORDS)) for _ in range(0, count, BATCH_RECORDS)]


def _fold(past: Memory | PartitionStore) -> Fold:
    codec = TransactionCodec(FIXED_IDS.transaction, lambda *_: None)
    return Fold("guard.transactions", 0, PIPELINE, codec, FIXED_IDS, past)


def _post(batches: Sequence[list[Source]]) -> None:
    """Fold them into a store on disk, as a worker does between two commits."""
    with tempfile.TemporaryDirectory() as folder:
        store = PartitionStore(
            Path(folder) / "store", Identity("guard", "guard", "", 0), StoreMemory(96), WALLETS
        )
        try:
            fold = _fold(store)
            for batch in batches:
                out = fold.outputs(batch, batch[0].offset, store.cursor.recorded_ms)
                fold.balance_records(out)
                cursor = Cursor(out.next_offset, out.next_offset, out.next_offset, out.recorded_ms)
                store.write(out.changelog, out.new_ids, cursor)
        finally:
            store.close()


def _read(batches: Sequence[list[Source]]) -> None:
    schema = fastavro.parse_schema(json.loads(schema_text("transaction", 1)))
    for batch in batches:
        for record in batch:
            fastavro.schemaless_reader(BytesIO((record.value or b"")[HEADER_BYTES:]), schema, None)


def _cpu_s(work: Callable[[], None]) -> float:
    before = time.process_time()
    work()
    return time.process_time() - before


def _ratio() -> float:
    batches = _batches(RECORDS)
    rounds = [(_cpu_s(lambda: _post(batches)), _cpu_s(lambda: _read(batches))) for _ in range(ROUNDS)]
    return round(statistics.median(ours / theirs for ours, theirs in rounds), 3)


def _instructions() -> int | None:
    """Of one record, all in all; None where valgrind is missing."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "counted"
        options = ["--tool=callgrind", f"--callgrind-out-file={file}", f"--toggle-collect={COUNTED}"]
        subprocess.run(
            [valgrind, *options, sys.executable, "-m", "benchmarks.guard", "fold"],
            env={"PYTHONHASHSEED": "0", "PATH": "/usr/bin:/bin"},
            check=True,
            capture_output=True,
            timeout=COUNT_S,
        )
        line = next(line for line in file.read_text().splitlines() if line.startswith("totals:"))
        return int(line.split()[1]) // (COUNTED_BATCHES * BATCH_RECORDS)


app = typer.Typer(add_completion=False)


@app.command()
def fold() -> None:
    """Fold batches in memory, under callgrind."""
    past = Memory()
    one = _fold(past)
    first, *batches = _batches((1 + COUNTED_BATCHES) * BATCH_RECORDS)

    def post() -> None:
        for batch in batches:
            out = one.outputs(batch, batch[0].offset, 0)
            one.balance_records(out)
            past.write(out)

    past.write(one.outputs(first, 0, 0))
    gc.disable()
    __main__.post = post
    ctypes.pythonapi.PyRun_SimpleString(b"post()")


@app.command()
def compare(
    record: Annotated[bool, typer.Option("--record", help="Record the figures of this run instead.")] = False,
) -> None:
    """Measure the fold and hold it against the recorded figures; exit code 1 where it has become slower."""
    found = Figures(_ratio(), _instructions(), platform.python_version(), native.post is not None)
    if record:
        RECORDED.write_text(json.dumps(asdict(found), indent=2) + "\n")
        return
    before = Figures(**json.loads(RECORDED.read_text()))
    slower = _show(before, found)
    if (before.python, before.compiled) != (found.python, found.compiled):
        console().print(
            f"recorded with Python {before.python}, compiled={before.compiled}; "
            f"this is {found.python}, compiled={found.compiled}: not held against it"
        )
    elif slower:
        raise typer.Exit(1)


def _show(before: Figures, found: Figures) -> bool:
    """Print the table; whether something is slower than it may be."""
    figures = [
        ("CPU time, fold and store to fastavro", before.ratio, found.ratio, RATIO_MAY_BE),
        ("instructions of a record", before.instructions, found.instructions, INSTRUCTIONS_MAY_BE),
    ]
    slower, rows = False, list[tuple[str, ...]]()
    for what, was, now, may_be in figures:
        if was is None or now is None:
            rows.append((what, "-", "-", "needs valgrind", ""))
            continue
        slower = slower or now / was > may_be
        rows.append((what, f"{was:,}", f"{now:,}", f"{now / was - 1:+.1%}", f"{may_be - 1:+.0%}"))
    names = ("recorded", "now", "change", "at most")
    show_table(table(("what", *names), rows, numbers=names, title="The fold against what was recorded"))
    return slower


if __name__ == "__main__":
    app()
