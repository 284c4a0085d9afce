"""The independent fold: what it says by itself, and that it agrees with the worker's own code."""

import hashlib
from collections import Counter, defaultdict
from typing import Any

import pytest

from audit import avro as plain_avro
from audit.contract import CREDIT, DEBIT, Contract, Reason, Transaction
from audit.fold import Fold, Posted
from config.pipeline import Pipeline
from operations.sending.generator import Mix, records
from schemas import codec
from schemas import records as records_of
from schemas.native import balances
from schemas.partitioner import partition_of
from schemas.versions import FIXED_IDS
from topics.source import Source

ALLOW = Pipeline(1, 4, 3, "allow", 1_024, None, 1)
REJECT = Pipeline(1, 4, 3, "reject", 1_024, None, 1)
WINDOW = Pipeline(1, 4, 3, "allow", 1_024, 1, 1)
ID = "5f0c6c3e-0000-4000-8000-00000000000{}"
HOUR_MS, DAY_MS = 3_600_000, 86_400_000


def credit(number: int = 1, amount: int = 100, **changes: Any) -> Transaction:
    return Transaction(ID.format(number), "wallet-1", CREDIT, amount, "EUR", 0)._replace(**changes)


def fold_of(pipeline: Pipeline) -> Fold:
    return Fold(Contract.of("wallet.transactions", pipeline, FIXED_IDS))


def folded(pipeline: Pipeline, *steps: Transaction | tuple[Transaction, int]) -> list[str]:
    """What becomes of transactions, each with the hours at which it was appended."""
    fold, outcomes = fold_of(pipeline), list[str]()
    for offset, step in enumerate(steps):
        transaction, hours = step if isinstance(step[0], Transaction) else (step, 0)
        value = b"\0\0\0\0\1" + plain_avro.write_transaction(transaction)
        key = transaction.wallet_id.encode()
        outcome = fold.step(partition_of(key, 4), Source(offset, hours * HOUR_MS, key, value, ()))
        if isinstance(outcome, Reason):
            outcomes.append(outcome)
        else:
            outcomes.append(
                f"{outcome.balance.sequence}: {outcome.balance.balance} +{len(outcome.snapshots)}"
            )
    return outcomes


@pytest.mark.parametrize(
    ("pipeline", "steps", "wanted"),
    [
        (ALLOW, [credit(1), credit(2)], ["1: 100 +0", "2: 200 +0"]),
        (ALLOW, [credit(1), credit(1)], ["1: 100 +0", "DUPLICATE"]),
        (ALLOW, [credit(1), credit(1, 101)], ["1: 100 +0", "CONFLICT"]),
        (ALLOW, [credit(1), credit(2, currency="USD")], ["1: 100 +0", "CURRENCY_MISMATCH"]),
        (ALLOW, [credit(1), credit(1, currency="USD")], ["1: 100 +0", "CONFLICT"]),
        (ALLOW, [credit(1, 2**63 - 1), credit(2, 1)], [f"1: {2**63 - 1} +0", "OVERFLOW"]),
        (ALLOW, [credit(1, type=DEBIT)], ["1: -100 +0"]),
        (REJECT, [credit(1, type=DEBIT)], ["INSUFFICIENT_FUNDS"]),
        (REJECT, [credit(1), credit(2, type=DEBIT)], ["1: 100 +0", "2: 0 +0"]),
        (REJECT, [credit(1), credit(2, 101, type=DEBIT)], ["1: 100 +0", "INSUFFICIENT_FUNDS"]),
        # an id that was rejected may still be posted
        (REJECT, [credit(1, type=DEBIT), credit(1)], ["INSUFFICIENT_FUNDS", "1: 100 +0"]),
        # what opens a wallet and fixes its currency is the first that is accepted
        (
            REJECT,
            [credit(1, type=DEBIT, currency="USD"), credit(2), credit(3, currency="USD")],
            ["INSUFFICIENT_FUNDS", "1: 100 +0", "CURRENCY_MISMATCH"],
        ),
        # the legs of a transfer share an id
        (ALLOW, [credit(1), credit(1, wallet_id="wallet-2")], ["1: 100 +0", "1: 100 +0"]),
        (
            ALLOW,
            [credit(1, metadata=(("a", "1"), ("b", "2"))), credit(1, metadata=(("b", "2"), ("a", "1")))],
            ["1: 100 +0", "DUPLICATE"],
        ),
        (ALLOW, [credit(1), credit(2), credit(3)], ["1: 100 +0", "2: 200 +0", "3: 300 +1"]),
        (ALLOW, [(credit(1), 23), (credit(2), 24)], ["1: 100 +0", "2: 200 +1"]),
        (ALLOW, [(credit(1), 1), (credit(2), 99)], ["1: 100 +0", "2: 200 +1"]),
        (
            ALLOW,
            [(credit(1), 1), (credit(2), 2), (credit(3), 3), (credit(4), 30)],
            ["1: 100 +0", "2: 200 +0", "3: 300 +1", "4: 400 +0"],
        ),
        (ALLOW, [(credit(1), 30), (credit(2), 1)], ["1: 100 +0", "2: 200 +0"]),
        (WINDOW, [(credit(1), 0), (credit(1), 24)], ["1: 100 +0", "DUPLICATE"]),
        (WINDOW, [(credit(1), 0), (credit(1, 5), 25)], ["1: 100 +0", "2: 105 +1"]),
        (ALLOW, [credit(1, amount=0)], ["INVALID"]),
        (ALLOW, [credit(1, metadata=(("much", "x" * 1_024),))], ["TOO_LARGE"]),
    ],
)
def test_records_become_what_the_rules_say(
    pipeline: Pipeline, steps: list[Transaction], wanted: list[str]
) -> None:
    assert folded(pipeline, *steps) == wanted


