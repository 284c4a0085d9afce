"""The fold's compiled loop against the Python that it stands for: the same outputs, in the same order, to the byte."""

import gc
import importlib
import random
import subprocess
import sys
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.pipeline import Pipeline
from schemas import native as optional
from schemas.codec import TransactionCodec, encode_transaction, frame
from schemas.digest import new_sha256
from schemas.records import CREDIT, DEBIT, Balance, Order, Reason, Transaction
from schemas.versions import FIXED_IDS
from streams.batch import Derived, Outputs
from streams.posting import Fold
from streams.wallet import Known
from tests.effort import examples
from tests.unit.agreement import in_python
from tests.unit.strategies import (
    DAY_MS,
    ELSEWHERE,
    HERE,
    IDS,
    PARTITION,
    START_MS,
    Memory,
    anything,
    inputs,
    pipelines,
    splits,
)
from topics.source import Source

#: None where nothing is compiled, and then all of this is skipped.
native: Any = optional
pytestmark = pytest.mark.skipif(native.post is None, reason="not compiled here")

FRAME = frame(1)
CODEC = TransactionCodec(1, lambda *_: None)
PIPELINE = Pipeline(1, 4, 100, "allow", 1_024, None, 1)
SMALLEST, LARGEST = -(2**63), 2**63 - 1


def fold_on(past: Memory, pipeline: Pipeline = PIPELINE) -> Fold:
    return Fold("wallet.transactions", PARTITION, pipeline, CODEC, FIXED_IDS, past)


def all_of(out: Outputs) -> tuple[object, ...]:
    """Everything in it, dictionaries as lists: their order is that of the changelog."""
    found = (getattr(out, name) for name in Outputs.__slots__)
    return tuple([*one.items()] if isinstance(one, dict) else one for one in found)


def folded(pipeline: Pipeline, batches: Sequence[Sequence[Source]]) -> list[tuple[object, ...]]:
    past, found = Memory(), list[tuple[object, ...]]()
    fold = fold_on(past, pipeline)
    for batch in batches:
        fresh = [record for record in batch if record.offset >= past.next_offset]
        out = fold.outputs(fresh, past.next_offset, past.recorded_ms)
        past.take(out)
        found.append(all_of(out))
    return found


def folded_in_python(pipeline: Pipeline, batches: Sequence[Sequence[Source]]) -> list[tuple[object, ...]]:
    with in_python():
        return folded(pipeline, batches)


@given(pipelines, st.data())
@settings(max_examples=examples(50))
def test_it_posts_what_python_posts(pipeline: Pipeline, data: st.DataObject) -> None:
    records = data.draw(inputs() | anything())
    batches = data.draw(splits(records))
    assert folded(pipeline, batches) == folded_in_python(pipeline, batches)


def long_run(seed: int, count: int) -> list[list[Source]]:
    """Batches in which most records are usual, and of everything that is not there is some."""
    dice = random.Random(seed)
    wallets = [*HERE, ELSEWHERE[0]]
    sent, records, now_ms = list[Transaction](), list[Source](), START_MS
    for offset in range(count):
        now_ms += dice.choice([0, 0, 1, 500, -200]) if dice.random() < 0.995 else DAY_MS // 3
        one = Transaction(
            f"0b0e7d3c-2f65-4c6f-9d5e-{offset:012x}",
            dice.choices(wallets, [40, 40, 40, 1])[0],
            dice.choice([CREDIT, DEBIT]),
            dice.choice([1, 99, 10_000]) if dice.random() < 0.99 else 2**62,
            "EUR" if dice.random() < 0.99 else "USD",
            10**15,
        )
        if sent and dice.random() < 0.02:
            again = dice.choice(sent)
            one = again._replace(amount=dice.choice([again.amount, 7]))
        sent.append(one)
        value = FRAME + encode_transaction(one)
        if dice.random() < 0.01:
            value = value[:-1]
        headers = () if dice.random() < 0.99 else (("trace", b"1"),)
        records.append(Source(offset, now_ms, one.wallet_id.encode(), value, headers))
    return [records[at : at + 1_300] for at in range(0, count, 1_300)]


