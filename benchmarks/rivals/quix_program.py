"""The wallet on Quix Streams: KAFKA INPUT PREFIX PARTITIONS FOLDER, exactly once.

It is run by an interpreter that has quixstreams and fastavro only (`quix.py`). The state of a wallet,
in RocksDB with a changelog, holds its balance and the ids that it knows.
"""

import sys
from pathlib import Path
from typing import Any

from quixstreams import Application, message_context  # type: ignore[import-not-found]  # in its own environment

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.rivals import wallet

#: Each commit is a Kafka transaction, by default one every 5 s, which would be too coarse to measure by.
COMMIT_INTERVAL_S = 1.0


Rejected = tuple[str, bytes]


def post(value: bytes, _key: bytes, timestamp: int, _headers: Any, state: Any) -> bytes | Rejected:
    """The entry of a transaction, or why it has none together with its bytes. The state is that of the wallet."""
    transaction = wallet.transaction_in(value)
    known = transaction["transaction_id"]
    if state.get_bytes(known) is not None:
        return "DUPLICATE", value
    at = message_context()
    posted = wallet.post(transaction, state.get_bytes("balance"), timestamp, at.partition, at.offset)
    if isinstance(posted, str):
        return posted, value
    state.set_bytes(known, posted.sequence.to_bytes(8, "big"))
    state.set_bytes("balance", posted.balance)
    return posted.entry


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
