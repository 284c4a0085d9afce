"""The wallet on plain Faust, as its documentation shows it: an agent and two tables, at least once.

    python -m benchmarks.rivals.plain_faust KAFKA INPUT PREFIX PARTITIONS FOLDER

Its tables are in memory, which is their fastest, with changelogs in Kafka. What it writes is right as long as it is
not restarted.
"""

import hashlib
import json
import sys
from collections.abc import Sequence
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import faust
from faust.app.base import BootStrategy
from faust.types import EventT, StreamT

from benchmarks.rivals.rival import Ready, Rival
from local.progress import Progress
from schemas.codec import HASH_BYTES, HEADER_BYTES, NO_HASH, frame
from schemas.versions import FIXED_IDS, schema_text

TRANSACTION, ENTRY, BALANCE = (
    fastavro.parse_schema(json.loads(schema_text(name)))
    for name in ("transaction", "ledger_entry", "balance")
)
ENTRY_HEADER, BALANCE_HEADER = frame(FIXED_IDS.ledger_entry), frame(FIXED_IDS.balance)
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
    body = BytesIO((message.value or b"")[HEADER_BYTES:])
    transaction: Any = fastavro.schemaless_reader(body, TRANSACTION, None)
    known = message.key + transaction["transaction_id"].encode()
    if known in ids:
        return "DUPLICATE"
    before = balances.get(message.key)
    last: Any = (
        fastavro.schemaless_reader(BytesIO(before[HEADER_BYTES:]), BALANCE, None)
        if before
        else {"balance": 0, "sequence": 0, "hash": NO_HASH, "currency": transaction["currency"]}
    )
    if last["currency"] != transaction["currency"]:
        return "CURRENCY_MISMATCH"
    sign = 1 if transaction["type"] == "CREDIT" else -1
    balance, sequence = last["balance"] + sign * transaction["amount"], last["sequence"] + 1
    if not -(2**63) <= balance < 2**63:
        return "OVERFLOW"
    numbers = {
        "balance": balance,
        "sequence": sequence,
        "recorded_at": round(message.timestamp * 1000),
        "source_partition": message.partition,
        "source_offset": message.offset,
    }
    out = BytesIO()
    fastavro.schemaless_writer(out, ENTRY, {"transaction": transaction, "hash": NO_HASH, **numbers})
    entry = out.getvalue()[:-HASH_BYTES]  # the hash is last
    chained = hashlib.sha256(last["hash"] + entry).digest()
    out = BytesIO()
    owner = {"wallet_id": transaction["wallet_id"], "currency": transaction["currency"], "hash": chained}
    fastavro.schemaless_writer(out, BALANCE, owner | numbers)
    ids[known] = sequence.to_bytes(8, "big")
    balances[message.key] = BALANCE_HEADER + out.getvalue()
    return ENTRY_HEADER + entry + chained


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
    async def wallet(values: StreamT[bytes]) -> None:
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
