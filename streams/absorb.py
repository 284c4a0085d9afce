"""What a store takes over from the topics: balances as they are, and the id index from the entries."""

from confluent_kafka import Message

from config.topics import Topics
from schemas.codec import content_digest, decode_balance, split_entry
from schemas.records import Balance
from streams.batch import posted_id
from streams.store import Cursor, PartitionStore
from streams.wallet import Known

#: Bytes of the wire format before the Avro body.
FRAME = 5


def absorb(store: PartitionStore, topics: Topics, batch: list[Message]) -> None:
    """Take a stretch of a partition's `ledger` and `balances` over, with the cursor, in one write."""
    balances: dict[bytes, Balance] = {}
    ids: dict[bytes, Known] = {}
    ledger, changelog, source, recorded_ms = store.cursor
    for message in batch:
        value, offset = message.value(), message.offset()
        if value is None or offset is None:
            continue
        if message.topic() == topics.ledger:
            entry = split_entry(value[FRAME:])
            ids[posted_id(entry.transaction.wallet_id.encode(), entry.transaction.transaction_id)] = Known(
                content_digest(entry.transaction_body, entry.transaction), entry.recorded_ms
            )
            ledger, source = offset + 1, entry.source_offset + 1
            recorded_ms = max(recorded_ms, entry.recorded_ms)
        else:
            balance = decode_balance(value[FRAME:])
            balances[balance.wallet_id.encode()] = balance
            changelog = offset + 1
            source = max(source, balance.source_offset + 1)
            recorded_ms = max(recorded_ms, balance.recorded_ms)
    store.write(balances, ids, Cursor(ledger, changelog, source, recorded_ms))
