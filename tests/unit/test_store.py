"""The store of a partition: what it belongs to, what it holds after a reopen and after a kill, its cache."""

import json
import resource
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from random import Random
from threading import Event
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rocksdict import Options, Rdict

from config.errors import Refused, Stopped
from schemas.native.balances import encode_balance
from schemas.records import Balance
from streams.agreement import Held, agree, agree_on
from streams.batch import posted_id
from streams.endings import Interrupted
from streams.store import Cursor, Identity, PartitionStore, StoreAhead, StoreMemory
from streams.wallet import Known

IDENTITY = Identity("cluster-1", "wallet", "ledger-topic-1", 3)
MEMORY = StoreMemory(16)


@contextmanager
def opened(path: Path, identity: Identity = IDENTITY, cached_wallets: int = 100) -> Iterator[PartitionStore]:
    """The store of this folder, closed at the end."""
    store = PartitionStore(path, identity, MEMORY, cached_wallets)
    try:
        yield store
    finally:
        store.close()


def balance(wallet: bytes, amount: int = 1, sequence: int = 1) -> Balance:
    return Balance(wallet.decode(), "EUR", amount, sequence, 1_800_000_000_000, 3, 10 + sequence, b"h" * 32)


def write(
    store: PartitionStore, balances: dict[bytes, Balance], ids: dict[bytes, Known], cursor: Cursor
) -> None:
    store.write({wallet: encode_balance(one) for wallet, one in balances.items()}, ids, cursor)


def test_a_new_store_has_seen_nothing(tmp_path: Path) -> None:
    with opened(tmp_path / "store") as store:
        assert store.cursor == Cursor(0, 0, 0, -(2**63))
        assert store.balances({b"a"}) == {}
        assert store.known([b"a"]) == {}
        assert store.known([]) == {}
        assert store.balance(b"a") is None


def test_a_store_that_fails_while_it_is_opened_does_not_stay_open(tmp_path: Path) -> None:
    raw = Rdict(str(tmp_path / "store"), Options(raw_mode=True))
    raw.put(b"m:identity", b"not JSON")
    raw.close()
    with pytest.raises(Refused, match=r"cannot be read .*Expecting value") as kept:
        PartitionStore(tmp_path / "store", IDENTITY, MEMORY, 100)
    # The exception, with all that it refers to, lives on: it is not the garbage collector that closes the store.
    assert kept.value
    Rdict(str(tmp_path / "store"), Options(raw_mode=True)).close()


def test_what_was_written_is_there_after_a_reopen_with_its_cursor(tmp_path: Path) -> None:
    cursor, known, umlaut = Cursor(5, 2**40, 7, -1), Known(b"d" * 32, -5), "ä".encode()
    balances = {b"a": balance(b"a"), umlaut: balance(umlaut, -(2**63))}
    with opened(tmp_path / "store") as store:
        write(store, balances, {b"a\0id": known}, cursor)
    with opened(tmp_path / "store") as store:
        assert store.cursor == cursor
        assert store.balances({b"a", umlaut, b"b"}) == balances
        assert store.known([b"b\0id", b"a\0id"]) == {b"a\0id": known}


def test_a_store_that_is_opened_again_still_filters_ids_that_it_does_not_hold(tmp_path: Path) -> None:
    for _ in range(2):
        with opened(tmp_path / "store"):
            pass
        newest = max((tmp_path / "store").glob("OPTIONS-*"))
        assert "filter_policy=bloomfilter" in newest.read_text()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"cluster": "cluster-2"}, "cluster 'cluster-1' instead of 'cluster-2'"),
        ({"prefix": "other"}, "prefix 'wallet' instead of 'other'"),
        ({"ledger_topic_id": "made-again"}, "ledger_topic_id 'ledger-topic-1' instead of 'made-again'"),
        ({"partition": 4}, "partition 3 instead of 4"),
        ({"format": 3}, "format 2 instead of 3"),
    ],
)
def test_a_store_of_another_place_is_refused_naming_what_differs_and_left_as_it_was(
    tmp_path: Path, changed: dict[str, object], told: str
) -> None:
    with opened(tmp_path / "store") as store:
        write(store, {b"a": balance(b"a")}, {}, Cursor(1, 1, 1, 1))
    with pytest.raises(Refused) as refused, opened(tmp_path / "store", replace(IDENTITY, **changed)):  # type: ignore[arg-type]
        pass
    assert told in str(refused.value)
    assert str(tmp_path / "store") in str(refused.value)
    assert "\n" not in str(refused.value)
    with opened(tmp_path / "store") as store:
        assert store.balance(b"a") == balance(b"a")


