"""What producers in Python are told before anything is sent."""

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from confluent_kafka import Producer

from config.errors import WalletError
from schemas.producer import InvalidTransaction, queue, transaction
from schemas.records import CREDIT, DEBIT, Transaction
from tests.unit.transactions import UUID

NOON = datetime(2026, 11, 22, 12, 0, 0, 123_456, tzinfo=UTC)
FIELDS: dict[str, Any] = {
    "transaction_id": UUID,
    "wallet_id": "alice",
    "type": "DEBIT",
    "amount": 1_250,
    "currency": "EUR",
    "occurred_at": NOON,
}


def test_a_transaction_is_made_from_what_people_have_at_hand() -> None:
    made = transaction(**FIELDS, group_id="g", metadata={"b": "2", "a": "1"})
    us = int(NOON.timestamp()) * 1_000_000 + 123_456
    assert made == Transaction(UUID, "alice", DEBIT, 1_250, "EUR", us, "g", (("b", "2"), ("a", "1")))
    assert made.occurred_at == NOON


def test_a_time_in_any_zone_is_the_same_moment() -> None:
    elsewhere = NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert transaction(**FIELDS | {"occurred_at": elsewhere}) == transaction(**FIELDS)


def test_the_types_are_credit_and_debit() -> None:
    assert [transaction(**FIELDS | {"type": kind}).type for kind in ("CREDIT", "DEBIT")] == [CREDIT, DEBIT]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"occurred_at": NOON.replace(tzinfo=None)}, "has no time zone: say which"),
        ({"type": "TRANSFER"}, "type 'TRANSFER' is neither CREDIT nor DEBIT"),
        ({"amount": 12.5}, "amount 12.5 is not a whole number of minor units"),
        ({"amount": True}, "amount True is not a whole number of minor units"),
        ({"amount": "12"}, "amount '12' is not a whole number of minor units"),
        ({"amount": 0}, "amount 0 is not between 1 and"),
        ({"amount": 2**63}, "amount 9223372036854775808 is not between 1 and"),
        ({"transaction_id": UUID.upper()}, "is not a UUID of 36 lower-case characters"),
        ({"wallet_id": 7}, "7 is not a string"),
        ({"wallet_id": "\ud800"}, "wallet_id contains a surrogate"),
        ({"metadata": {"k": 1}}, "1 is not a string"),
        ({"metadata": {"k": "\0"}}, "a metadata value contains U+0000"),
        ({"group_id": ""}, "group_id has 0 characters"),
    ],
)
def test_what_the_worker_would_reject_is_refused_in_one_sentence(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidTransaction, match=re.escape(told)) as error:
        transaction(**FIELDS | changes)
    assert isinstance(error.value, WalletError)
    assert str(error.value).isprintable()


def test_a_record_waits_for_room_in_the_producers_buffer() -> None:
    # Nobody listens there: what is in the buffer leaves it when its time is over, and makes room.
    conf = {"bootstrap.servers": "127.0.0.1:1", "queue.buffering.max.messages": 1, "message.timeout.ms": 200}
    producer = Producer(conf | {"log_level": 0})
    heard: list[bytes | None] = []
    for key in (b"1", b"2", b"3"):
        queue(producer, "a-topic", b"", key, lambda _, message: heard.append(message.key()), 0, [("a", None)])
    assert heard == [b"1", b"2"]
    producer.purge()
