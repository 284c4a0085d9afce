"""A live pipeline that has worked, databases for its shadows, and a picture of everything that it holds."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from config.settings import Settings
from operations.rebuild.place import Policies, Rebuild, find
from operations.sending.delivery import deliver
from operations.sending.generating import fitted
from operations.sending.generator import Mix, records
from operations.setup.init import initialise
from sinks.postgres import databases
from tests.integration.verify_copies import decide, write_rows
from tests.reading import incoming, read_all
from topics import group_offsets
from topics.cluster import describe, quiet_admin
from topics.names import Topics

TABLES = ("wallets", "transactions", "transaction_snapshots", "rejections", "sink_positions")


@contextmanager
def live(settings: Settings, folder: Path, count: int, *, posted: bool = True) -> Iterator[Settings]:
    """A pipeline that allows overdrafts, with mixed input, and with all of it posted and written."""
    name = f"{settings.prefix.replace('-', '_')}_shadow"
    shadow = databases.create(settings, name)
    settings = settings.model_copy(
        update={
            "rebuild_postgres": shadow.postgres,
            "rebuild_prefix": f"{settings.prefix}.shadow",
            "max_record_bytes": 2_048,
            "partitions": 2,
        }
    )
    try:
        pipeline = initialise(settings).pipeline
        mix = fitted(Mix(wallets=100, bad=0.06, duplicates=0.03, seed=11), pipeline)
        deliver(settings, records(count, mix), lambda _: None)
        if posted:
            post(settings, folder, count)
        yield settings
    finally:
        databases.drop(settings, name)


def post(settings: Settings, folder: Path, count: int) -> None:
    """Run a worker and the sinks until so many records are decided and written."""
    decide(settings, folder, count)
    write_rows(settings)


def place(settings: Settings, **policies: object) -> Rebuild:
    """The live pipeline and its shadow."""
    return find(settings, None, Policies(**policies))  # type: ignore[arg-type] # as they are on the command line


def picture(settings: Settings) -> dict[str, object]:
    """Every record and setting of the live topics, the group's offsets, and every row of the tables."""
    names, client = Topics.of(settings), quiet_admin(settings)
    topics = (*names.partitioned, names.pipeline)
    found: dict[str, object] = {
        topic: sorted(map(incoming, read_all(settings, topic, 1 if topic == names.pipeline else 2)), key=repr)
        for topic in topics
    }
    found["settings"] = describe(client, topics)
    found["offsets"] = group_offsets.offsets(settings, names.transactions, range(settings.partitions))
    with psycopg.connect(settings.postgres.get_secret_value()) as connection:
        for table in TABLES:
            found[table] = sorted(connection.execute(f"SELECT t::text FROM {table} AS t").fetchall())  # noqa: S608 - our own names
    return found
