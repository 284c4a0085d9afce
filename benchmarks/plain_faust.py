"""Plain Faust: what its documentation shows, a table and an agent, at least once.

    python -m benchmarks.plain_faust KAFKA PREFIX PARTITIONS FOLDER

It decodes with fastavro, keeps balance and sequence in a table (in memory, which is its fastest, with a
changelog in Kafka) and sends an entry. It does less than our worker: it knows no duplicates, chains no
hashes, publishes no balance of its own, and is not exact.
"""

import json
import sys
from io import BytesIO
from typing import Any

import fastavro
import faust
from faust.app.base import BootStrategy
from faust.types import StreamT

from schemas.codec import HEADER_BYTES, frame
from schemas.versions import FIXED_IDS, schema_text

TRANSACTION = fastavro.parse_schema(json.loads(schema_text("transaction")))
ENTRY = fastavro.parse_schema(json.loads(schema_text("ledger_entry")))
HEADER = frame(FIXED_IDS.ledger_entry)
NO_HASH = bytes(32)


class WithoutWeb(BootStrategy):
    """Starts no web server: it would bind a port of every interface."""

    enable_web = False


class App(faust.App):
    """Faust as it comes."""

    BootStrategy = WithoutWeb


def create_app(kafka: str, prefix: str, partitions: int, folder: str) -> App:
    """The app; its changelog is made when it starts."""
    app = App(
        prefix,
        broker=f"kafka://{kafka}",
        topic_partitions=partitions,
        store="memory://",
        datadir=folder,
    )
    source = app.topic(f"{prefix}.transactions", key_serializer="raw", value_serializer="raw")
    output = app.topic(f"{prefix}.output", key_serializer="raw", value_serializer="raw")
    balances = app.Table("balances", default=lambda: [0, 0])

    @app.agent(source)
    async def ledger(values: StreamT[bytes]) -> None:
        async for event in values.events():
            transaction: Any = fastavro.schemaless_reader(
                BytesIO(event.value[HEADER_BYTES:]), TRANSACTION, None
            )
            wallet = transaction["wallet_id"]
            balance, sequence = balances[wallet]
            sign = 1 if transaction["type"] == "CREDIT" else -1
            balance, sequence = balance + sign * transaction["amount"], sequence + 1
            balances[wallet] = [balance, sequence]
            body = BytesIO()
            entry = {
                "transaction": transaction,
                "sequence": sequence,
                "balance": balance,
                "recorded_at": int(event.message.timestamp * 1000),
                "source_partition": event.message.partition,
                "source_offset": event.message.offset,
                "hash": NO_HASH,
            }
            fastavro.schemaless_writer(body, ENTRY, entry)
            await output.send(key=event.key, value=HEADER + body.getvalue())

    return app


if __name__ == "__main__":
    kafka, prefix, partitions, folder = sys.argv[1:]
    app = create_app(kafka, prefix, int(partitions), folder)
    faust.Worker(app, loglevel="WARN").execute_from_commandline()
