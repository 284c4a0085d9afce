"""What a store takes over from the topics: balances as they are, and the id index from the entries."""

import re
from binascii import unhexlify
from functools import lru_cache

from confluent_kafka import Message

from config.topics import Topics
from schemas.avro import long_of
from schemas.codec import HEADER_BYTES, decode_balance, decode_entry, order_of, split_entry
from schemas.digest import digest
from schemas.records import Balance
from streams.batch import posted_id
from streams.store import Cursor, PartitionStore
from streams.wallet import Known

#: Remembered, since thousands of entries share one time.
_recorded_ms = lru_cache(maxsize=256)(long_of)
_new = tuple.__new__

#: An entry of our own (so canonical and valid) with plain ASCII names of up to 63 characters and no metadata:
#: transaction id and recorded_at, found without building the records. Names end where a
#: control byte begins, so nothing else can match; what does not match is read field by field.
_PLAIN = re.compile(
    rb".{5}"  # the wire format
    rb"H([0-9a-f-]{36}).[ -~]{1,63}+[\x00\x02]"  # transaction_id, wallet_id, type
    rb"[\x80-\xff]*+[\x00-\x7f]\x06[A-Z]{3}[\x80-\xff]*+[\x00-\x7f]"  # amount, currency, occurred_at
    rb"(?:\x00|\x02.[ -~]{1,63}+)\x00"  # group_id, no metadata
    rb"()[\x80-\xff]*+[\x00-\x7f][\x80-\xff]*+[\x00-\x7f]"  # here the transaction ends; sequence, balance
    rb"([\x80-\xff]*+[\x00-\x7f])[\x80-\xff]*+[\x00-\x7f]"  # recorded_at, source_partition
    rb"[\x80-\xff]*+[\x00-\x7f]"  # source_offset
    rb".{32}",
    re.DOTALL,
).fullmatch


def absorb(store: PartitionStore, topics: Topics, batch: list[Message]) -> None:
    """Take a stretch of a partition's `ledger` and `balances` over, with the cursor, in one write.

    Raises StoreAhead, and takes nothing over, if the store's newest entry is not in the ledger any more.
    """
    newest: dict[bytes, bytes] = {}
    ids: dict[bytes, Known] = {}
    ledger, changelog, source, recorded_ms = store.cursor
    last_entry = b""
    name, plain = topics.ledger, _PLAIN
    if store.newest_entry is not None:
        first = next((message.offset() for message in batch if message.topic() == name), None)
        if first is not None:
            store.find_newest(first)
    for message in batch:
        key, value, offset = message.key(), message.value(), message.offset()
        if key is None or value is None or offset is None:
            continue
        if message.topic() != name:
            newest[key] = value[HEADER_BYTES:]
            changelog = offset + 1
        elif found := plain(value):
            # Nearly all, and there may be a billion: nothing is called here that need not be.
            uuid, _, recorded = found.groups()
            content = digest(value[HEADER_BYTES : found.start(2)])
            posted = key + b"\0" + unhexlify(uuid.replace(b"-", b""))
            ids[posted] = _new(Known, (content, _recorded_ms(recorded)))
            ledger, last_entry = offset + 1, value
        else:
            posted, known = _posted(key, value)
            ids[posted] = known
            ledger, last_entry = offset + 1, value
    if last_entry:
        # Entries follow their sources, and their times never go back: the last one tells the newest of both.
        entry = decode_entry(last_entry[HEADER_BYTES:])
        source, recorded_ms = entry.source_offset + 1, max(recorded_ms, entry.recorded_ms)
    balances: dict[bytes, Balance] = {wallet: decode_balance(body) for wallet, body in newest.items()}
    # The ledger says both already, unless its older part was deleted.
    for balance in balances.values():
        source = max(source, balance[6] + 1)
        recorded_ms = max(recorded_ms, balance[4])
    store.write(balances, newest, ids, Cursor(ledger, changelog, source, recorded_ms))


def _posted(wallet: bytes, value: bytes) -> tuple[bytes, Known]:
    """What the id index holds of any entry: key and value."""
    parts = split_entry(value[HEADER_BYTES:])
    order = order_of(parts.transaction, parts.transaction_body)
    return posted_id(wallet, order.transaction_id), Known(order.content, parts.recorded_ms)
