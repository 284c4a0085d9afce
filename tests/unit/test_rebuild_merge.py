"""The parts of `wallet rebuild` that need no server: the order of a copy, its partitions, entries side by side."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import cast
from uuid import UUID

import pytest
from confluent_kafka import murmur2
from confluent_kafka.admin import AdminClient
from hypothesis import given
from hypothesis import strategies as st

from config.errors import NotReachable, Refused
from config.settings import Settings
from operations.rebuild.copy import UNKNOWN, Merge, copyable, placed
from operations.rebuild.explain import WAITING, Pair, aligned
from operations.rebuild.input import list_schemas
from operations.rebuild.place import Rebuild
from sinks.comparison import ComparedEntry
from tests.unit.registry_server import running
from topics.source import Source

FOR_EVER = float("inf")


def merged(partitions: Sequence[Sequence[int]], pieces: int = 3) -> list[tuple[int, int]]:
    """Times of records, fed to a merge in turns of so many: which record of which partition comes when."""
    merge: Merge[tuple[int, int]] = Merge(len(partitions))
    read = [0] * len(partitions)
    found: list[tuple[int, int]] = []
    while any(at < len(times) for at, times in zip(read, partitions, strict=True)):
        for partition, times in enumerate(partitions):
            for number in range(read[partition], min(read[partition] + pieces, len(times))):
                merge.add(partition, times[number], (partition, number))
            read[partition] = min(read[partition] + pieces, len(times))
        complete = [
            FOR_EVER if at == len(times) else UNKNOWN for at, times in zip(read, partitions, strict=True)
        ]
        found += [held.record for held in merge.ready(complete)]
    return found


@given(st.lists(st.lists(st.integers(1, 50)), min_size=1, max_size=4), st.integers(1, 7))
def test_a_copy_keeps_each_partitions_order_and_loses_nothing(times: list[list[int]], pieces: int) -> None:
    found = merged(times, pieces)
    for partition, own in enumerate(times):
        assert [number for at, number in found if at == partition] == [*range(len(own))]


@given(st.lists(st.lists(st.integers(1, 50)).map(sorted), min_size=1, max_size=4), st.integers(1, 7))
def test_a_copy_is_in_the_order_of_time_however_it_is_read(times: list[list[int]], pieces: int) -> None:
    in_order = [times[partition][number] for partition, number in merged(times, pieces)]
    assert in_order == sorted(in_order)


def test_a_record_waits_while_an_older_one_may_still_come() -> None:
    merge: Merge[str] = Merge(2)
    merge.add(0, 100, "early")
    merge.add(0, 300, "late")
    assert merge.ready([UNKNOWN, UNKNOWN]) == [], "nothing is known of the second partition"
    assert [held.record for held in merge.ready([UNKNOWN, 200])] == ["early"]
    merge.add(1, 250, "between")
    assert [held.record for held in merge.ready([FOR_EVER, FOR_EVER])] == ["between", "late"]


@pytest.mark.parametrize(("before", "after"), [(4, 8), (8, 4), (3, 7), (4, 4), (1, 2)])
def test_a_record_that_was_routed_right_is_and_one_that_was_not_is_not(before: int, after: int) -> None:
    for number in range(200):
        key = f"wallet-{number}".encode()
        home = murmur2(key, before)
        assert placed(key, home, before, after) == murmur2(key, after)
        for elsewhere in set(range(before)) - {home}:
            assert placed(key, elsewhere, before, after) != murmur2(key, after)


@pytest.mark.parametrize("key", [None, b""])
def test_a_record_without_a_key_goes_to_its_partition_modulo_the_new_number(key: bytes | None) -> None:
    assert [placed(key, at, 6, 4) for at in range(6)] == [0, 1, 2, 3, 0, 1]


def entry(
    number: int, wallet_id: str = "alice", *, sequence: int | None = None, second: int = 0
) -> ComparedEntry:
    """An entry whose transaction and offset are this number."""
    at = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(seconds=second)
    place = (0, number, b"")
    return ComparedEntry(
        wallet_id,
        number if sequence is None else sequence,
        UUID(int=number),
        "CREDIT",
        1,
        "EUR",
        number,
        at,
        *place,
    )


def numbers(pairs: Sequence[Pair]) -> list[tuple[int | None, int | None]]:
    """The transactions of pairs."""
    return sorted(
        ((a.transaction_id.int if a else None, b.transaction_id.int if b else None) for a, b in pairs),
        key=str,
    )


@pytest.mark.parametrize("same_input", [True, False])
def test_entries_find_their_counterparts_and_the_others_stand_alone(same_input: bool) -> None:
    live = [entry(1), entry(2), entry(4), entry(7, "bob")]
    shadow = [entry(1), entry(3, sequence=2), entry(4, sequence=3), entry(9, "carol")]
    found = [*aligned(iter(live), iter(shadow), same_input=same_input)]
    assert numbers(found) == sorted([(1, 1), (2, None), (None, 3), (4, 4), (7, None), (None, 9)], key=str)


def test_an_id_that_was_posted_again_after_its_window_is_paired_twice() -> None:
    again = [entry(5, sequence=1), entry(5, sequence=2, second=90)]
    found = [*aligned(iter(again), iter(again), same_input=False)]
    assert [(a and a.sequence, b and b.sequence) for a, b in found] == [(1, 1), (2, 2)]


def test_entries_that_wait_for_a_counterpart_are_bounded() -> None:
    alone = (entry(number, sequence=number) for number in range(WAITING + 10))
    first = next(aligned(alone, iter(()), same_input=True))
    assert first[0] is not None
    assert first[0].sequence == 0
    assert next(alone).sequence <= WAITING + 2, "the rest was not read yet"


def _between(live: Settings, partitions: int) -> Rebuild:
    beside = live.model_copy(
        update={"prefix": "beside", "partitions": partitions, "input": "beside.transactions"}
    )
    return Rebuild(live, beside, None, "", "", cast("AdminClient", None))


def test_the_schemas_of_the_live_input_are_listed_for_its_copy_under_the_same_ids(
    plain_settings: Settings,
) -> None:
    with running() as registry:
        live = plain_settings.model_copy(update={"prefix": "live", "registry": registry.url})
        ids = [registry.add("live.transactions-value", f'{{"version": {number}}}') for number in (1, 2)]
        known: set[int] = set()
        assert list_schemas(_between(live, 8), known) == 2
        assert registry.subjects["beside.transactions-value"] == ids
        third = registry.add("live.transactions-value", '{"version": 3}')
        assert list_schemas(_between(live, 8), known) == 1, "one that a producer has registered since"
        assert registry.subjects["beside.transactions-value"] == [*ids, third]


def test_a_registry_that_is_away_or_gives_other_ids_stops_the_copy(plain_settings: Settings) -> None:
    with running() as registry:
        live = plain_settings.model_copy(update={"prefix": "live", "registry": registry.url})
        registry.add("live.transactions-value", '{"version": 1}')
        registry.before = [(500, "out of order")]
        with pytest.raises(NotReachable, match="run it again"):
            list_schemas(_between(live, 8))
        registry.before = [(200, [1]), (200, {"id": 99, "schema": '{"version": 1}'})]
        with pytest.raises(Refused, match="another id"):
            list_schemas(_between(live, 8))


def test_without_a_copy_or_a_registry_nothing_is_listed(plain_settings: Settings) -> None:
    with running() as registry:
        live = plain_settings.model_copy(update={"registry": registry.url})
        assert list_schemas(_between(live, live.partitions)) == 0
        assert list_schemas(_between(plain_settings, 8)) == 0
        assert registry.asked == []


@pytest.mark.parametrize(
    ("name", "value_bytes", "whole"),
    [
        ("name", 500, True),
        ("a\0b", 90, True),
        ("a\0b", 99, False),  # 102 bytes in the input, 100 in the copy
        ("a\0b", 100, True),  # too large in both
        ("a\0b", 500, True),
        ("name", 1_000, False),
    ],
)
def test_what_a_copy_would_make_smaller_than_the_limit_is_not_copied_as_it_is(
    name: str, value_bytes: int, whole: bool
) -> None:
    record = Source(0, 1, None, bytes(value_bytes), [(name, None)])
    assert copyable(record, 1_000, 100) is whole
