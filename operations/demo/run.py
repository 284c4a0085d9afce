"""`wallet demo`: the whole pipeline on mixed input, its worker killed half-way, and every balance checked."""

import time
from dataclasses import dataclass
from pathlib import Path

from audit.partition import STRETCH_RECORDS
from config.errors import Stopped
from config.logs import EventLog
from config.settings import Settings
from operations.cli import context
from operations.cli.children import Child, Children, stopping_on_signals
from operations.cli.output import progress
from operations.demo import place as demo_place
from operations.demo import table as demo_table
from operations.sending import delivery, generating
from operations.sending.generator import Mix, records
from operations.setup import init
from operations.verify import run as verify
from operations.verify.opened import Opened
from operations.verify.options import Options
from sinks import postgres
from topics import group_offsets
from topics.cluster import offsets, quiet_admin
from topics.names import Topics

#: Without any progress for so many seconds the demo gives up; a takeover takes a session time-out.
PATIENCE_S = 60.0
LOOK_EVERY_S = 0.1
SETTLE_S = 0.3

log = EventLog("operations.demo")


@dataclass
class Run:
    """What one run is made of, and the times that it measured, in seconds of the monotonic clock."""

    settings: Settings
    count: int
    began: float = 0.0
    killed: float = 0.0
    killed_at: int = 0
    resumed: float = 0.0
    posted: float = 0.0
    written: float = 0.0


def run(count: int, wallets: int, *, keep: bool = False) -> int:
    """Run the demonstration and print its table; 0 when every check passed, otherwise Stopped's code."""
    settings = demo_place.somewhere()
    began = time.monotonic()
    with demo_place.alone(), stopping_on_signals():
        demo_place.remove_old(settings)
        demo = Run(demo_place.new_pipeline(settings), count)
        folder = demo_place.FOLDER.absolute() / demo.settings.prefix
        folder.mkdir(parents=True)
        log.info("logs_of_the_children", folder=folder)
        results = _through(demo, Mix(wallets=wallets, bad=0.03, duplicates=0.02), folder)
        passed = demo_table.show(demo, results, time.monotonic() - began)
        if not passed:
            log.error("checks_failed", logs=folder, prefix=demo.settings.prefix)
            return Stopped.exit_code
        if keep:
            demo_table.show_kept(demo.settings)
        else:
            demo_place.remove(settings, demo.settings.prefix)
    return 0


def _through(demo: Run, mix: Mix, folder: Path) -> demo_table.Results:
    """Initialise, send, run until all is through with a kill on the way, and check."""
    settings = demo.settings
    log.info("initialising", prefix=settings.prefix)
    pipeline = init.initialise(settings).pipeline
    with Children(context.environment(settings), folder) as children:
        children.start("sink", "sink", "all")
        mix = generating.fitted(mix, pipeline)
        with progress("sending", demo.count) as advance:
            delivery.deliver(settings, records(demo.count, mix), advance)
        # Not before: it might be through with the input by the time that it is to be killed half-way.
        worker = children.start("worker", "worker")
        _until_posted(demo, children, worker)
        _until_written(demo, children, demo.count + _snapshots(settings, pipeline.max_record_bytes))
        children.check()
    log.info("checking")
    report = verify.run(settings, Options())
    return demo_table.Results(report, postgres.counts(settings), postgres.rejections_by_reason(settings))


def _until_posted(demo: Run, children: Children, worker: Child) -> None:
    """Follow the workers to the end of the input, killing the first half-way."""
    settings = demo.settings
    client = quiet_admin(settings)
    ends = offsets(client, {Topics.of(settings).transactions: settings.partitions})
    total = sum(at.end for at in ends.values())
    watch = _Patience()
    with progress("posting", total) as advance:
        while (done := _posted(settings)) < total:
            children.check()
            watch.see(done)
            advance(done)
            if done and not demo.began:
                demo.began = time.monotonic()
            if demo.killed and not demo.resumed and done > demo.killed_at:
                demo.resumed = time.monotonic()
            if not demo.killed and done >= total // 2:
                children.kill(worker)
                demo.killed = time.monotonic()
                # A commit that was under way may still land; what comes later is the second worker's.
                time.sleep(SETTLE_S)
                demo.killed_at = _posted(settings)
                log.warning("worker_killed", done=done, of=total)
                children.start("second worker", "worker")
            time.sleep(LOOK_EVERY_S)
        advance(total)
    demo.posted = time.monotonic()


def _posted(settings: Settings) -> int:
    """How many records of the input the workers have committed."""
    topic = Topics.of(settings).transactions
    found = group_offsets.offsets(settings, topic, range(settings.partitions), wait=False)
    return sum(at or 0 for at in found.values())


def _snapshots(settings: Settings, max_record_bytes: int) -> int:
    """How many snapshots there are."""
    topic, count = Topics.of(settings).snapshots, 0
    ends = offsets(quiet_admin(settings), {topic: settings.partitions})
    with Opened(settings, max_record_bytes) as opened:
        reading = opened(topic)
        for (_, partition), at in ends.items():
            reading.start(partition, at.begin, at.end)
            while records := reading.next(STRETCH_RECORDS):
                count += len(records)
    return count


def _until_written(demo: Run, children: Children, total: int) -> None:
    """Follow the sinks until so many rows are there."""
    watch = _Patience()
    with progress("writing rows", total) as advance:
        while (done := _rows(demo.settings)) < total:
            children.check()
            watch.see(done)
            advance(done)
            time.sleep(LOOK_EVERY_S)
        advance(done)
    demo.written = time.monotonic()


def _rows(settings: Settings) -> int:
    rows = postgres.counts(settings)
    return sum(rows[table] for table in ("transactions", "transaction_snapshots", "rejections"))


class _Patience:
    """Gives up when a figure stays the same for too long."""

    def __init__(self) -> None:
        self._seen = -1
        self._since = time.monotonic()

    def see(self, done: int) -> None:
        """Raise Stopped if this has been the figure for too long."""
        if done != self._seen:
            self._seen, self._since = done, time.monotonic()
        elif time.monotonic() - self._since > PATIENCE_S:
            raise Stopped(f"no progress for {PATIENCE_S:g} s at {done}")
