"""Writes clients/vectors/ledger.json: transactions and the bytes, partitions, entries and hashes that they become.

`python -m tests.vectors`. By the audit's writer, which shares nothing with the pipeline's.
"""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

from confluent_kafka import murmur2

from audit import avro
from audit.contract import CREDIT, DEBIT, FIRST_US, LARGEST, LAST_US, NO_HASH, Balance, Transaction

PATH = Path(__file__).parents[1] / "clients" / "vectors" / "ledger.json"
PARTITIONS = (1, 4, 12, 50)
TYPES = ("CREDIT", "DEBIT")
ID = "0b0e7d3c-2f65-4c6f-9d5e-00000000000{}"
#: One wallet after the other, each a chain of its own.
TRANSACTIONS = {
    "a credit": Transaction(ID.format(1), "alice", CREDIT, 10_000, "EUR", 1_763_802_000_000_000),
    "a debit in a group": Transaction(
        ID.format(2),
        "alice",
        DEBIT,
        2_550,
        "EUR",
        1_763_802_300_000_001,
        "rent",
        (("note", "a"), ("by", "phone")),
    ),
    "metadata in another order": Transaction(
        ID.format(3), "alice", CREDIT, 1, "EUR", 0, None, (("b", ""), ("a", "\u20ac \U0001f4b6"))
    ),
    "the smallest": Transaction(ID.format(4), "w", CREDIT, 1, "AAA", FIRST_US),
    "the largest": Transaction(
        ID.format(5), "\u8ca1\u5e03" * 64, CREDIT, LARGEST, "ZZZ", LAST_US, "\u00e4" * 128
    ),
    "a text of 64 bytes": Transaction(
        ID.format(6), "x" * 64, DEBIT, 64, "USD", -1, None, (("k" * 63, "v" * 64),)
    ),
}


def made() -> dict[str, Any]:
    """What the file holds."""
    vectors: list[dict[str, Any]] = []
    newest: dict[str, Balance] = {}
    for at, (name, one) in enumerate(TRANSACTIONS.items()):
        body, key = avro.write_transaction(one), one.wallet_id.encode()
        before = newest.get(one.wallet_id)
        balance = (before.balance if before else 0) + one.signed
        sequence, recorded_ms = (before.sequence if before else 0) + 1, 1_763_802_000_000 + at
        numbers = (sequence, balance, recorded_ms, murmur2(key, 12), 100 + at)
        entry = body + b"".join(map(avro.long, numbers))
        link = sha256((before.hash if before else NO_HASH) + entry).digest()
        after = Balance(
            one.wallet_id, one.currency, balance, sequence, recorded_ms, numbers[3], numbers[4], link
        )
        newest[one.wallet_id] = after
        vectors.append(
            {
                "name": name,
                "transaction": {
                    "transaction_id": one.transaction_id,
                    "wallet_id": one.wallet_id,
                    "type": TYPES[one.type],
                    "amount": str(one.amount),
                    "currency": one.currency,
                    "occurred_at_us": str(one.occurred_us),
                    "group_id": one.group_id,
                    "metadata": [list(pair) for pair in one.metadata],
                },
                "key": key.hex(),
                "partitions": {str(count): murmur2(key, count) for count in PARTITIONS},
                "value": (b"\0\0\0\0\1" + body).hex(),
                "entry": {
                    "sequence": str(sequence),
                    "balance": str(balance),
                    "recorded_at_ms": str(recorded_ms),
                    "source_partition": numbers[3],
                    "source_offset": str(numbers[4]),
                    "previous_hash": (before.hash if before else NO_HASH).hex(),
                    "hash": link.hex(),
                    "value": (b"\0\0\0\0\2" + entry + link).hex(),
                },
                "balance": (b"\0\0\0\0\3" + avro.write_balance(after)).hex(),
            }
        )
    about = "64-bit numbers are strings, bytes hexadecimal; schema ids are those without a registry"
    return {"about": about, "vectors": vectors}


def main() -> None:
    """Write the file."""
    PATH.parent.mkdir(parents=True, exist_ok=True)
    PATH.write_text(json.dumps(made(), indent=1, ensure_ascii=True) + "\n")


if __name__ == "__main__":
    main()
