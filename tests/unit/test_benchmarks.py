"""What the benchmarks compute: ratios, and whether two results are the same."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import outcome, plots
from benchmarks.contest import Comparison
from benchmarks.filling import transactions, with_duplicates
from benchmarks.measurement import Measurement
from benchmarks.outcome import Outcome
from benchmarks.ratios import Spread, ratios, spread
from benchmarks.table_check import Held, table_differences
from schemas.codec import HEADER_BYTES, NO_HASH, chain, decode_transaction, encode_entry
from schemas.records import CREDIT

HELD = Held(3, 0, "b", "c")


def entries(count: int) -> list[bytes]:
    """Ledger entries of two wallets in one partition, as a fold writes them."""
    newest: dict[str, tuple[int, int, bytes]] = {}
    bodies = []
    for offset, record in enumerate(transactions(count, 2, 1)):
        body = (record.value or b"")[HEADER_BYTES:]
        one = decode_transaction(body)
        sequence, balance, before = newest.get(one.wallet_id, (0, 0, NO_HASH))
        sequence, balance = sequence + 1, balance + (one.amount if one.type == CREDIT else -one.amount)
        entry = encode_entry(body, sequence, balance, 1_000, 0, offset)
        newest[one.wallet_id] = sequence, balance, chain(before, entry)
        bodies.append(entry + newest[one.wallet_id][2])
    return bodies


def result(bodies: list[bytes], rejected: set[outcome.Spot] | None = None) -> Outcome:
    found = Outcome(rejected=rejected or set())
    for body in bodies:
        found.enter(body)
    found.balances = dict(found.wallets)
    return found


def test_a_ratio_is_taken_round_by_round() -> None:
    assert ratios([10, 30], [5, 10]) == [2, 3]
    with pytest.raises(ValueError, match="shorter"):
        ratios([1], [])


def test_a_round_without_theirs_has_no_ratio() -> None:
    assert ratios([10, 30], [0, 10]) == [3]


def test_a_spread_is_the_median_between_least_and_most() -> None:
    assert spread([3, 1, 10]) == Spread(3, 1, 10)
    assert str(spread([3, 1, 10])) == "3.00 (1.00 to 10.00)"


def test_the_same_results_do_not_differ() -> None:
    assert outcome.differences(result(entries(9), {(0, 9)}), result(entries(9), {(0, 9)})) == []


def test_a_rival_that_came_less_far_is_held_against_what_it_reached() -> None:
    assert outcome.differences(result(entries(9), {(0, 9)}), result(entries(5))) == []


def test_an_entry_that_is_missing_is_told() -> None:
    theirs = result(entries(9))
    del theirs.entries[0, 3]
    assert outcome.differences(result(entries(9)), theirs) == ["1 records not posted, the first: (0, 3)"]


def test_a_duplicate_that_was_posted_is_told() -> None:
    bodies = entries(9)
    ours = result(bodies[:-1], {(0, 8)})
    assert outcome.differences(ours, result(bodies)) == [
        "1 records posted that we reject, the first: (0, 8)",
        "1 records rejected otherwise, the first: (0, 8)",
    ]


def test_a_hash_that_does_not_follow_is_told() -> None:
    bodies = entries(4)
    bodies[-1] = bodies[-1][:-1] + bytes([bodies[-1][-1] ^ 1])
    told = outcome.differences(result(entries(4)), result(bodies))
    assert [line.split(",")[0] for line in told] == [
        "1 entries that are not of the chain",
        "1 entries with other content",
    ]


def test_a_record_that_was_posted_twice_is_told() -> None:
    bodies = entries(3)
    assert "record 0:2 was posted twice" in result([*bodies, bodies[-1]]).broken


def test_a_balance_that_was_not_kept_is_told() -> None:
    theirs = result(entries(4))
    theirs.balances.popitem()
    assert outcome.differences(result(entries(4)), theirs)[0].startswith("1 wallets whose balance")


def test_tables_that_hold_the_same_do_not_differ() -> None:
    assert table_differences(HELD, HELD) == []


@pytest.mark.parametrize(
    ("theirs", "told"),
    [
        (HELD._replace(rows=2), "3 rows against 2"),
        (HELD._replace(broken=1), "1 rows that are not of their chain"),
        (HELD._replace(balances="x"), "wallets with other balances"),
        (HELD._replace(content="x"), "rows with other content"),
    ],
)
def test_what_differs_between_tables_is_told(theirs: Held, told: str) -> None:
    assert table_differences(HELD, theirs) == [told]


def test_one_record_in_so_many_comes_a_second_time() -> None:
    records = [*transactions(100, 5, 2)]
    sent = [*with_duplicates(records, 10)]
    assert len(sent) == 109
    assert len({record.value for record in sent}) == 100


def test_plots_are_written_of_what_was_measured(tmp_path: Path) -> None:
    one = Measurement("worker", 100, 1.0, 0.5, 5_000, 10)
    compared = Comparison("worker", "a < b", "never", [(one, replace(one, seconds=2.0))])
    lacking = Comparison("worker", "nobody", "never", lacking="no Maven")
    written = plots.write([compared, lacking], tmp_path)
    assert [file.name for file in written] == ["benchmark-rate.svg", "benchmark-cpu.svg"]
    assert "a &lt; b" in written[0].read_text()
    assert plots.write([lacking], tmp_path) == []
