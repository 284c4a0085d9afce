"""`wallet demo`: the whole pipeline on mixed input, its worker killed half-way, and every balance checked."""

import contextlib
import fcntl
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from types import FrameType
from typing import TypeVar

from config import logs
from config.cluster import offsets, quiet_admin, wait_for_kafka
from config.errors import Refused, Stopped
from config.logs import EventLog
from config.settings import Settings
from config.topics import Topics
from local.stack import Stack
from operations import checks, context, demo_table, generating, init, status
from operations.children import Child, Children
from operations.generator import Mix, records
from operations.output import progress
from sinks import databases, postgres

T = TypeVar("T")

FOLDER = Path(".local/demo")
STAMP = "%Y%m%d-%H%M%S"
_NAME = re.compile(r"demo-(?P<stamp>\d{8}-\d{6})(\..+)?")
_DATABASE = re.compile(r"demo_(?P<stamp>\d{8}_\d{6})")
#: What another demo left is removed when it is older than any demo runs.
LEFT_BEHIND = timedelta(minutes=15)
#: Without any progress for so many seconds the demo gives up; a takeover takes a session time-out.
PATIENCE_S = 60.0
LOOK_EVERY_S = 0.1

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
    settings = _somewhere()
    began = time.monotonic()
    with _alone(), _stopping_on_signals():
        _remove_old(settings)
        demo = Run(_own(settings), count)
        folder = FOLDER.absolute() / demo.settings.prefix
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
            _remove(settings, demo.settings.prefix)
    return 0


def _through(demo: Run, mix: Mix, folder: Path) -> demo_table.Results:
    """Initialise, send, run until all is through with a kill on the way, and check."""
    settings = demo.settings
    log.info("initialising", prefix=settings.prefix)
    pipeline = init.initialise(settings).pipeline
    with _in_background() as background, Children(context.environment(settings), folder) as children:
        children.start("sink", "sink", "all")
        worker = children.start("worker", "worker")
        mix = generating.fitted(mix, pipeline)
        with progress("sending", demo.count) as advance:
            generating.deliver(settings, records(demo.count, mix), advance)
        # All input is there, so it can be folded while the pipeline works.
        folding = background(lambda stop: checks.expect(settings, stop))
        _until_posted(demo, children, worker)
        expected = folding.result()
        _until_written(demo, children, expected)
        log.info("checking")
        found = checks.check_topics(settings, expected)
        children.check()
    found += checks.check_postgres(settings, expected)
    return demo_table.Results(expected, found, postgres.counts(settings))


@contextlib.contextmanager
def _in_background() -> Iterator[Callable[[Callable[[Event], T]], Future[T]]]:
    """Runs one function in a thread, which is told to stop when we leave."""
    stop = Event()
    with ThreadPoolExecutor(1) as pool:
        try:
            yield lambda work: pool.submit(work, stop)
        finally:
            stop.set()


def _until_posted(demo: Run, children: Children, worker: Child) -> None:
    """Follow the workers to the end of the input, killing the first half-way."""
    settings = demo.settings
    client = quiet_admin(settings)
    ends = offsets(client, {Topics.of(settings).transactions: settings.partitions})
    total = sum(at.end for at in ends.values())
    watch = _Patience()
    with progress("posting", total) as advance:
        while (
            done := sum(at or 0 for at in status.committed(client, settings, settings.partitions))
        ) < total:
            children.check()
            watch.see(done)
            advance(done)
            if done and not demo.began:
                demo.began = time.monotonic()
            if demo.killed and not demo.resumed and done > demo.killed_at:
                demo.resumed = time.monotonic()
            if not demo.killed and done >= total // 2:
                children.kill(worker)
                demo.killed, demo.killed_at = time.monotonic(), done
                log.warning("worker_killed", done=done, of=total)
                children.start("second worker", "worker")
            time.sleep(LOOK_EVERY_S)
        advance(total)
    demo.posted = time.monotonic()


def _until_written(demo: Run, children: Children, expected: checks.Expected) -> None:
    """Follow the sinks until every row is there."""
    total = expected.posted + sum(expected.reasons.values()) + expected.snapshots
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


# -- a place of its own


def _somewhere() -> Settings:
    """The configured servers, or the local stack, started if it is not up."""
    settings = context.from_environment()
    logs.configure(settings.log_level)
    if {"kafka", "postgres"} & settings.model_fields_set:
        return settings
    places = Stack().up(lambda line: log.info("local_stack", step=line))
    return settings.model_copy(update=context.local_places(settings, places.kafka, places.postgres))


def _own(settings: Settings) -> Settings:
    """Settings of a new pipeline with a database of its own, where overdrafts are rejected to show it."""
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


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One demo at a time in a folder: the next one removes what older ones left."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused("another `wallet demo` runs in this folder: wait for it, or stop it") from None
        yield


@contextlib.contextmanager
def _stopping_on_signals() -> Iterator[None]:
    """Being told to end, or losing the terminal, ends the children as Ctrl-C does."""

    def stop(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, action in before.items():
            signal.signal(number, action)


def _remove_old(settings: Settings) -> None:
    """Remove what older demos left behind: topics, groups, databases and folders under their names."""
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
    """Remove one demo's topics, groups, database and folder; what is gone already is no error."""
    client = quiet_admin(settings)
    topics = [name for name in client.list_topics(timeout=10).topics if name.startswith(f"{prefix}.")]
    answers = list(client.delete_topics(topics).values()) if topics else []
    groups = [prefix, *(f"{prefix}.sink.{sink}" for sink in ("ledger", "snapshots", "rejections"))]
    answers += list(client.delete_consumer_groups(groups).values())
    for answer in answers:
        if (failure := answer.exception(30)) is not None:
            log.debug("left_in_kafka", reason=failure)
    databases.drop(settings, prefix.replace("-", "_"))
    shutil.rmtree(FOLDER / prefix, ignore_errors=True)
