"""The reading of our records by position, and what it refuses."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from confluent_kafka import Message
from hypothesis import given
from hypothesis import strategies as st

from config.errors import Stopped
from schemas import native
from schemas.codec import NO_HASH, decode_entry, encode_entry, encode_snapshot, encode_transaction
from schemas.records import INTERVAL, TYPES, Transaction
from sinks import rows
from sinks.ledger import LedgerSink
from sinks.rows import DAY_MS, POSTGRES_EPOCH_US, EntryRow, rejection_row, snapshot_row
from sinks.sink import Sink
from sinks.snapshots import SnapshotSink
from tests.ledgers import LEDGER_FRAME, NOVEMBER_MS, SNAPSHOT_FRAME, Ledger
from tests.unit.transactions import longs, transactions

YEAR_1_MS = -62_135_596_800_000
#: What a timestamptz can hold of what the schemas can.
recorded = st.integers(YEAR_1_MS, 253_402_300_799_999)


def compiled_row(body: bytes) -> EntryRow | None:
    """What the compiled loop makes of an entry, if there is one."""
    row: EntryRow | None
    (row,) = native.entry_rows([LEDGER_FRAME + body], EntryRow) if native.entry_rows else (None,)
    return row


def entry_row(body: bytes) -> EntryRow:
    """The rows of an entry by Python; the compiled loop must make the same, or leave it to Python."""
    fast = compiled_row(body)
    try:
        row = rows.entry_row(body)
    except ValueError:
        assert fast is None
        raise
    assert fast is None or (type(fast) is EntryRow and fast == row)
    return row


def fields(row: bytes) -> list[bytes | None]:
    """Take a row of binary COPY apart, by the manual."""
    count, at = int.from_bytes(row[:2], "big"), 2
    found: list[bytes | None] = []
    for _ in range(count):
        length = int.from_bytes(row[at : at + 4], "big", signed=True)
        at += 4
        found.append(None if length < 0 else row[at : at + length])
        at += max(length, 0)
    assert at == len(row)
    return found


def number(value: int, size: int = 8) -> bytes:
    return value.to_bytes(size, "big", signed=True)


@given(transactions, longs, longs, recorded, st.integers(0, 2**31 - 1), st.integers(0, 2**63 - 1))
def test_a_row_has_every_field_of_its_entry(
    one: Transaction, sequence: int, balance: int, recorded_ms: int, partition: int, offset: int
) -> None:
    body = encode_entry(encode_transaction(one), sequence, balance, recorded_ms, partition, offset)
    entry = entry_row(body + bytes(range(32)))
    found = fields(entry.row)
    assert found[:8] == [
        one.wallet_id.encode(),
        number(sequence),
        UUID(one.transaction_id).bytes,
        (b"CREDIT", b"DEBIT")[one.type],
        number(one.amount),
        one.currency.encode(),
        number(one.occurred_us - POSTGRES_EPOCH_US),
        None if one.group_id is None else one.group_id.encode(),
    ]
    assert found[9:] == [
        number(balance),
        number(recorded_ms * 1_000 - POSTGRES_EPOCH_US),
        number(partition, 4),
        number(offset),
        bytes(range(32)),
        body,
    ]
    assert entry.day == recorded_ms // DAY_MS
    assert (entry.wallet is not None) == (sequence == 1)


ENTRY = Ledger(0).post("wallet", metadata=(("key", "value"),), group_id="group").body
SNAPSHOT = encode_snapshot(Ledger(0).post("wallet").balance, INTERVAL)


@pytest.mark.parametrize(("read", "body"), [(entry_row, ENTRY), (snapshot_row, SNAPSHOT)])
def test_bytes_missing_or_left_over_are_noticed_wherever_they_are(
    read: Callable[[bytes], object], body: bytes
) -> None:
    read(body)
    for end in range(len(body)):
        with pytest.raises((ValueError, IndexError)):
            read(body[:end])
    with pytest.raises(ValueError, match="does not end"):
        read(body + b"\0")


def test_a_second_metadata_block_is_not_taken_for_something_else() -> None:
    transaction = Transaction(
        "00000000-0000-4000-8000-000000000000", "w", 0, 1, "EUR", 0, None, (("a", "b"),)
    )
    canonical = encode_transaction(transaction)
    two_blocks = canonical[:-1] + canonical[-6:]
    with pytest.raises(ValueError, match="metadata is more than one block"):
        entry_row(encode_entry(two_blocks, 1, 1, NOVEMBER_MS, 0, 0) + NO_HASH)


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        LEDGER_FRAME,
        b"\1" + LEDGER_FRAME[1:] + ENTRY,
        LEDGER_FRAME + b"garbage",
        LEDGER_FRAME + bytes(200),
    ],
)
@pytest.mark.parametrize("sink", [LedgerSink("topic"), SnapshotSink("topic")])
def test_a_value_that_is_not_ours_stops_the_sink_and_is_named(sink: Sink, value: bytes | None) -> None:
    record = Message("topic", partition=2, offset=3, value=value)
    with pytest.raises(Stopped, match="topic partition 2 offset 3 does not decode"):
        sink.rows([record])


def test_an_entry_of_an_older_release_from_before_the_year_1_says_what_to_do() -> None:
    early = encode_entry(encode_transaction(TRANSACTION), 1, 1, YEAR_1_MS - 1, 2, 3) + NO_HASH
    record = Message("topic", partition=2, offset=3, value=LEDGER_FRAME + early)
    with pytest.raises(Stopped) as stopped:
        LedgerSink("topic").rows([record])
    assert str(stopped.value) == (
        "topic partition 2 offset 3 does not decode (a time beyond the year 9999 or before the year 1): another "
        "program than this pipeline's worker wrote it, or an older release did, whose ledger `wallet rebuild` makes "
        "anew"
    )


def test_a_good_value_is_taken() -> None:
    record = Message("topic", partition=2, offset=3, value=SNAPSHOT_FRAME + SNAPSHOT)
    ((_, rows),) = SnapshotSink("topic").rows([record]).tables
    assert rows == [snapshot_row(SNAPSHOT)]


def damaged_entries() -> st.SearchStrategy[bytes]:
    """Bodies of entries in which some bytes are others, are missing or come twice."""
    whole = [written.body for written in Ledger(0).post_many(12).written]

    def hurt(body: bytes, at: int, gone: int, put: bytes) -> bytes:
        at %= len(body)
        return body[:at] + put + body[at + gone :]

    numbers = st.integers(0, 10_000)
    return st.builds(hurt, st.sampled_from(whole), numbers, st.integers(0, 3), st.binary(max_size=12))


@given(damaged_entries())
def test_what_is_damaged_is_a_value_error_or_is_read_as_the_strict_reader_does(body: bytes) -> None:
    try:
        row = entry_row(body)
    except ValueError:
        return
    entry = decode_entry(body)
    found = fields(row.row)
    assert found[0] == entry.transaction.wallet_id.encode()
    assert found[1] == number(entry.sequence)
    assert found[3] == TYPES[entry.transaction.type].encode()
    assert found[4] == number(entry.transaction.amount)
    assert found[5] == entry.transaction.currency.encode()
    assert found[9] == number(entry.balance)
    assert found[11:13] == [number(entry.source_partition, 4), number(entry.source_offset)]
    assert row.day == entry.recorded_ms // DAY_MS


TRANSACTION = Transaction("00000000-0000-4000-8000-000000000000", "w", 0, 1, "EUR", 0, "g", (("a", "b"),))
PLACE = (1, 1, NOVEMBER_MS, 0, 0)


DAMAGES: list[tuple[dict[str, Any], tuple[int, int, int, int, int]]] = [
    ({"currency": "EURO"}, PLACE),
    ({"currency": ""}, PLACE),
    ({"currency": "E\u00df"}, PLACE),
    ({"wallet_id": "a\0b"}, PLACE),
    ({"group_id": "a\0b"}, PLACE),
    ({"metadata": (("a\0", "b"),)}, PLACE),
    ({"type": 2}, PLACE),
    ({"occurred_us": 2**62}, PLACE),
    ({}, (1, 1, 2**62, 0, 0)),
    ({}, (1, 1, -(2**62), 0, 0)),
    ({}, (1, 1, YEAR_1_MS - 1, 0, 0)),
    ({"occurred_us": -62_135_596_800_000_001}, PLACE),
    ({"occurred_us": 253_402_300_800_000_000}, PLACE),
    ({}, (1, 1, NOVEMBER_MS, 2**31, 0)),
    ({"amount": 2**64}, PLACE),
]


@pytest.mark.parametrize(("change", "place"), DAMAGES)
def test_a_field_that_no_column_takes_is_damage(
    change: dict[str, Any], place: tuple[int, int, int, int, int]
) -> None:
    body = encode_entry(encode_transaction(TRANSACTION._replace(**change)), *place) + NO_HASH
    with pytest.raises(ValueError):  # noqa: PT011 - which words does not matter
        entry_row(body)


def test_a_length_below_zero_and_a_number_without_an_end_are_damage() -> None:
    body = Ledger(0).post_many(1).written[0].body
    for put in (b"\x01", b"\xff" * 100_000):
        with pytest.raises(ValueError):  # noqa: PT011
            entry_row(body[:37] + put + body[38:])


@pytest.mark.parametrize(
    "change",
    [{"at_ms": 2**62}, {"at_ms": 10**40}, {"source": (0, 2**63)}, {"reason": b"\xff"}, {"detail": b"a\0b"}],
)
def test_a_rejection_that_no_row_can_be_made_of_is_damage(change: dict[str, Any]) -> None:
    whole: dict[str, Any] = {"source": (0, 0), "reason": b"INVALID", "detail": b"", "at_ms": NOVEMBER_MS}
    whole |= {"key": None, "value": None, "came": []}
    assert rejection_row(**whole)
    with pytest.raises(ValueError):  # noqa: PT011
        rejection_row(**(whole | change))