def test_a_store_of_a_format_that_knows_more_fields_is_refused(tmp_path: Path) -> None:
    db = Rdict(str(tmp_path / "store"), Options(raw_mode=True))
    db.put(b"m:identity", json.dumps(asdict(IDENTITY) | {"format": 9, "shard": 1}).encode())
    db.close()
    with pytest.raises(Refused, match="format 9 instead of 2"), opened(tmp_path / "store"):
        pass


def test_what_is_filled_in_is_found_afterwards_and_what_was_there_stays(tmp_path: Path) -> None:
    def known(number: int) -> dict[bytes, Known]:
        return {b"%d" % number: Known(bytes(32), number)}

    with opened(tmp_path / "store") as store:
        write(store, {b"a": balance(b"a"), b"b": balance(b"b")}, known(0), Cursor(1, 1, 1, 1))
        with store.filling():
            for number in range(1, 4):
                one = {b"a": balance(b"a", number, number)}
                write(store, one, known(number), Cursor(number, number, number, number))
        write(store, {b"c": balance(b"c")}, known(4), Cursor(9, 9, 9, 9))
        assert store.balances({b"a", b"b", b"c"}) == {
            b"a": balance(b"a", 3, 3),
            b"b": balance(b"b"),
            b"c": balance(b"c"),
        }
        assert [*store.known([b"%d" % number for number in range(6)])] == [b"0", b"1", b"2", b"3", b"4"]
    with opened(tmp_path / "store", cached_wallets=0) as store:
        assert store.cursor == Cursor(9, 9, 9, 9)
        assert store.balances({b"a"}) == {b"a": balance(b"a", 3, 3)}
        assert [*store.known([b"0", b"3", b"4"])] == [b"0", b"3", b"4"]


def test_a_store_that_cannot_be_opened_anew_after_it_was_filled_can_be_closed(tmp_path: Path) -> None:
    with (
        opened(tmp_path / "store") as store,
        pytest.raises(Refused, match="cannot be opened"),
        store.filling(),
    ):
        (tmp_path / "store" / "CURRENT").write_text("damaged")


KILLED = """
import os, signal, sys
from pathlib import Path
from random import Random
from schemas.native.balances import encode_balance
from schemas.records import Balance
from streams.store import Cursor, Identity, PartitionStore, StoreMemory
from streams.wallet import Known
identity = Identity("cluster-1", "wallet", "ledger-topic-1", 3)
store = PartitionStore(Path(sys.argv[1]), identity, StoreMemory(16), 100)
filling = store.filling()
if sys.argv[2] == "filling":
    filling.__enter__()
for turn in range(1, 1_000_000):
    balance = Balance("a", "EUR", turn, turn, 0, 3, turn, bytes(32))
    ids = {b"%d-%d" % (turn, number): Known(bytes(32), turn) for number in range(50)}
    body = encode_balance(balance)
    cursor = Cursor(turn, turn, turn, turn)
    store.write({b"a": body, b"b": body}, ids, cursor)
    if turn == 200:
        print("goes on", flush=True)
"""


@pytest.mark.parametrize("how", ["one by one", "filling"])
def test_a_batch_and_its_cursor_are_there_together_or_not_at_all_after_a_kill(
    how: str, tmp_path: Path
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "store"), how], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "goes on\n"
        process.kill()
    with opened(tmp_path / "store") as store:
        turn = store.cursor.source
        assert turn >= 200
        assert store.cursor == Cursor(turn, turn, turn, turn)
        assert {one.sequence for one in store.balances({b"a", b"b"}).values()} == {turn}
        assert len(store.known([b"%d-%d" % (turn, number) for number in range(50)])) == 50
        assert store.known([b"%d-0" % (turn + 1)]) == {}


