"""clients/vectors: the same bytes for the pipeline's codec, the audit's, and the client that others import."""

import ast
import json
import sys
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import wallet_client
from wallet_client.records import _EPOCH, FRAME_BYTES, NO_HASH

from audit import avro
from schemas.codec import decode_entry, decode_transaction, encode_entry, encode_transaction, frame
from schemas.native.balances import decode_balance
from schemas.partitioner import partition_of
from schemas.records import TYPES, Transaction
from schemas.versions import FIXED_IDS
from tests.vectors import PATH, made

VECTORS: list[dict[str, Any]] = json.loads(PATH.read_text())["vectors"]
Vector = dict[str, Any]

every = pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])


def test_the_file_is_what_the_audits_writer_makes() -> None:
    assert json.loads(PATH.read_text()) == made(), "python -m tests.vectors writes it anew"


@every
def test_the_pipelines_codec_writes_and_reads_these_bytes(vector: Vector) -> None:
    told, entry = vector["transaction"], vector["entry"]
    one = Transaction(
        told["transaction_id"],
        told["wallet_id"],
        TYPES.index(told["type"]),
        int(told["amount"]),
        told["currency"],
        int(told["occurred_at_us"]),
        told["group_id"],
        tuple((name, value) for name, value in told["metadata"]),
    )
    value = bytes.fromhex(vector["value"])
    assert frame(FIXED_IDS.transaction) + encode_transaction(one) == value
    assert decode_transaction(value[FRAME_BYTES:]) == one
    for partitions, partition in vector["partitions"].items():
        assert partition_of(one.wallet_id.encode(), int(partitions)) == partition
    numbers = [
        int(entry[name])
        for name in ("sequence", "balance", "recorded_at_ms", "source_partition", "source_offset")
    ]
    sequence, balance, recorded_ms, partition, offset = numbers
    body = encode_entry(encode_transaction(one), sequence, balance, recorded_ms, partition, offset)
    link = sha256(bytes.fromhex(entry["previous_hash"]) + body).digest()
    written = bytes.fromhex(entry["value"])
    assert frame(FIXED_IDS.ledger_entry) + body + link == written
    assert decode_entry(written[FRAME_BYTES:]).hash.hex() == entry["hash"] == link.hex()
    assert decode_balance(bytes.fromhex(vector["balance"])[FRAME_BYTES:]).hash == link
    assert avro.read_entry(written[FRAME_BYTES:]).balance == int(entry["balance"])


@every
def test_the_client_writes_and_reads_these_bytes(vector: Vector) -> None:
    told, entry = vector["transaction"], vector["entry"]
    one = wallet_client.Transaction(
        transaction_id=told["transaction_id"],
        wallet_id=told["wallet_id"],
        type=told["type"],
        amount=int(told["amount"]),
        currency=told["currency"],
        occurred_at=_EPOCH + timedelta(microseconds=int(told["occurred_at_us"])),
        group_id=told["group_id"],
        metadata=dict(told["metadata"]),
    )
    assert one.broken_rule() is None
    assert one.encode().hex() == vector["value"][2 * FRAME_BYTES :]
    read = wallet_client.read_entry(bytes.fromhex(entry["value"]))
    assert read.transaction == one
    assert (read.sequence, read.balance) == (int(entry["sequence"]), int(entry["balance"]))
    assert read.follows(bytes.fromhex(entry["previous_hash"]))
    assert not read.follows(read.hash)
    assert wallet_client.read_balance(bytes.fromhex(vector["balance"])).hash == read.hash


@every
def test_what_is_damaged_is_told(vector: Vector) -> None:
    value = bytes.fromhex(vector["entry"]["value"])
    for cut in range(FRAME_BYTES, len(value)):
        with pytest.raises(wallet_client.Undecodable):
            wallet_client.read_entry(value[:cut])
    with pytest.raises(wallet_client.Undecodable):
        wallet_client.read_entry(value + b"\0")


def test_what_the_ledger_would_reject_is_told_before_it_is_sent() -> None:
    good = {
        "transaction_id": "0b0e7d3c-2f65-4c6f-9d5e-000000000001",
        "wallet_id": "alice",
        "type": "CREDIT",
        "amount": 1,
        "currency": "EUR",
        "occurred_at": _EPOCH,
    }
    assert wallet_client.Transaction(**good).broken_rule() is None  # type: ignore[arg-type] # a good one
    for name, bad in (
        ("transaction_id", "0B0E7D3C-2F65-4C6F-9D5E-000000000001"),
        ("wallet_id", ""),
        ("wallet_id", "x" * 129),
        ("wallet_id", "a\0"),
        ("type", "credit"),
        ("amount", 0),
        ("amount", True),
        ("amount", 2**63),
        ("currency", "eur"),
        ("occurred_at", _EPOCH.replace(tzinfo=None)),
        ("group_id", ""),
        ("metadata", {"a": "\0"}),
    ):
        broken = wallet_client.Transaction(**good | {name: bad}).broken_rule()  # type: ignore[arg-type] # a bad one
        assert broken is not None, (name, bad)


def test_the_client_imports_nothing_of_the_service() -> None:
    package = Path(wallet_client.__file__).parent
    names = {
        alias.name if isinstance(node, ast.Import) else str(node.module)
        for path in package.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    others = {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names)
    assert others == {"wallet_client", "confluent_kafka"}
    assert bytes(32) == NO_HASH
