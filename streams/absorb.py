"""What a store takes over from the topics: balances as they are, and the id index from the entries."""

import re
from hashlib import sha256

from confluent_kafka import Message

from config.topics import Topics
from schemas.codec import content_digest, decode_balance, split_entry
from schemas.records import Balance
from streams.batch import posted_id
from streams.store import Cursor, PartitionStore
from streams.wallet import Known

#: Bytes of the wire format before the Avro body.
FRAME = 5

#: An entry of our own (so canonical and valid) with plain ASCII names of up to 63 characters and no metadata:
#: transaction id, group, recorded_at and source offset, found without building the records. Names end where a
#: control byte begins, so nothing else can match; what does not match is read field by field.
_PLAIN = re.compile(
    rb"H([0-9a-f-]{36}).[ -~]{1,63}+[\x00\x02]"  # transaction_id, wallet_id, type
    rb"[\x80-\xff]*+[\x00-\x7f]\x06[A-Z]{3}[\x80-\xff]*+[\x00-\x7f]"  # amount, currency, occurred_at
    rb"(?:\x00|\x02.[ -~]{1,63}+)\x00"  # group_id, no metadata
    rb"()[\x80-\xff]*+[\x00-\x7f][\x80-\xff]*+[\x00-\x7f]"  # here the transaction ends; sequence, balance
    rb"([\x80-\xff]*+[\x00-\x7f])[\x80-\xff]*+[\x00-\x7f]"  # recorded_at, source_partition
    rb"([\x80-\xff]*+[\x00-\x7f])"  # source_offset
    rb".{32}",
    re.DOTALL,
).fullmatch


def absorb(store: PartitionStore, topics: Topics, batch: list[Message]) -> None:
    """Take a stretch of a partition's `ledger` and `balances` over, with the cursor, in one write."""
    newest: dict[bytes, bytes] = {}
    ids: dict[bytes, Known] = {}
    ledger, changelog, source, recorded_ms = store.cursor
    for message in batch:
        key, value, offset = message.key(), message.value(), message.offset()
        if key is None or value is None or offset is None:
            continue
        if message.topic() == topics.ledger:
            posted, known, source_offset = _posted(key, value[FRAME:])
            ids[posted] = known
            ledger, source = offset + 1, source_offset + 1
            recorded_ms = max(recorded_ms, known.recorded_ms)
        else:
            newest[key] = value[FRAME:]
            changelog = offset + 1
    balances: dict[bytes, Balance] = {wallet: decode_balance(body) for wallet, body in newest.items()}
    # The ledger says both already, unless its older part was deleted.
    for balance in balances.values():
        source = max(source, balance.source_offset + 1)
        recorded_ms = max(recorded_ms, balance.recorded_ms)
    store.write(balances, ids, Cursor(ledger, changelog, source, recorded_ms))


def _posted(wallet: bytes, entry: bytes) -> tuple[bytes, Known, int]:
    """What the id index holds of an entry: key and value; and its source offset."""
    plain = _PLAIN(entry)
    if plain is None:
        parts = split_entry(entry)
        content = content_digest(parts.transaction_body, parts.transaction)
        known = Known(content, parts.recorded_ms)
        return posted_id(wallet, parts.transaction.transaction_id), known, parts.source_offset
    transaction_id, _, recorded_ms, source_offset = plain.groups()
    posted = wallet + b"\0" + bytes.fromhex(transaction_id.replace(b"-", b"").decode())
    known = Known(sha256(entry[: plain.start(2)]).digest(), _long(recorded_ms))
    return posted, known, _long(source_offset)


def _long(varint: bytes) -> int:
    """The number that a canonical varint holds."""
    zigzag = 0
    for byte in reversed(varint):
        zigzag = zigzag << 7 | byte & 127
    return zigzag >> 1 ^ -(zigzag & 1)
