"""Recovery on a real Kafka: stores lost or stale, group offsets lost or moved. Afterwards all is exact.

The input keeps its producers' times, and those jump to and fro over midnights: what recovery restores
includes the newest recorded_at and the day of every wallet's newest entry.
"""

import shutil
from collections.abc import Iterator
from itertools import count, cycle
from pathlib import Path

import pytest
from confluent_kafka import Producer, TopicPartition

from config.errors import Refused, Stopped
from config.settings import Settings
from schemas.codec import HEADER_BYTES, frame
from schemas.native.balances import decode_balance, encode_balance
from schemas.records import Balance
from schemas.versions import FIXED_IDS
from tests.integration.exactness import assert_exact
from tests.integration.pipelines import Rig, as_record, open_transaction, small, transaction, wallets_of
from tests.reading import read_all
from topics.clients import librdkafka
from topics.cluster import quiet_admin
from topics.names import Topics

pytestmark = pytest.mark.integration

FIRST_MS = 1_700_000_000_000
HOUR_MS = 3_600_000


def jumping_clock() -> Iterator[int]:
    """Times that go on by two days in a hundred records, with jumps back of up to a day."""
    steps = cycle([1, 1, 5 * HOUR_MS, 1, -3 * HOUR_MS, 1, 1, -HOUR_MS, 1, 1])
    now_ms = FIRST_MS
    for number in count():
        now_ms += next(steps) + (-24 * HOUR_MS if number % 500 == 499 else 0)
        yield now_ms


@pytest.fixture
def rig(kafka_only_settings: Settings, tmp_path: Path) -> Iterator[Rig]:
    with Rig(small(kafka_only_settings), tmp_path, create_time=True) as rig:
        yield rig


@pytest.fixture
def clock() -> Iterator[int]:
    return jumping_clock()


def work_off(rig: Rig, clock: Iterator[int] | None = None, count: int = 0, *, killed: bool = False) -> None:
    """One life of a worker: so many more records are sent, and it goes on until everything is posted."""
    rig.send(count, clock)
    worker = rig.start()
    rig.wait_until_posted()
    if killed:
        worker.kill()
    else:
        worker.stop()


def test_a_store_from_an_old_copy_catches_up(rig: Rig, clock: Iterator[int], tmp_path: Path) -> None:
    work_off(rig, clock, 1_000)
    shutil.copytree(rig.settings.state_dir, tmp_path / "copy")
    work_off(rig, clock, 2_000, killed=True)
    shutil.rmtree(rig.settings.state_dir)
    shutil.copytree(tmp_path / "copy", rig.settings.state_dir)
    work_off(rig, clock, 1_000)
    assert_exact(rig.settings)


@pytest.mark.full
def test_a_store_that_other_partitions_left_behind_catches_up_when_they_come_back(
    rig: Rig, clock: Iterator[int]
) -> None:
    """Two folders, both of which have stores of the same partitions, one of them older."""
    rig.send(1_000, clock)
    first = rig.start()
    rig.wait_until_posted()
    second = rig.start()
    rig.wait_until_shared_by(2)
    rig.send(1_000, clock)
    rig.wait_until_posted()
    first.stop()
    rig.wait_until_shared_by(1)
    rig.send(1_000, clock)
    rig.wait_until_posted()
    second.stop()
    work_off(rig, clock, 1_000)
    assert_exact(rig.settings)


@pytest.mark.full
def test_without_the_groups_offset_the_outputs_tell_where_to_go_on(rig: Rig, clock: Iterator[int]) -> None:
    work_off(rig, clock, 2_000)
    rig.forget_committed()
    work_off(rig, clock, 1_000)
    assert_exact(rig.settings)


@pytest.mark.full
def test_without_offset_and_store_everything_is_found_again(rig: Rig, clock: Iterator[int]) -> None:
    work_off(rig, clock, 2_000)
    rig.forget_committed()
    shutil.rmtree(rig.settings.state_dir)
    work_off(rig, clock, 1_000)
    assert_exact(rig.settings)


@pytest.mark.full
def test_without_the_groups_offset_rejections_count_as_handled(rig: Rig) -> None:
    """The newest records of every partition were rejected, so the ledger alone does not tell."""
    names = {at: next(wallets_of(at)) for at in range(4)}
    good = [as_record(transaction(at, name)) for at, name in names.items()]
    rig.upstream.send([*good, *(record._replace(value=None) for record in good for _ in range(40))])
    work_off(rig)
    rig.forget_committed()
    rig.upstream.send(good)
    work_off(rig)
    wanted = assert_exact(rig.settings)
    assert sum(map(len, wanted.rejections.values())) == 4 * 41


def test_an_offset_that_was_reset_backwards_posts_nothing_twice(rig: Rig, clock: Iterator[int]) -> None:
    work_off(rig, clock, 2_000)
    rig.set_committed({0: 0, 1: 1, 2: rig.upstream.next_offsets[2] - 1})
    work_off(rig, clock, 1_000)
    assert_exact(rig.settings)


