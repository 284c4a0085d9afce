"""`wallet demo`: run the whole pipeline on mixed input, kill its worker half-way, check every balance."""

import re
import shutil
import time
from contextlib import AbstractContextManager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import typer

from config import logs
from config.errors import Refused, Stopped
from config.folders import locked, private
from config.logs import EventLog
from config.settings import Settings, from_environment
from local.stack import Stack
from operations.cli import context
from operations.cli.children import Child, Children, stopping_on_signals
from operations.cli.output import as_line, progress, until_done
from operations.demo import running
from operations.demo.results import Results, Run, as_fields, show_figures, show_kept
from operations.sending import delivery, generating
from operations.sending.generator import Mix, records
from operations.setup import init
from operations.verify import run as verify
from operations.verify.run import Options
from sinks.names import WRITING
from sinks.postgres import databases, questions
from topics import group_offsets
from topics.cluster import offsets, quiet_admin, wait_for_kafka
from topics.names import Topics
from topics.topic_log import TopicLog

FOLDER = Path(".local/demo")
#: The process ids of the pipeline that a demo left running.
NOTES = FOLDER / "running.json"
STAMP = "%Y%m%d-%H%M%S"
_NAME = re.compile(r"demo-(?P<stamp>\d{8}-\d{6})(\..+)?")
_DATABASE = re.compile(r"demo_(?P<stamp>\d{8}_\d{6})")
#: Leftovers of other demos are removed once they are older than any demo runs.
LEFT_BEHIND = timedelta(minutes=15)
#: Seconds without progress after which the demo gives up; a takeover takes a session time-out.
PATIENCE_S = 60.0
SETTLE_S = 0.3

log = EventLog("operations.demo")


def run(count: int, wallets: int, *, keep: bool, as_json: bool) -> int:
    """Run the demo and print its figures; returns 0 if every check passed, otherwise Stopped's exit code.

    `keep` leaves what it made, and a pipeline that goes on, with a console.
    """
    settings = _somewhere()
    began = time.monotonic()
    with _alone(), stopping_on_signals():
        running.stop(NOTES)
        _remove_old(settings)
        demo = Run(_new_pipeline(settings), count)
        folder = FOLDER.absolute() / demo.settings.prefix
        folder.mkdir(parents=True)
        log.info("logs_of_the_children", folder=folder)
        results = _through(demo, Mix(wallets=wallets, bad=0.03, duplicates=0.02), folder)
        took_s, console_at = time.monotonic() - began, None
        if not as_json:
            show_figures(demo, results, took_s)
        if not results.passed:
            log.error("checks_failed", logs=folder, prefix=demo.settings.prefix)
        elif keep:
            console_at = running.start(demo.settings, folder, NOTES)
            if not as_json:
                show_kept(demo.settings, console_at)
        else:
            _remove(settings, demo.settings.prefix)
    if as_json:
        typer.echo(as_line(as_fields(demo, results, took_s, console_at)))
    return 0 if results.passed else Stopped.exit_code


def stop(*, as_json: bool) -> None:
    """Stop the pipeline that a demo left running."""
    with _alone():
        count = running.stop(NOTES)
    if as_json:
        typer.echo(as_line({"stopped": count}))
        return
    typer.echo("the demo's pipeline is stopped" if count else "no demo's pipeline is running")


def _somewhere() -> Settings:
    """The configured servers, or else the local stack, which is started if needed."""
    settings = from_environment()
    logs.configure(settings.log_level)
    if context.is_placed(settings):
        context.refuse_earlier_stack(settings)
        return settings
    return context.at_stack(settings, Stack().up(lambda line: log.info("local_stack", step=line)))


def _new_pipeline(settings: Settings) -> Settings:
    """Settings of a new pipeline with its own database; it rejects overdrafts, to show that."""
    wait_for_kafka(settings)
    prefix = f"demo-{datetime.now(UTC).strftime(STAMP)}"
    own = databases.create(settings, prefix.replace("-", "_"))
    return own.model_copy(
        update={
            "prefix": prefix,
            "input": None,
            "overdraft": "reject",
            "state_dir": FOLDER.absolute() / prefix / "state",
            "session_timeout_s": 6.0,
        }
    )