@pytest.mark.parametrize("overdraft", ["allow", "reject"])
@pytest.mark.parametrize(("snapshot_every", "window_days"), [(100, None), (7, 1), (1, None)])
def test_long_runs_are_posted_alike(overdraft: str, snapshot_every: int, window_days: int | None) -> None:
    pipeline = Pipeline(1, 4, snapshot_every, overdraft, 1_024, window_days, 1)  # type: ignore[arg-type] # one of two
    batches = long_run(snapshot_every, examples(3_000))
    assert folded(pipeline, batches) == folded_in_python(pipeline, batches)


def test_python_is_asked_about_first_entries_and_snapshots_only() -> None:
    pipeline = PIPELINE
    records = [
        Source(
            number,
            START_MS + 40 * number,
            wallet.encode(),
            FRAME
            + encode_transaction(
                Transaction(f"0b0e7d3c-2f65-4c6f-9d5e-{number:012x}", wallet, number & 1, 10, "EUR", 10**15)
            ),
            (),
        )
        for number in range(3_000)
        for wallet in [HERE[number % len(HERE)]]
    ]
    fold, asked = fold_on(Memory(), pipeline), list[int]()
    decide = fold._decide

    def counted(record: Source, *rest: object) -> object:
        asked.append(record.offset)
        return decide(record, *rest)  # type: ignore[arg-type] # as it came

    with patch.object(fold, "_decide", counted):
        out = fold.outputs(records, 0, -1)
    assert len(out.entries) == len(records)
    assert len(out.snapshots) == len(HERE) * (3_000 // len(HERE) // 100) + len(HERE)
    assert len(asked) == len(HERE) + len(out.snapshots)


EDGES = [
    (balance, kind, amount)
    for balance in (SMALLEST, SMALLEST + 1, -1, 0, 1, LARGEST - 1, LARGEST)
    for kind in (CREDIT, DEBIT)
    for amount in (1, 2, LARGEST - 1, LARGEST)
]


def posted(before: Balance, record: Source, pipeline: Pipeline) -> tuple[object, ...]:
    """What comes of one record of a wallet that stands there."""
    past = Memory()
    past.all_balances[before.wallet_id.encode()] = before
    fold = fold_on(past, pipeline)
    return all_of(fold.outputs([record], record.offset, before.recorded_ms))


def a_record(kind: int = CREDIT, amount: int = 1, at_ms: int = START_MS + 1) -> Source:
    one = Transaction(IDS[0], HERE[0], kind, amount, "EUR", 10**15)
    return Source(9, at_ms, HERE[0].encode(), FRAME + encode_transaction(one), ())


@pytest.mark.parametrize("overdraft", ["allow", "reject"])
@pytest.mark.parametrize("sequence", [1, 98, 99, 2**62, LARGEST - 1])
def test_balances_and_sequences_at_their_ends(overdraft: str, sequence: int) -> None:
    pipeline = replace(PIPELINE, overdraft=overdraft)  # type: ignore[arg-type] # one of two
    for balance, kind, amount in EDGES:
        before = Balance(HERE[0], "EUR", balance, sequence, START_MS, PARTITION, 3, bytes(range(32)))
        found = posted(before, a_record(kind, amount), pipeline)
        with in_python():
            assert posted(before, a_record(kind, amount), pipeline) == found, (balance, kind, amount)


@pytest.mark.parametrize("before_ms", [-DAY_MS - 1, -DAY_MS, -1, 0, 1, DAY_MS - 1, DAY_MS, SMALLEST])
@pytest.mark.parametrize("at_ms", [SMALLEST, -DAY_MS, -1, 0, DAY_MS - 1, DAY_MS, 2 * DAY_MS - 1, LARGEST])
def test_days_at_their_ends(before_ms: int, at_ms: int) -> None:
    before = Balance(HERE[0], "EUR", 5, 1, before_ms, PARTITION, 3, bytes(range(32)))
    found = posted(before, a_record(at_ms=at_ms), PIPELINE)
    with in_python():
        assert posted(before, a_record(at_ms=at_ms), PIPELINE) == found


def test_what_is_too_large_is_not_usual() -> None:
    record = a_record()
    size = len(record.key or b"") + len(record.value or b"")
    for limit, headers, usual in (
        (size, (), True),
        (size - 1, (), False),
        (size, [], True),
        (size + 100, (("trace", None),), False),
        (size + 100, [("trace", b"1")], False),
    ):
        (found,), (posted_id,) = native.orders(
            FRAME, [record._replace(headers=headers)], limit, Order, new_sha256
        )
        assert (found is not None) == (posted_id is not None) == usual
    for changes in ({"key": None}, {"key": b"x"}, {"value": None}, {"value": b""}, {"key": "text"}):
        odd = Source(*(record._asdict() | changes).values())
        assert native.orders(FRAME, [odd], size, Order, new_sha256) == ([None], [None])


WALLET = HERE[0].encode()
BEFORE = Balance(HERE[0], "EUR", 5, 1, START_MS, PARTITION, 3, bytes(32))
ORDER = CODEC.order(FRAME + encode_transaction(Transaction(IDS[0], HERE[0], CREDIT, 1, "EUR", 10**15)))
ID = WALLET + b"\0" + bytes(16)
RECORD = Source(9, START_MS + 1, WALLET, b"", ())
PLAN = (frame(2), PARTITION, 100, True, Order, Balance, Known, Derived, new_sha256)


def arguments(**changes: object) -> list[object]:
    """Of `post`, for one order that it would post."""
    usual: dict[str, object] = {
        "plan": PLAN,
        "records": [RECORD],
        "orders": [ORDER],
        "ids": [ID],
        "at": 0,
        "known": {},
        "balances": {WALLET: BEFORE},
        "entries": [],
        "new_balances": {},
        "new_ids": {},
        "recorded_ms": START_MS,
    }
    return [*(usual | changes).values()]


def test_one_that_it_would_post() -> None:
    assert native.post(*arguments()) == (1, START_MS + 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"orders": [None]},
        {"orders": [tuple(ORDER)]},
        {"orders": [(Reason.INVALID, "no")]},
        {"ids": [None]},
        {"ids": []},
        {"orders": []},
        {"records": [(9, START_MS)]},
        {"records": [("9", START_MS, WALLET, b"", ())]},
        {"records": [(2**63, START_MS, WALLET, b"", ())]},
        {"records": [(9, None, WALLET, b"", ())]},
        {"at": 1},
        {"at": -1},
        {"balances": {}},
        {"balances": {WALLET: None}},
        {"balances": {WALLET: tuple(BEFORE)}},
        {"balances": {WALLET: BEFORE._replace(currency="USD")}},
        {"balances": {WALLET: BEFORE._replace(balance=2**63)}},
        {"balances": {WALLET: BEFORE._replace(sequence=0)}},
        {"balances": {WALLET: BEFORE._replace(sequence=LARGEST)}},
        {"balances": {WALLET: BEFORE._replace(sequence=99)}},
        {"balances": {WALLET: BEFORE._replace(recorded_ms=START_MS - DAY_MS)}},
        {"balances": {WALLET: BEFORE._replace(recorded_ms=-1)}},
        {"balances": {WALLET: BEFORE._replace(hash=bytes(31))}},
        {"known": {ID: Known(bytes(32), START_MS)}},
        {"new_ids": {ID: Known(bytes(32), START_MS)}},
        {"new_balances": {WALLET: BEFORE._replace(currency="USD")}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_it_does_not_know_is_left_to_python(changes: dict[str, object]) -> None:
    given = arguments(**changes)
    at = given[4]
    before = [repr(one) for one in given]
    assert native.post(*given) == (at, START_MS)
    assert [repr(one) for one in given] == before, "and nothing is changed"


@pytest.mark.parametrize(
    "changes",
    [
        {"plan": None},
        {"plan": PLAN[:-1]},
        {"plan": (*PLAN[:2], 0, *PLAN[3:])},
        {"plan": (*PLAN[:1], "1", *PLAN[2:])},
        {"plan": (*PLAN[:4], dict, *PLAN[5:])},
        {"plan": ("", *PLAN[1:])},
        {"records": ()},
        {"orders": ()},
        {"ids": None},
        {"at": None},
        {"known": []},
        {"balances": None},
        {"entries": {}},
        {"new_balances": []},
        {"new_ids": []},
        {"recorded_ms": "1"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_other_arguments_are_an_error(changes: dict[str, object]) -> None:
    with pytest.raises(TypeError):
        native.post(*arguments(**changes))


def test_an_error_of_the_hash_is_told() -> None:
    def fails() -> object:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        native.post(*arguments(plan=(*PLAN[:-1], fails)))
    with pytest.raises(AttributeError):
        native.post(*arguments(plan=(*PLAN[:-1], list)))
    record = long_run(1, 1)[0][0]
    with pytest.raises(ZeroDivisionError):
        native.orders(FRAME, [record], 1_024, Order, fails)


@pytest.mark.parametrize(
    "given",
    [
        (),
        (FRAME, [], 1, Order),
        (FRAME, [()], 1, Order, new_sha256),
        (FRAME, [], 1, dict, new_sha256),
        (FRAME, (), 1, Order, new_sha256),
    ],
)
def test_other_arguments_of_orders_are_an_error(given: tuple[object, ...]) -> None:
    with pytest.raises(TypeError):
        native.orders(*given)


def test_what_it_makes_is_hashed_as_what_python_makes() -> None:
    (order,), _ = native.orders(FRAME, [a_record()], 1_024, Order, new_sha256)
    entries, balances, ids = list[Derived](), dict[bytes, Balance](), dict[bytes, Known]()
    native.post(*arguments(entries=entries, new_balances=balances, new_ids=ids))
    for made in (order, *entries, *balances.values(), *ids.values()):
        assert hash(made) == hash((*made,))


def test_every_allocation_may_fail_and_nothing_is_lost() -> None:
    pytest.importorskip("_testcapi")
    # In a process of its own: here other threads would ask for memory, too, and not all of them bear to get none.
    words = [
        sys.executable,
        "-c",
        "from tests.unit.test_native_posting import let_every_allocation_fail as fail; fail()",
    ]
    done = subprocess.run(words, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def let_every_allocation_fail() -> None:
    """Raise AssertionError where memory or a reference is lost on the way."""
    fails = importlib.import_module("_testcapi")
    records = [a_record()]

    def all_in_turn() -> tuple[int, int]:
        failed = 0
        for nth in range(80):
            given = arguments()
            fails.set_nomemory(nth, nth + 1)
            try:
                native.orders(FRAME, records, 1_024, Order, new_sha256)
                native.post(*given)
            except MemoryError:
                failed += 1
            finally:
                fails.remove_mem_hooks()
        return failed, sys.getallocatedblocks()

    borrowed = (*records, RECORD, ORDER, ID, BEFORE, WALLET)
    all_in_turn()
    failed, blocks = all_in_turn()
    references = [sys.getrefcount(one) for one in borrowed]
    assert failed > 15
    for _ in range(40):
        again, after = all_in_turn()
        assert again > 15  # how many exactly, what Python keeps for later decides
    assert abs(after - blocks) < 20, "blocks of memory that nobody gave back"
    assert [sys.getrefcount(one) for one in borrowed] == references


def test_nothing_is_kept_that_nobody_has() -> None:
    batches = long_run(5, 1_300)

    def held() -> int:
        for _ in range(3):
            folded(PIPELINE, batches)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = held()
        more = max(held() - before for _ in range(3))
    finally:
        tracemalloc.stop()
    assert more < 20_000, "a leak of one object a record would be hundreds of thousands of bytes"
