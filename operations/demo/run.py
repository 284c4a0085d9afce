"""`wallet demo`: run the whole pipeline on mixed input, kill its worker half-way, check every balance."""

import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import typer

from config.errors import Stopped
from config.logs import EventLog
from config.settings import Settings
from operations.cli import context
from operations.cli.children import Child, Children, stopping_on_signals
from operations.cli.output import progress
from operations.cli.waiting import until_done
from operations.demo import place as demo_place
from operations.demo import running
from operations.demo import table as demo_table
from operations.sending import delivery, generating
from operations.sending.generator import Mix, records
from operations.setup import init
from operations.verify import run as verify
from operations.verify.options import Options
from sinks import postgres
from topics import group_offsets
from topics.cluster import offsets, quiet_admin
from topics.names import Topics
from topics.topic_log import TopicLog

#: Seconds without progress after which the demo gives up; a takeover takes a session time-out.
PATIENCE_S = 60.0
SETTLE_S = 0.3

log = EventLog("operations.demo")


@dataclass
class Run:
    """One run and the times it measured, in seconds of the monotonic clock."""

    settings: Settings
    count: int
    began: float = 0.0
    killed: float = 0.0
    killed_at: int = 0
    resumed: float = 0.0
    posted: float = 0.0
    written: float = 0.0


def run(count: int, wallets: int, *, keep: bool = False, run_on: bool = False) -> int:
    """Run the demo and print its table; returns 0 if every check passed, otherwise Stopped's exit code.

    `keep` leaves what it made, `run_on` also a pipeline that goes on, with a console.
    """
    settings = demo_place.somewhere()
    began = time.monotonic()
    with demo_place.alone(), stopping_on_signals():
        running.stop(demo_place.NOTES)
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
        if keep or run_on:
            demo_table.show_kept(demo.settings)
        if run_on:
            demo_table.show_running(running.start(demo.settings, folder, demo_place.NOTES))
        elif not keep:
            demo_place.remove(settings, demo.settings.prefix)
    return 0


def stop() -> None:
    """Stop the pipeline that a demo left running."""
    with demo_place.alone():
        count = running.stop(demo_place.NOTES)
    typer.echo("the demo's pipeline is stopped" if count else "no demo's pipeline is running")


def _through(demo: Run, mix: Mix, folder: Path) -> demo_table.Results:
    """Initialise, send, run until everything is written with one kill on the way, and check."""
    settings = demo.settings
    log.info("initialising", prefix=settings.prefix)
    pipeline = init.initialise(settings).pipeline
    with Children(context.environment(settings), folder) as children:
        children.start("sink", "sink", "all")
        mix = generating.fitted(mix, pipeline)
        with progress("sending", demo.count) as advance:
            delivery.deliver(settings, records(demo.count, mix), advance)
        # Not earlier: it could finish the input before we kill it half-way.
        worker = children.start("worker", "worker")
        _until_posted(demo, children, worker)
        _until_written(demo, children, demo.count + _snapshots(settings))
        children.check()
    log.info("checking")
    report = verify.run(settings, Options())
    return demo_table.Results(report, postgres.counts(settings), postgres.rejections_by_reason(settings))


def _until_posted(demo: Run, children: Children, worker: Child) -> None:
    """Follow the workers to the end of the input; kill the first one half-way."""
    settings = demo.settings
    client = quiet_admin(settings)
    ends = offsets(client, {Topics.of(settings).transactions: settings.partitions})
    total = sum(at.end for at in ends.values())

    def posted() -> int:
        children.check()
        done, now = _posted(settings), time.monotonic()
        if done and not demo.began:
            demo.began = now
        if demo.killed and not demo.resumed and done > demo.killed_at:
            demo.resumed = now
        if not demo.killed and total // 2 <= done < total:
            children.kill(worker)
            demo.killed = time.monotonic()
            # A commit under way may still land; anything later is the second worker's.
            time.sleep(SETTLE_S)
            demo.killed_at = _posted(settings)
            log.warning("worker_killed", done=done, of=total)
            children.start("second worker", "worker")
        return done

    until_done("posting", total, posted, stall_s=PATIENCE_S, stalled=_stalled)
    demo.posted = time.monotonic()


def _posted(settings: Settings) -> int:
    """How many records of the input the workers have committed."""
    topic = Topics.of(settings).transactions
    found = group_offsets.offsets(settings, topic, range(settings.partitions), wait=False)
    return sum(at or 0 for at in found.values())


def _snapshots(settings: Settings) -> int:
    """How many snapshots there are."""
    topic = Topics.of(settings).snapshots
    ends = offsets(quiet_admin(settings), {topic: settings.partitions})
    with closing(TopicLog(settings, topic)) as log:
        return sum(
            len(messages)
            for (_, partition), at in ends.items()
            for messages in log.slices(partition, at.begin, at.end)
        )


def _until_written(demo: Run, children: Children, total: int) -> None:
    """Follow the sinks until `total` rows are written."""

    def written() -> int:
        children.check()
        return _rows(demo.settings)

    until_done("writing rows", total, written, stall_s=PATIENCE_S, stalled=_stalled)
    demo.written = time.monotonic()


def _stalled(done: int) -> Stopped:
    return Stopped(f"no progress for {PATIENCE_S:g} s, stuck at {done}: see the logs in {demo_place.FOLDER}")


def _rows(settings: Settings) -> int:
    rows = postgres.counts(settings)
    return sum(rows[table] for table in ("transactions", "transaction_snapshots", "rejections"))
