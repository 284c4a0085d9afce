"""Following the ledger: committed records only, from the first one on or from where the caller's group stands."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar
from uuid import uuid4

from confluent_kafka import Consumer, KafkaException, Message

from wallet_client.records import NO_HASH, Balance, Entry, read_balance, read_entry

#: A consumer that reads uncommitted records would see entries that were rolled back.
FIXED: Mapping[str, Any] = {"isolation.level": "read_committed"}
WAIT_S = 0.5
RECORDS = 1_000

R = TypeVar("R")


class BrokenChain(Exception):  # noqa: N818 - the name is the message
    """An entry does not follow from the one before it: somebody changed the ledger, or an entry is missing."""


def follow_ledger(
    settings: Mapping[str, Any], topic: str, *, idle_s: float | None = None, check: bool = True
) -> Iterator[Entry]:
    """Entries as they are committed; ends when none came for `idle_s`, never by default.

    With `check` every wallet's chain is checked, from the first entry that is seen on: raises BrokenChain. It keeps
    one hash for each wallet. `settings` are librdkafka's; give a `group.id` to share partitions and to keep the place.
    """
    newest: dict[str, tuple[int, bytes]] = {}
    for entry in _follow(settings, topic, idle_s, read_entry):
        if check:
            wallet = entry.transaction.wallet_id
            sequence, last = newest.get(
                wallet, (entry.sequence - 1, NO_HASH if entry.sequence == 1 else None)
            )
            if entry.sequence < sequence or (entry.sequence, entry.hash) == (sequence, last):
                continue  # read again after a rebalance
            if entry.sequence != sequence + 1 or (last is not None and not entry.follows(last)):
                raise BrokenChain(
                    f"wallet {wallet!r}: entry {entry.sequence} does not follow from entry {sequence}"
                )
            newest[wallet] = entry.sequence, entry.hash
        yield entry


def follow_balances(
    settings: Mapping[str, Any], topic: str, *, idle_s: float | None = None
) -> Iterator[Balance]:
    """Balances as they change; from the first one on that is every wallet's newest, and some older ones."""
    yield from _follow(settings, topic, idle_s, read_balance)


def _follow(
    settings: Mapping[str, Any], topic: str, idle_s: float | None, read: Callable[[bytes], R]
) -> Iterator[R]:
    alone = {
        "group.id": f"wallet-client-{uuid4()}",
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
    }
    consumer = Consumer({**alone, **settings, **FIXED})
    try:
        consumer.subscribe([topic])
        heard_s = time.monotonic()
        while idle_s is None or time.monotonic() - heard_s < idle_s:
            for message in consumer.consume(RECORDS, WAIT_S):
                heard_s = time.monotonic()
                yield read(_value(message))
    finally:
        consumer.close()


def _value(message: Message) -> bytes:
    if (error := message.error()) is not None:
        raise KafkaException(error)
    return message.value() or b""
