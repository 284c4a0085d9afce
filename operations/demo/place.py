"""Where a demo runs: its servers, and a prefix and database of its own, which are removed afterwards."""

import re
import shutil
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from config import logs
from config.errors import Refused
from config.folders import locked, private
from config.logs import EventLog
from config.settings import Settings, from_environment
from local.stack import Stack
from operations.cli import context
from sinks.postgres import databases
from topics.cluster import quiet_admin, wait_for_kafka

FOLDER = Path(".local/demo")
#: The process ids of the pipeline that a demo left running.
NOTES = FOLDER / "running.json"
STAMP = "%Y%m%d-%H%M%S"
_NAME = re.compile(r"demo-(?P<stamp>\d{8}-\d{6})(\..+)?")
_DATABASE = re.compile(r"demo_(?P<stamp>\d{8}_\d{6})")
#: Leftovers of other demos are removed once they are older than any demo runs.
LEFT_BEHIND = timedelta(minutes=15)

log = EventLog("operations.demo")


def somewhere() -> Settings:
    """The configured servers, or else the local stack, which is started if needed."""
    settings = from_environment()
    logs.configure(settings.log_level)
    if context.is_placed(settings):
        context.refuse_earlier_stack(settings)
        return settings
    return context.at_stack(settings, Stack().up(lambda line: log.info("local_stack", step=line)))


def new_pipeline(settings: Settings) -> Settings:
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


def alone() -> AbstractContextManager[None]:
    """One demo at a time in a folder: each removes what older ones left."""
    private(FOLDER, "the demo's folder")
    return locked(
        FOLDER / "lock",
        lambda _: Refused("another `wallet demo` is running in this folder: wait for it, or stop it"),
    )


def remove_old(settings: Settings) -> None:
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
            remove(settings, f"demo-{stamp}")


def remove(settings: Settings, prefix: str) -> None:
    """Remove one demo's topics, groups, database and folder, as far as they exist."""
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
