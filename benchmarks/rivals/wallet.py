"""What a wallet's transaction becomes, by fastavro: the arithmetic that the rivals in Python share.

Needs fastavro and the schemas only, so that an interpreter without the project's dependencies can import it.
"""

import hashlib
import json
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import fastavro

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


class Posted(NamedTuple):
    """The values of the ledger's record and of the newest balance, and the wallet's sequence."""

    entry: bytes
    balance: bytes
    sequence: int


def transaction_in(value: bytes) -> Any:
    """The transaction of a record's value."""
    return fastavro.schemaless_reader(BytesIO(value[HEADER_BYTES:]), TRANSACTION, None)


def post(transaction: Any, before: bytes | None, at_ms: int, partition: int, offset: int) -> Posted | str:
    """What becomes of a transaction whose id is new; `before` is the wallet's newest balance. Or why it is rejected."""
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
        "recorded_at": at_ms,
        "source_partition": partition,
        "source_offset": offset,
    }
    out = BytesIO()
    fastavro.schemaless_writer(out, ENTRY, {"transaction": transaction, "hash": NO_HASH, **numbers})
    entry = out.getvalue()[:-HASH_BYTES]  # the hash is last
    chained = hashlib.sha256(last["hash"] + entry).digest()
    out = BytesIO()
    owner = {"wallet_id": transaction["wallet_id"], "currency": transaction["currency"], "hash": chained}
    fastavro.schemaless_writer(out, BALANCE, owner | numbers)
    return Posted(ENTRY_HEADER + entry + chained, BALANCE_HEADER + out.getvalue(), sequence)
