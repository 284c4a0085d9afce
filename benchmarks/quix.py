"""Quix Streams beside us, where somebody has installed it; it is no dependency of ours.

    python -m venv /somewhere && /somewhere/bin/pip install quixstreams fastavro
    python -m benchmarks --quix /somewhere/bin/python

This file is run by that interpreter: of the project it imports nothing. Its arguments are those of
`benchmarks.plain_faust`; partitions need not be told.
"""

import json
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

HEADER_BYTES = 5
ENTRY_HEADER = b"\0\0\0\0\2"
SCHEMAS = Path(__file__).parents[1] / "schemas"


def is_installed(python: str) -> bool:
    """Whether that interpreter can import it."""
    asked = subprocess.run([python, "-c", "import quixstreams, fastavro"], capture_output=True, check=False)
    return asked.returncode == 0


def main(kafka: str, prefix: str, folder: str) -> None:
    """Decode, keep balance and sequence in the state, send an entry; at least once, until killed."""
    import fastavro  # noqa: PLC0415 - only where it is to be measured
    from quixstreams import Application  # type: ignore[import-not-found]  # noqa: PLC0415 - no dependency

    transaction_schema, entry_schema = (
        fastavro.parse_schema(json.loads((SCHEMAS / name / "v1.avsc").read_text()))
        for name in ("transaction", "ledger_entry")
    )

    def enter(value: bytes, _key: Any, timestamp: int, _headers: Any, state: Any) -> bytes:
        transaction: Any = fastavro.schemaless_reader(BytesIO(value[HEADER_BYTES:]), transaction_schema, None)
        balance, sequence = state.get("balance", [0, 0])
        sign = 1 if transaction["type"] == "CREDIT" else -1
        balance, sequence = balance + sign * transaction["amount"], sequence + 1
        state.set("balance", [balance, sequence])
        body = BytesIO()
        entry = {
            "transaction": transaction,
            "sequence": sequence,
            "balance": balance,
            "recorded_at": timestamp,
            "source_partition": 0,
            "source_offset": 0,
            "hash": bytes(32),
        }
        fastavro.schemaless_writer(body, entry_schema, entry)
        return ENTRY_HEADER + body.getvalue()

    app = Application(
        broker_address=kafka,
        consumer_group=prefix,
        auto_offset_reset="earliest",
        state_dir=folder,
        loglevel="WARNING",
    )
    source = app.topic(f"{prefix}.transactions", key_deserializer="bytes", value_deserializer="bytes")
    output = app.topic(f"{prefix}.output", key_serializer="bytes", value_serializer="bytes")
    frames = app.dataframe(source)
    frames.apply(enter, stateful=True, metadata=True).to_topic(output)
    app.run()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[4])
