"""What a store takes over from the topics: balances from both of them, the id index from the entries."""

import re
from binascii import unhexlify
from functools import lru_cache

from confluent_kafka import Message

from config.errors import Refused
from schemas.avro import long_of
from schemas.codec import HEADER_BYTES, decode_entry, order_of, split_entry
from schemas.digest import digest
from schemas.native.balances import encode_balance
from schemas.records import Balance, LedgerEntry
from streams.batch import posted_id
from streams.store import Cursor, PartitionStore
from streams.wallet import Known
from topics.names import Topics
from topics.rejections import APPENDED, Appended, appended, headers_of

#: Remembered, since thousands of entries share one time.
_recorded_ms = lru_cache(maxsize=256)(long_of)
_new = tuple.__new__

#: An entry of our own (so canonical and valid) with plain ASCII names of up to 63 characters and no metadata: what the
#: index and the balance need, found without building the records. Names end where a control byte begins, so nothing
#: else can match; what does not match is read field by field.
_PLAIN = re.compile(
    rb".{5}"  # the wire format
    rb"H([0-9a-f-]{36})(.[ -~]{1,63}+)[\x00\x02]"  # transaction_id, wallet_id, type
    rb"[\x80-\xff]*+[\x00-\x7f](\x06[A-Z]{3})[\x80-\xff]*+[\x00-\x7f]"  # amount, currency, occurred_at
    rb"(?:\x00|\x02.[ -~]{1,63}+)\x00"  # group_id, no metadata
    rb"([\x80-\xff]*+[\x00-\x7f])([\x80-\xff]*+[\x00-\x7f])"  # here the transaction ends; sequence, balance
    rb"(([\x80-\xff]*+[\x00-\x7f])[\x80-\xff]*+[\x00-\x7f]"  # recorded_at, source_partition
    rb"[\x80-\xff]*+[\x00-\x7f]"  # source_offset
    rb".{32})",
    re.DOTALL,
).fullmatch
#: The groups that make a balance's body: wallet_id, currency, balance, sequence, and the rest as the entry has it.
_OF_BALANCE = 2, 3, 5, 4, 6


def absorb(store: PartitionStore, topics: Topics, batch: list[Message]) -> None:
    """Take over a stretch of a partition's `ledger` and `balances`, with the cursor, in one write.

    If it raises, it takes nothing over: StoreAhead if the store's newest entry is no longer in the ledger, Refused for
    a record that is not an entry.
    """
    changes: dict[bytes, bytes] = {}
    newest: dict[bytes, re.Match[bytes] | bytes] = {}
    ids: dict[bytes, Known] = {}
    cursor, name, plain = store.cursor, topics.ledger, _PLAIN
    ledger, changelog = cursor.ledger, cursor.balances
    first = last = None
    for message in batch:
        key, value, offset = message.key() or b"", message.value() or b"", message.offset() or 0
        if message.topic() != name:
            changes[key] = value[HEADER_BYTES:]
            changelog = offset + 1
            continue
        if found := plain(value):
            # Nearly all records come here, perhaps a billion: call nothing that is not needed.
            uuid, recorded = found.group(1, 7)
            content = digest(value[HEADER_BYTES : found.start(4)])
            posted = key + b"\0" + unhexlify(uuid.replace(b"-", b""))
            ids[posted] = _new(Known, (content, _recorded_ms(recorded)))
            newest[key] = found
        else:
            posted, known, newest[key] = _read(message)
            ids[posted] = known
        first, last, ledger = first or message, message, offset + 1
    cursor = cursor._replace(ledger=ledger, balances=changelog)
    if first is not None and last is not None:
        cursor = _moved(store, cursor, first, last)
    entries = {
        wallet: one if isinstance(one, bytes) else b"".join(one.group(*_OF_BALANCE))
        for wallet, one in newest.items()
    }
    store.set_aside(entries, changes, ids, cursor)


def _moved(store: PartitionStore, cursor: Cursor, first: Message, last: Message) -> Cursor:
    """The cursor after a stretch with entries. They come in the order of their sources, and times never go back."""
    store.find_newest(first.offset() or 0)
    unseen = max(cursor.unseen, entry_of(first).source_offset) if store.missed else cursor.unseen
    store.missed = False
    entry = entry_of(last)
    recorded_ms = max(cursor.recorded_ms, entry.recorded_ms)
    return cursor._replace(source=entry.source_offset + 1, recorded_ms=recorded_ms, unseen=unseen)


def _read(message: Message) -> tuple[bytes, Known, bytes]:
    """Any entry's key and value for the id index, and its balance's body."""
    wallet = message.key() or b""
    try:
        parts = split_entry((message.value() or b"")[HEADER_BYTES:])
        transaction = parts.transaction
        order = order_of(transaction, parts.transaction_body)
    except ValueError as damage:
        raise damaged(message, damage) from None
    balance = Balance(transaction.wallet_id, transaction.currency, parts.balance, parts.sequence, *parts[4:])
    body = encode_balance(balance)
    return posted_id(wallet, order.transaction_id), Known(order.content, parts.recorded_ms), body


def entry_of(message: Message) -> LedgerEntry:
    """A record of `ledger`; raises Refused if it is not an entry."""
    try:
        return decode_entry((message.value() or b"")[HEADER_BYTES:])
    except ValueError as damage:
        raise damaged(message, damage) from None


def rejection_of(message: Message) -> Appended | None:
    """A record of `rejections`; None for one without the worker's headers, which another program must have written.

    Raises Refused for one that has some of them, but not all in their place, or not with the worker's values.
    """
    try:
        return appended(message)
    except ValueError as damage:
        if any(name in APPENDED for name, _ in headers_of(message) or ()):
            raise damaged(message, damage) from None
        return None


def damaged(message: Message, damage: object) -> Refused:
    """The error for a record in our topics that the worker did not write like this."""
    return Refused(
        f"the record at {message.offset()} of {message.topic()}[{message.partition()}] is damaged, or written by "
        f"another program ({damage}). `wallet verify` shows what differs, `wallet rebuild start` makes the topics again"
    )
