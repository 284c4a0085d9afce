"""The wallet on Quix Streams: KAFKA INPUT PREFIX PARTITIONS FOLDER, exactly once.

It is run by an interpreter that has quixstreams (`quix.py`): of the project it imports nothing. The state of a wallet,
in RocksDB with a changelog, holds its balance and the ids that it knows.
"""

import hashlib
import json
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
from quixstreams import Application, message_context  # type: ignore[import-not-found]  # in its own environment

HEADER_BYTES = 5
ENTRY_HEADER = b"\0\0\0\0\2"
BALANCE_HEADER = b"\0\0\0\0\3"
HASH_BYTES = 32
NO_HASH = bytes(HASH_BYTES)
SCHEMAS = Path(__file__).parents[2] / "schemas"
TRANSACTION, ENTRY, BALANCE = (
    fastavro.parse_schema(json.loads((SCHEMAS / name / "v1.avsc").read_text()))
    for name in ("transaction", "ledger_entry", "balance")
)
#: Each commit is a Kafka transaction, by default one every 5 s, which would be too coarse to measure by.
COMMIT_INTERVAL_S = 1.0


Rejected = tuple[str, bytes]


def post(value: bytes, _key: bytes, timestamp: int, _headers: Any, state: Any) -> bytes | Rejected:
    """The entry of a transaction, or why it has none together with its bytes. The state is that of the wallet."""
    transaction: Any = fastavro.schemaless_reader(BytesIO(value[HEADER_BYTES:]), TRANSACTION, None)
    known = transaction["transaction_id"]
    if state.get_bytes(known) is not None:
        return "DUPLICATE", value
    before = state.get_bytes("balance")
    last: Any = (
        fastavro.schemaless_reader(BytesIO(before[HEADER_BYTES:]), BALANCE, None)
        if before
        else {"balance": 0, "sequence": 0, "hash": NO_HASH, "currency": transaction["currency"]}
    )
    if last["currency"] != transaction["currency"]:
        return "CURRENCY_MISMATCH", value
    sign = 1 if transaction["type"] == "CREDIT" else -1
    balance, sequence = last["balance"] + sign * transaction["amount"], last["sequence"] + 1
    if not -(2**63) <= balance < 2**63:
        return "OVERFLOW", value
    at = message_context()
    numbers = {
        "balance": balance,
        "sequence": sequence,
        "recorded_at": timestamp,
        "source_partition": at.partition,
        "source_offset": at.offset,
    }
    out = BytesIO()
    fastavro.schemaless_writer(out, ENTRY, {"transaction": transaction, "hash": NO_HASH, **numbers})
    entry = out.getvalue()[:-HASH_BYTES]  # the hash is last
    chained = hashlib.sha256(last["hash"] + entry).digest()
    out = BytesIO()
    owner = {"wallet_id": transaction["wallet_id"], "currency": transaction["currency"], "hash": chained}
    fastavro.schemaless_writer(out, BALANCE, owner | numbers)
    state.set_bytes(known, sequence.to_bytes(8, "big"))
    state.set_bytes("balance", BALANCE_HEADER + out.getvalue())
    return ENTRY_HEADER + entry + chained


def main(kafka: str, source: str, prefix: str, folder: str) -> None:
    """Run until SIGTERM."""
    app = Application(
        broker_address=kafka,
        consumer_group=prefix,
        auto_offset_reset="earliest",
        state_dir=folder,
        loglevel="WARNING",
        processing_guarantee="exactly-once",
        commit_interval=COMMIT_INTERVAL_S,
        producer_extra_config={"compression.type": "lz4", "linger.ms": 100},
    )
    transactions = app.topic(source, key_deserializer="bytes", value_deserializer="bytes")
    ledger, rejections = (
        app.topic(f"{prefix}.{name}", key_serializer="bytes", value_serializer="bytes")
        for name in ("ledger", "rejections")
    )
    outcomes = app.dataframe(transactions).apply(post, stateful=True, metadata=True)
    outcomes.filter(lambda outcome: type(outcome) is bytes).to_topic(ledger)
    rejected = outcomes.filter(lambda outcome: type(outcome) is tuple)
    rejected.set_headers(_because).apply(lambda outcome: outcome[1]).to_topic(rejections)
    app.run()


def _because(outcome: Rejected, _key: Any, _timestamp: int, headers: Any) -> list[tuple[str, bytes]]:
    at = message_context()
    return [
        *(headers or []),
        ("rejection.reason", outcome[0].encode()),
        ("rejection.partition", b"%d" % at.partition),
        ("rejection.offset", b"%d" % at.offset),
    ]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[5])