def test_an_offset_moved_past_records_is_refused_naming_the_first_and_mended_by_its_advice(
    rig: Rig, clock: Iterator[int]
) -> None:
    work_off(rig, clock, 1_000)
    first_unhandled = rig.upstream.next_offsets[2]
    rig.send(500, clock)
    rig.set_committed({2: rig.upstream.next_offsets[2]})
    last = rig.start().failed(Stopped)
    assert f"the record at {first_unhandled} has neither entry nor rejection" in last
    assert f"reset the group to {first_unhandled}" in last
    rig.set_committed({2: first_unhandled})
    work_off(rig)
    assert_exact(rig.settings)


@pytest.mark.full
def test_an_offset_moved_past_records_is_refused_also_where_older_rejections_were_deleted(rig: Rig) -> None:
    wallet = next(wallets_of(2))
    good = [as_record(transaction(number, wallet)) for number in range(60)]
    rig.upstream.send([*good[:20], *(one._replace(value=None) for one in good[:20])])
    work_off(rig)
    admin, topic = quiet_admin(rig.settings), Topics.of(rig.settings).rejections
    for answer in admin.delete_records([TopicPartition(topic, 2, 10)]).values():
        answer.result(30)
    first_unhandled = rig.upstream.next_offsets[2]
    rig.upstream.send(good[20:])
    rig.set_committed({2: rig.upstream.next_offsets[2]})
    last = rig.start().failed(Stopped)
    assert f"the record at {first_unhandled} has neither entry nor rejection" in last


@pytest.mark.parametrize("sent", [0, 40])
def test_a_balance_that_no_entry_accounts_for_is_refused(rig: Rig, sent: int) -> None:
    """As Kafka leaves it that ends a transaction in one topic and not in another."""
    wallet = next(wallets_of(2))
    rig.upstream.send(as_record(transaction(number, wallet)) for number in range(sent))
    if sent:
        work_off(rig)
    balance = Balance(wallet, "EUR", 7, sent + 1, FIRST_MS, 2, sent, bytes(32))
    ours = Producer(librdkafka(rig.settings))
    ours.produce(
        Topics.of(rig.settings).balances,
        frame(FIXED_IDS.balance) + encode_balance(balance),
        wallet.encode(),
        2,
    )
    assert ours.flush(30) == 0
    last = rig.start().failed(Refused)
    assert f"partition 2: for wallet {wallet!r} `ledger` has " in last
    assert "Kafka has ended a transaction in only some of its topics" in last


@pytest.mark.full
def test_an_offset_past_nothing_but_an_aborted_transaction_is_no_reason_to_refuse(
    rig: Rig, clock: Iterator[int]
) -> None:
    work_off(rig, clock, 500)
    gone = as_record(transaction(1, next(wallets_of(2))))
    with open_transaction(rig.settings, Topics.of(rig.settings).transactions, gone):
        pass
    rig.set_committed({2: rig.upstream.next_offsets[2] + 2})
    work_off(rig, clock, 500)
    assert_exact(rig.settings)


@pytest.mark.full
def test_a_worker_that_recovers_is_killed_and_the_next_one_recovers_all_the_same(
    rig: Rig, clock: Iterator[int]
) -> None:
    work_off(rig, clock, 4_000)
    rig.send(1_000, clock)
    for _ in range(3):
        shutil.rmtree(rig.settings.state_dir)
        worker = rig.start()
        worker.wait_until_told("assigned")
        worker.kill()
    work_off(rig)
    assert_exact(rig.settings)


@pytest.mark.full
def test_a_ledger_whose_older_part_was_deleted_still_gives_every_balance(
    rig: Rig, clock: Iterator[int]
) -> None:
    """Finite retention of the ledger is allowed; balances come from their own topic."""
    ledger = Topics.of(rig.settings).ledger
    wallets = [next(wallets_of(at)) for at in range(4)]
    rig.upstream.send(as_record(transaction(number, wallets[number % 4])) for number in range(400))
    work_off(rig)
    deleted = [TopicPartition(ledger, at, 50) for at in range(4)]
    admin = quiet_admin(rig.settings)
    for answer in admin.delete_records(deleted).values():
        answer.result(30)
    shutil.rmtree(rig.settings.state_dir)
    rig.upstream.send(as_record(transaction(400 + number, wallets[number % 4])) for number in range(40))
    worker = rig.start()
    rig.wait_until_posted()
    worker.stop()
    assert not worker.events("records_deleted"), "a store that begins anew has missed nothing that it had"
    assert newest_balances(rig) == dict.fromkeys(wallets, (110, 11_000))


def newest_balances(rig: Rig) -> dict[str, tuple[int, int]]:
    """Sequence and balance of every wallet, as `balances` tells them."""
    messages = read_all(rig.settings, Topics.of(rig.settings).balances, 4)
    balances = [decode_balance((one.value() or b"")[HEADER_BYTES:]) for one in messages]
    return {
        one.wallet_id: (one.sequence, one.balance) for one in sorted(balances, key=lambda one: one.sequence)
    }