def _alone() -> AbstractContextManager[None]:
    """One demo at a time in a folder: each removes what older ones left."""
    private(FOLDER, "the demo's folder")
    return locked(
        FOLDER / "lock",
        lambda _: Refused("another `wallet demo` is running in this folder: wait for it, or stop it"),
    )


def _remove_old(settings: Settings) -> None:
    """Remove what older demos left: topics, groups, databases and folders."""
    wait_for_kafka(settings)
    named = [_NAME.fullmatch(topic) for topic in quiet_admin(settings).list_topics(timeout=10).topics]
    named += [_DATABASE.fullmatch(name) for name in databases.names(settings)]
    named += [_NAME.fullmatch(path.name) for path in FOLDER.iterdir()]
    stamps = {found["stamp"].replace("_", "-") for found in named if found}
    latest = (datetime.now(UTC) - LEFT_BEHIND).strftime(STAMP)
    for stamp in sorted(stamps):
        if stamp < latest:
            log.info("removing_an_older_demo", stamp=stamp)
            _remove(settings, f"demo-{stamp}")


def _remove(settings: Settings, prefix: str) -> None:
    """Remove one demo's topics, groups, database and folder, as far as they exist."""
    client = quiet_admin(settings)
    topics = [name for name in client.list_topics(timeout=10).topics if name.startswith(f"{prefix}.")]
    answers = list(client.delete_topics(topics).values()) if topics else []
    groups = [prefix, *(f"{prefix}.sink.{sink}" for sink in WRITING)]
    answers += list(client.delete_consumer_groups(groups).values())
    for answer in answers:
        if (failure := answer.exception(30)) is not None:
            log.debug("left_in_kafka", reason=failure)
    databases.drop(settings, prefix.replace("-", "_"))
    shutil.rmtree(FOLDER / prefix, ignore_errors=True)


def _through(demo: Run, mix: Mix, folder: Path) -> Results:
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
        children.raise_if_ended()
    log.info("checking")
    report = verify.run(settings, Options())
    return Results(report, questions.counts(settings), questions.rejections_by_reason(settings))


def _until_posted(demo: Run, children: Children, worker: Child) -> None:
    """Follow the workers to the end of the input; kill the first one half-way."""
    settings = demo.settings
    client = quiet_admin(settings)
    ends = offsets(client, {Topics.of(settings).transactions: settings.partitions})
    total = sum(at.end for at in ends.values())

    def posted() -> int:
        children.raise_if_ended()
        done, now = group_offsets.handled(settings), time.monotonic()
        if done and not demo.began:
            demo.began = now
        if demo.killed and not demo.resumed and done > demo.killed_at:
            demo.resumed = now
        if not demo.killed and total // 2 <= done < total:
            children.kill(worker)
            demo.killed = time.monotonic()
            # A commit under way may still land; anything later is the second worker's.
            time.sleep(SETTLE_S)
            demo.killed_at = group_offsets.handled(settings)
            log.warning("worker_killed", done=done, of=total)
            children.start("second worker", "worker")
        return done

    until_done("posting", total, posted, stall_s=PATIENCE_S, stalled=_stalled)
    demo.posted = time.monotonic()


def _snapshots(settings: Settings) -> int:
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
        children.raise_if_ended()
        return _rows(demo.settings)

    until_done("writing rows", total, written, stall_s=PATIENCE_S, stalled=_stalled)


def _stalled(done: int) -> Stopped:
    return Stopped(f"no progress for {PATIENCE_S:g} s, stuck at {done}: see the logs in {FOLDER}")


def _rows(settings: Settings) -> int:
    rows = questions.counts(settings)
    return sum(rows[table] for table in ("transactions", "transaction_snapshots", "rejections"))