@pytest.mark.parametrize(
    ("key", "partition", "value", "reason"),
    [
        (b"wallet-1", 1, None, Reason.UNDECODABLE),
        (b"wallet-1", 1, b"\1\0\0\0\1", Reason.UNDECODABLE),
        (b"wallet-1", 1, b"\0\0\0\0\2" + plain_avro.write_transaction(credit()), Reason.UNDECODABLE),
        (None, 1, b"\0\0\0\0\1" + plain_avro.write_transaction(credit()), Reason.MISROUTED),
        (b"wallet-2", 1, b"\0\0\0\0\1" + plain_avro.write_transaction(credit()), Reason.MISROUTED),
        (b"wallet-1", 0, b"\0\0\0\0\1" + plain_avro.write_transaction(credit()), Reason.MISROUTED),
        (None, 0, b"\0\0\0\0\1" + plain_avro.write_transaction(credit(currency="?")), Reason.INVALID),
    ],
)
def test_a_record_that_is_no_transaction_of_this_partition_is_refused(
    key: bytes | None, partition: int, value: bytes | None, reason: Reason
) -> None:
    assert fold_of(ALLOW).step(partition, Source(0, 0, key, value, ())) is reason


def test_header_names_and_values_count_for_the_size() -> None:
    value = b"\0\0\0\0\1" + plain_avro.write_transaction(credit())
    room = 1_024 - len(b"wallet-1") - len(value)
    fits = Source(0, 0, b"wallet-1", value, [("n" * 10, bytes(room - 10)), ("", None)])
    assert isinstance(fold_of(ALLOW).step(1, fits), Posted)
    over = fits._replace(headers=[("n" * 11, bytes(room - 10))])
    assert fold_of(ALLOW).step(1, over) is Reason.TOO_LARGE


def test_entries_are_the_bytes_that_the_codec_writes_and_chains() -> None:
    fold, hashes = fold_of(ALLOW), [codec.NO_HASH]
    for number in range(1, 9):
        transaction = credit(number, group_id="g", metadata=(("a", "é"),))
        body = codec.encode_transaction(records_of.Transaction(*transaction))
        outcome = fold.step(1, Source(number, number, b"wallet-1", codec.frame(1) + body, ()))
        assert isinstance(outcome, Posted)
        entry = codec.encode_entry(body, number, 100 * number, number, 1, number)
        hashes.append(hashlib.sha256(hashes[-1] + entry).digest())
        assert outcome.body == entry + hashes[-1]
        assert (
            plain_avro.read_balance(balances.encode_balance(records_of.Balance(*outcome.balance)))
            == outcome.balance
        )


def test_the_generators_stream_has_every_reason_and_its_shares() -> None:
    mix = Mix(wallets=300, bad=0.1, duplicates=0.05, partitions=4, overdraft_rejected=True, seed=5)
    fold = fold_of(Pipeline(1, 4, 100, "reject", mix.max_record_bytes, None, 1))
    offsets: dict[int, int] = defaultdict(int)
    seen: Counter[str] = Counter()
    for record in records(10_000, mix):
        at = Source(offsets[record.partition], 0, record.key, record.value, record.headers)
        offsets[record.partition] += 1
        outcome = fold.step(record.partition, at)
        seen[outcome if isinstance(outcome, Reason) else "posted"] += 1
    assert set(seen) == {"posted", *Reason}
    assert seen["posted"] > 8_000
    assert len(offsets) == 4


def test_the_same_seed_makes_the_same_records_and_another_one_others() -> None:
    mix = Mix(bad=0.05, seed=11, max_record_bytes=2_000)
    first = list(records(2_000, mix))
    assert first == list(records(2_000, mix))
    assert first != list(records(2_000, Mix(bad=0.05, seed=12, max_record_bytes=2_000)))