def test_the_cache_is_bounded_and_what_left_it_is_still_found(tmp_path: Path) -> None:
    wallets = [b"wallet-%d" % number for number in range(500)]
    with opened(tmp_path / "store", cached_wallets=20) as store:
        for turn, wallet in enumerate(wallets):
            write(store, {wallet: balance(wallet, turn)}, {}, Cursor(turn, turn, turn, turn))
            assert len(store._cache) <= 20
        assert store.balances(set(wallets)) == {
            wallet: balance(wallet, at) for at, wallet in enumerate(wallets)
        }
        assert len(store._cache) <= 20


def test_a_batch_larger_than_the_cache_does_not_leave_an_older_balance_behind(tmp_path: Path) -> None:
    wallets = [b"wallet-%d" % number for number in range(50)]
    with opened(tmp_path / "store", cached_wallets=10) as store:
        for sequence in (1, 2, 3):
            write(store, {wallet: balance(wallet, 1, sequence) for wallet in wallets}, {}, Cursor())
        assert {one.sequence for one in store.balances(set(wallets)).values()} == {3}


names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=8)


@given(st.lists(st.tuples(names, st.uuids()), unique=True, max_size=50))
def test_no_two_wallets_and_ids_share_a_place_in_the_index(pairs: list[tuple[str, UUID]]) -> None:
    assert len({posted_id(wallet.encode(), one.bytes) for wallet, one in pairs}) == len(pairs)


def test_a_store_that_was_cleared_begins_anew_and_stays_so(tmp_path: Path) -> None:
    (tmp_path / "store.gone").mkdir()  # of a process that was killed while it cleared the store
    with opened(tmp_path / "store") as store:
        write(store, {b"a": balance(b"a")}, {b"a\0id": Known(b"d" * 32, 1)}, Cursor(5, 5, 5, 5))
        assert store.first_to_read(0) == 4
        with pytest.raises(StoreAhead):
            store.find_newest(6)
        store.clear()
        assert (store.cursor, store.balance(b"a"), store.known([b"a\0id"])) == (Cursor(), None, {})
        write(store, {b"b": balance(b"b")}, {}, Cursor(1, 1, 1, 1))
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    with opened(tmp_path / "store") as store:
        assert store.cursor == Cursor(1, 1, 1, 1)
        assert (store.balance(b"a"), store.balance(b"b")) == (None, balance(b"b"))


def test_the_newest_entry_is_looked_for_where_the_ledger_still_has_it(tmp_path: Path) -> None:
    with opened(tmp_path / "store") as store:
        assert store.first_to_read(0) == 0
        write(store, {}, {}, Cursor(5, 0, 0, 0))
        assert store.first_to_read(5) == 5
        store.find_newest(9)
        assert store.first_to_read(4) == 4
        store.find_newest(4)
        store.find_newest(9)


