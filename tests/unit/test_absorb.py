"""What recovery reads from an entry's bytes is what the strict reader reads from them."""

import random
import uuid
from typing import cast

from confluent_kafka import Message
from hypothesis import given
from hypothesis import strategies as st

from config.settings import Settings
from schemas.codec import content_digest, encode_entry, encode_transaction, frame, split_entry
from schemas.native.balances import encode_balance
from schemas.records import Balance, Transaction
from streams.absorb import _PLAIN, absorb
from streams.batch import posted_id
from streams.store import Cursor, PartitionStore
from streams.wallet import Known
from tests.unit.transactions import transactions
from topics.names import Topics

LONGS = st.integers(0, 2**63 - 1)


TOPICS = Topics.of(Settings(_env_file=None))


class Written:
    """A store as far as `absorb` knows one."""

    def __init__(self) -> None:
        self.cursor, self.missed = Cursor(), False
        self.entries: dict[bytes, bytes] = {}
        self.ids: dict[bytes, Known] = {}

    def find_newest(self, _: int) -> None:
        """There is none."""

    def set_aside(
        self, entries: dict[bytes, bytes], _: object, ids: dict[bytes, Known], cursor: Cursor
    ) -> None:
        self.entries, self.ids, self.cursor = entries, ids, cursor


def absorbed(*messages: "Message[bytes, bytes]") -> Written:
    written = Written()
    absorb(cast("PartitionStore", written), TOPICS, list(messages))
    return written


@given(
    transactions,
    LONGS,
    st.integers(-(2**63), 2**63 - 1),
    LONGS,
    st.integers(0, 9_999),
    LONGS,
    st.binary(min_size=32, max_size=32),
)
def test_an_entry_gives_index_and_balance_the_same_whichever_way_it_is_read(
    transaction: Transaction,
    sequence: int,
    balance: int,
    recorded_ms: int,
    partition: int,
    offset: int,
    link: bytes,
) -> None:
    body = (
        encode_entry(encode_transaction(transaction), sequence, balance, recorded_ms, partition, offset)
        + link
    )
    wallet = transaction.wallet_id.encode()
    parts = split_entry(body)
    written = absorbed(Message(topic=TOPICS.ledger, offset=7, key=wallet, value=frame(2) + body))
    assert written.ids == {
        posted_id(wallet, uuid.UUID(transaction.transaction_id).bytes): Known(
            content_digest(parts.transaction_body, transaction), recorded_ms
        )
    }
    told = Balance(
        transaction.wallet_id, transaction.currency, balance, sequence, recorded_ms, partition, offset, link
    )
    assert written.entries == {wallet: encode_balance(told)}
    assert written.cursor == Cursor(8, 0, offset + 1, recorded_ms)


def test_the_usual_entry_takes_the_short_way() -> None:
    usual = Transaction(
        str(uuid.UUID(int=random.getrandbits(128))), "wallet-1", 1, 1_999, "EUR", 1_790_000_000_000_000
    )
    body = encode_transaction(usual)
    assert _PLAIN(frame(2) + encode_entry(body, 17, -5, 1_790_000_000_000, 3, 123_456) + bytes(range(32)))
    grouped = encode_transaction(usual._replace(group_id="g-1"))
    assert _PLAIN(frame(2) + encode_entry(grouped, 1, 1, 1, 1, 1) + bytes(32))
