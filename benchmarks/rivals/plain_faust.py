"""The wallet on plain Faust, as its documentation shows it: an agent and two tables, at least once.

    python -m benchmarks.rivals.plain_faust KAFKA INPUT PREFIX PARTITIONS FOLDER

Its tables are in memory, which is their fastest, with changelogs in Kafka. What it writes is right as long as it is
not restarted.
"""

import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import faust
from faust.app.base import BootStrategy
from faust.types import EventT, StreamT

from benchmarks.rivals import wallet
from benchmarks.rivals.rival import Ready, Rival
from local.server import Progress

Tables = Sequence[Any]


class WithoutWeb(BootStrategy):
    """Starts no web server: it would bind a port of every interface."""

    enable_web = False


class App(faust.App):
    """Faust as it comes."""

    BootStrategy = WithoutWeb


def post(event: EventT[Any], tables: Tables) -> bytes | str:
    """The entry of a transaction, or why it has none."""
    balances, ids = tables
    message = event.message
    transaction = wallet.transaction_in(message.value or b"")
    known = message.key + transaction["transaction_id"].encode()
    if known in ids:
        return "DUPLICATE"
    at_ms = round(message.timestamp * 1000)
    posted = wallet.post(transaction, balances.get(message.key), at_ms, message.partition, message.offset)
    if isinstance(posted, str):
        return posted
    ids[known] = posted.sequence.to_bytes(8, "big")
    balances[message.key] = posted.balance
    return posted.entry


def create_app(kafka: str, source: str, prefix: str, partitions: int, folder: str) -> App:
    """The app; its changelogs are made when it starts."""
    app = App(
        prefix,
        broker=f"kafka://{kafka}",
        topic_partitions=partitions,
        topic_replication_factor=1,
        store="memory://",
        datadir=folder,
        # Progress is read from what it commits, every 2.8 s by itself.
        broker_commit_interval=0.5,
        producer_compression_type="lz4",
        producer_linger=0.02,
    )
    transactions = app.topic(source, key_serializer="raw", value_serializer="raw")
    ledger, rejections = (
        app.topic(f"{prefix}.{name}", key_serializer="raw", value_serializer="raw")
        for name in ("ledger", "rejections")
    )
    tables = tuple(app.Table(name, key_type=bytes, value_type=bytes) for name in ("balances", "ids"))

    @app.agent(transactions)
    async def post_each(values: StreamT[bytes]) -> None:
        async for event in values.events():
            outcome = post(event, tables)
            if isinstance(outcome, bytes):
                await ledger.send(key=event.key, value=outcome)
            else:
                at = event.message
                headers = {
                    "rejection.reason": outcome.encode(),
                    "rejection.partition": b"%d" % at.partition,
                    "rejection.offset": b"%d" % at.offset,
                }
                await rejections.send(key=event.key, value=event.value, headers=headers)

    return app


def prepare(_cache: Path, _progress: Progress) -> Ready:
    """Nothing is to be prepared: it is what the worker is built on."""
    command = (sys.executable, "-m", "benchmarks.rivals.plain_faust")
    return Ready(command, {"faust-streaming": version("faust-streaming")})


RIVAL = Rival(
    "plain Faust",
    "at least once",
    10_000,
    "{prefix}-balances-changelog",
    prepare,
    # It makes them itself, but may begin before it has heard of them, and then loses events.
    ("{prefix}-balances-changelog", "{prefix}-ids-changelog"),
)


if __name__ == "__main__":
    kafka, source, prefix, partitions, folder = sys.argv[1:]
    app = create_app(kafka, source, prefix, int(partitions), folder)
    faust.Worker(app, loglevel="WARN").execute_from_commandline()