def test_a_store_that_its_disk_does_not_take_is_closed_in_peace_and_opened_again(tmp_path: Path) -> None:
    """The disk is a limit on the size of a file, which no process may go beyond."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    many = {b"wallet-%d\0id" % number: Known(b"d" * 32, 1) for number in range(10_000)}
    with opened(tmp_path / "store") as store:
        write(store, {b"a": balance(b"a")}, {}, Cursor(1, 1, 1, 1))
        resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, limits[1]))
        try:
            with pytest.raises(Stopped, match=r"cannot be written .*nothing is lost"):
                write(store, {}, many, Cursor(2, 2, 2, 2))
            store.close()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    with opened(tmp_path / "store") as store:
        assert store.cursor == Cursor(1, 1, 1, 1)


def test_a_store_of_the_former_format_is_taken_over_and_not_taken_back(tmp_path: Path) -> None:
    db = Rdict(str(tmp_path / "store"), Options(raw_mode=True))
    db.put(b"m:identity", json.dumps(asdict(IDENTITY) | {"format": 1}).encode())
    db.put(b"m:cursor", struct.pack(">qqqq", 5, 6, 7, 8))
    db.put(b"ba", encode_balance(balance(b"a")))
    db.close()
    for _ in range(2):
        with opened(tmp_path / "store") as store:
            # Its balances may be behind the entries that it has seen.
            assert store.cursor == Cursor(5, 6, 7, 8, unseen=7)
            assert store.balance(b"a") == balance(b"a")
    former = Identity(**asdict(IDENTITY) | {"format": 1})
    with pytest.raises(Refused, match="format 2 instead of 1"), opened(tmp_path / "store", former):
        pass


def told(*wallets: Balance) -> dict[bytes, bytes]:
    return {one.wallet_id.encode(): encode_balance(one) for one in wallets}


def test_what_was_set_aside_counts_once_both_topics_tell_it_whatever_stretches_it_comes_in(
    tmp_path: Path,
) -> None:
    first, second = balance(b"a", 1, 1), balance(b"a", 2, 2)
    with opened(tmp_path / "store", cached_wallets=0) as store:
        store.set_aside(told(first), {}, {}, Cursor(1, 0, 11, 0))
        store.set_aside({}, told(second, balance(b"b")), {}, Cursor(1, 2, 11, 0))
        assert store.balances({b"a", b"b"}) == {}
    with opened(tmp_path / "store") as store:
        difference = agree(store, everything_unseen=False)
        assert difference == Held(b"a", encode_balance(first), encode_balance(second))
        store.set_aside(told(second, balance(b"b")), {}, {}, Cursor(3, 2, 12, 0))
        assert agree(store, everything_unseen=False) is None
        assert store.balances({b"a", b"b"}) == {b"a": second, b"b": balance(b"b")}
        assert [*store.aside(b"e"), *store.aside(b"c")] == []
        # Told once more, it is the same.
        store.set_aside(told(second), told(balance(b"b")), {}, Cursor(3, 3, 12, 0))
        assert agree(store, everything_unseen=False) is None
        assert store.cursor == Cursor(3, 3, 12, 0)


def test_thousands_of_wallets_are_compared_and_one_that_differs_is_found_wherever_it_stands(
    tmp_path: Path,
) -> None:
    many = [balance(b"wallet-%05d" % number) for number in range(2_500)]
    for lacking in (0, 999, 1_000, 2_499):
        with opened(tmp_path / str(lacking)) as store:
            store.set_aside(told(*many), told(*many[:lacking], *many[lacking + 1 :]), {}, Cursor(1, 1, 11, 0))
            wallet = many[lacking].wallet_id.encode()
            assert agree(store, everything_unseen=False) == Held(wallet, encode_balance(many[lacking]), None)
            store.set_aside({}, told(many[lacking]), {}, Cursor(1, 1, 11, 0))
            assert agree(store, everything_unseen=False) is None
            assert len(store.balances({one.wallet_id.encode() for one in many})) == len(many)


def test_to_compare_millions_of_wallets_is_told_as_progress_and_ends_when_it_is_to(tmp_path: Path) -> None:
    many = [balance(b"wallet-%05d" % number) for number in range(2_500)]
    stopping, heard = Event(), list[int]()

    def compared(wallets: int) -> None:
        if stopping.is_set():
            raise Interrupted
        heard.append(wallets)
        stopping.set()

    with opened(tmp_path / "store") as store:
        store.set_aside(told(*many), told(*many), {}, Cursor(1, 1, 11, 0))
        with pytest.raises(Interrupted):
            agree(store, everything_unseen=False, compared=compared)
        assert heard == [1_000]
        stopping.clear()
        assert agree(store, everything_unseen=False, compared=heard.append) is None
        assert heard == [1_000, 500], "what was compared is not compared again"
        assert len(store.balances({one.wallet_id.encode() for one in many})) == len(many)


def test_a_copy_takes_over_what_both_topics_tell_alike_by_now_and_nothing_else(tmp_path: Path) -> None:
    many = [balance(b"wallet-%05d" % number) for number in range(25)]
    newer = balance(b"wallet-00003", 2, 2)
    with opened(tmp_path / "store") as store:
        store.set_aside(told(*many, newer), told(*many[:20]), {}, Cursor(1, 1, 12, 0))
        agree_on(store, [one.wallet_id.encode() for one in many])
        alike = [one for one in many[:20] if one.wallet_id != newer.wallet_id]
        found = store.balances({one.wallet_id.encode() for one in many})
        assert found == {one.wallet_id.encode(): one for one in alike}
        assert [wallet for wallet, _ in store.aside(b"e")] == [
            newer.wallet_id.encode(),
            *(one.wallet_id.encode() for one in many[20:]),
        ]
        assert store.cursor == Cursor(1, 1, 12, 0)
        assert agree(store, everything_unseen=False) == Held(
            newer.wallet_id.encode(), encode_balance(newer), encode_balance(many[3])
        )


def test_a_balance_alone_is_taken_only_where_its_entry_was_deleted_before_it_was_read(tmp_path: Path) -> None:
    with opened(tmp_path / "store") as store:
        write(store, {b"a": balance(b"a", 1, 1)}, {}, Cursor(1, 1, 11, 0))
        store.set_aside({}, told(balance(b"a", 5, 5)), {}, Cursor(9, 2, 11, 0, unseen=15))
        assert agree(store, everything_unseen=False) is not None  # source 15
        store.set_aside({}, told(balance(b"a", 4, 4)), {}, Cursor(9, 3, 11, 0, unseen=15))
        assert agree(store, everything_unseen=False) is None
        assert store.cursor == Cursor(9, 3, 15, 1_800_000_000_000), "what was deleted counts, too"
        store.set_aside({}, told(balance(b"a", 3, 3)), {}, store.cursor._replace(unseen=99))
        assert agree(store, everything_unseen=False) is not None, "older than what is known"
        store.set_aside({}, told(balance(b"a", 9, 9)), {}, store.cursor._replace(unseen=0))
        assert agree(store, everything_unseen=False) is not None
        assert agree(store, everything_unseen=True) is None


class Evicting(dict[bytes, bytes]):
    """A cache from which another thread takes and to which it adds between any two looks."""

    def __contains__(self, wallet: object) -> bool:
        there = super().__contains__(wallet)
        if there:
            del self[wallet]  # type: ignore[arg-type]  # every key is bytes
        else:
            self[wallet] = encode_balance(balance(wallet))  # type: ignore[index,arg-type]
        return there


@pytest.mark.parametrize("cached", [True, False])
def test_a_balance_is_found_while_another_thread_evicts_or_remembers_it(tmp_path: Path, cached: bool) -> None:
    with opened(tmp_path / "store") as store:
        write(store, {b"a": balance(b"a")}, {}, Cursor())
        store._cache = Evicting(store._cache if cached else {})
        assert store.balance(b"a") == balance(b"a")


def read_bytes() -> int:
    """What this process has read so far, from wherever."""
    return int(Path("/proc/self/io").read_text().split("rchar:")[1].split()[0])


@pytest.mark.full
def test_an_unknown_id_is_answered_from_filters_that_stay_in_memory(tmp_path: Path) -> None:
    dice = Random(1)
    with opened(tmp_path / "store") as store:
        for _ in range(125):
            store.write(
                {}, {dice.randbytes(40): Known(dice.randbytes(32), 0) for _ in range(8_000)}, Cursor()
            )
        store._db.compact_range(None, None)
        unknown = [[dice.randbytes(40) for _ in range(500)] for _ in range(40)]
        for ids in unknown[:20]:
            assert store.known(ids) == {}
        before = read_bytes()
        for ids in unknown[20:]:
            store.known(ids)
        # RocksDB may merge a few files meanwhile; a filter that is read again for each look-up makes 226 MB.
        assert read_bytes() - before < 100_000_000
