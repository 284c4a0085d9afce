"""`wallet verify` against topics that somebody tampered with: it finds exactly what was done to them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition

from config.errors import ConfigurationError, Refused
from config.settings import Settings
from local.stack import Addresses
from operations.sending.delivery import deliver
from operations.setup.init import initialise
from schemas.codec import HEADER_BYTES, decode_entry
from schemas.native.balances import decode_balance, encode_balance
from tests.integration.pipelines import as_record, transaction
from tests.integration.verify_copies import (
    COUNT,
    PARTITIONS,
    Copied,
    copy_of,
    pipeline_that_ran,
    told,
    verified,
)
from topics.cluster import quiet_admin
from topics.names import Topics
from topics.topic_settings import alter

pytestmark = pytest.mark.integration

Records = dict[int, list[Copied]]


@pytest.fixture(scope="module")
def original(addresses: Addresses, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with pipeline_that_ran(addresses, tmp_path_factory.mktemp("verify")) as settings:
        yield settings


def flipped(value: bytes | None, at: int) -> bytes:
    """The value with one bit of one byte changed."""
    changed = bytearray(value or b"")
    changed[at] ^= 1
    return bytes(changed)


def delete_before(settings: Settings, topic: str, partition: int, offset: int) -> None:
    """Delete the records of a partition before an offset."""
    client = quiet_admin(settings)
    for deleted in client.delete_records([TopicPartition(topic, partition, offset)]).values():
        deleted.result(30)


def test_a_pipeline_that_nobody_touched_is_clean(original: Settings) -> None:
    report = verified(original)
    assert report.clean, report.differences.shown
    assert sum(one.records for one in report.covered) == COUNT + 1
    assert all(one.conserved and one.in_flight == 0 and one.records for one in report.covered)
    covered = {
        name: sum(getattr(one, name) for one in report.covered)
        for name in ("entries", "rejections", "snapshots")
    }
    assert report.rows == {
        "transactions": covered["entries"],
        "rejections": covered["rejections"],
        "transaction_snapshots": covered["snapshots"],
    }
    assert covered["snapshots"] > 20
    assert report.functions["wallets"] > 100
    assert ("one-legged", "its legs sum to 100 EUR (minor units)") in {
        (one.subject, one.detail) for one in verified(original, shown=10_000).findings.shown
    }


def test_several_processes_come_to_the_same_report_and_the_same_seal(
    original: Settings, tmp_path: Path
) -> None:
    one, two = (verified(original, jobs=jobs, export=tmp_path / f"{jobs}.json") for jobs in (1, 2))
    assert two.clean, two.differences.shown
    assert (two.covered, two.rows, two.findings.total) == (one.covered, one.rows, one.findings.total)
    assert two.functions == one.functions
    told = [json.loads((tmp_path / f"{jobs}.json").read_text()) for jobs in (1, 2)]
    assert told[0]["seal"] == told[1]["seal"]
    assert sum(each["entries"] for each in told[0]["certified"]["partitions"]) == one.rows["transactions"]
    # What they have summed up apart is added once, also by who goes on from there.
    for since in (None, tmp_path / "point"):
        again = verified(original, jobs=2, since=since, save=tmp_path / "point", shown=10_000)
        assert again.clean, again.differences.shown
        assert {one.detail for one in again.findings.shown if one.subject == "one-legged"} == {
            "its legs sum to 100 EUR (minor units)"
        }
        assert again.findings.total == one.findings.total
    with pytest.raises(ConfigurationError, match="name a file in an existing folder"):
        verified(original, export=tmp_path / "nowhere" / "1.json")


def test_each_thing_done_to_the_ledger_is_found_and_nothing_else(original: Settings) -> None:
    wanted: list[tuple[str, int]] = []

    def source(record: Copied) -> int:
        return decode_entry((record[1] or b"")[HEADER_BYTES:]).source_offset

    def tamper(records: Records) -> None:
        some, others = records[0], records[1]
        key, value, at_ms, headers = some[100]
        some[100] = (key, flipped(value, -1), at_ms, headers)
        wanted.append(("altered", source(some[100])))
        key, value, at_ms, headers = some[200]
        some[200] = (b"somebody", value, at_ms, headers)
        wanted.append(("altered", source(some[200])))
        key, value, at_ms, headers = some[300]
        some[300] = (key, value, at_ms + 1, headers)
        wanted.append(("altered", source(some[300])))
        key, value, at_ms, headers = some[400]
        some[400] = (key, value, at_ms, [("x", b"y")])
        wanted.append(("altered", source(some[400])))
        wanted.append(("missing", source(others[50])))
        wanted.append(("extra", source(others[60])))
        wanted.append(("extra", source(others[70])))
        wanted.append(("missing", source(others[-1])))
        last = others.pop()
        others.append(others[60])  # posted twice, long ago
        others.insert(80, others[70])  # and at once
        del others[50]
        assert last not in others

    with copy_of(original, ledger=tamper) as copy:
        report = verified(copy, postgres=False, shown=100)
    found = [(one.what, one.source_offset) for one in report.differences.shown]
    assert sorted(found, key=str) == sorted(wanted, key=str)
    altered = report.differences.shown[0]
    assert altered.expected
    assert altered.found
    assert altered.expected.keys() == altered.found.keys() == {"hash"}
    assert altered.wallet_id
    assert altered.sequence


def test_each_thing_done_to_rejections_is_found_and_nothing_else(original: Settings) -> None:
    def tamper(records: Records) -> None:
        some = records[0]
        key, value, at_ms, headers = some[5]
        some[5] = (key, (value or b"") + b"!", at_ms, headers)
        key, value, at_ms, headers = some[10]
        renamed = [(name, b"CONFLICT!" if name == "rejection.reason" else one) for name, one in headers]
        some[10] = (key, value, at_ms, renamed)
        del some[20]
        some.append(some[2])
        some.append((b"no", b"rejection", 1, []))

    with copy_of(original, rejections=tamper) as copy:
        report = verified(copy, postgres=False)
    assert told(report) == [
        ("rejections", "altered"),
        ("rejections", "altered"),
        ("rejections", "extra"),
        ("rejections", "extra"),
        ("rejections", "missing"),
    ]
    reason = next(
        one
        for one in report.differences.shown
        if one.found and "rejection.reason" in one.found and one.what == "altered"
    )
    assert reason.found == {"rejection.reason": "CONFLICT!"}


def test_each_thing_done_to_snapshots_is_found_and_nothing_else(original: Settings) -> None:
    def tamper(records: Records) -> None:
        some = records[1]
        key, value, at_ms, headers = some[5]
        some[5] = (key, flipped(value, 20), at_ms, headers)
        del some[9]
        some.append(some[0])

    with copy_of(original, snapshots=tamper) as copy:
        found = told(verified(copy, postgres=False))
    # A flipped bit may be in what a snapshot is known by: then it is one too many and one is missing.
    assert found in (
        [("snapshots", "altered"), ("snapshots", "extra"), ("snapshots", "missing")],
        [("snapshots", "extra")] * 2 + [("snapshots", "missing")] * 2,
    )


def test_each_thing_done_to_balances_is_found_and_nothing_else(original: Settings) -> None:
    wallets: dict[str, bytes | None] = {}

    def tamper(records: Records) -> None:
        some, others = records[0], records[1]
        newest = {key: (key, value, at_ms, headers) for key, value, at_ms, headers in some}
        dropped, forged, altered = list(newest.values())[:3]
        wallets.update(dropped=dropped[0], forged=forged[0], altered=altered[0], repeated=others[0][0])
        some[:] = [one for one in some if one[0] != dropped[0]]
        balance = decode_balance((forged[1] or b"")[HEADER_BYTES:])
        richer = balance._replace(balance=balance.balance + 1, hash=bytes(32))
        some.append((forged[0], (forged[1] or b"")[:HEADER_BYTES] + encode_balance(richer), forged[2], []))
        some[some.index(altered)] = (altered[0], altered[1], altered[2] + 1, altered[3])
        others.append(others[0])  # the same one again

    with copy_of(original, balances=tamper) as copy:
        report = verified(copy, postgres=False)
    assert {(one.what, (one.wallet_id or "").encode()) for one in report.differences.shown} == {
        ("missing", wallets["dropped"]),
        ("altered", wallets["forged"]),
        ("altered", wallets["altered"]),
        ("out of order", wallets["repeated"]),
    }
    assert report.differences.total == 4


@pytest.mark.full
def test_balances_that_compaction_removed_are_not_missed(original: Settings) -> None:
    def compact(records: Records) -> None:
        for one_partition in records.values():
            newest = {record[0]: record for record in one_partition}
            one_partition[:] = [record for record in one_partition if newest[record[0]] is record]

    with copy_of(original, balances=compact) as copy:
        assert told(verified(copy, postgres=False)) == []


@pytest.mark.full
def test_entries_deleted_from_the_start_of_a_partition_are_each_missed(original: Settings) -> None:
    with copy_of(original) as copy:
        ledger = Topics.of(copy).ledger
        delete_before(copy, ledger, 1, 300)
        report = verified(copy, postgres=False)
    assert dict(report.differences.counts) == {(ledger, "missing"): 300}
    assert {one.partition for one in report.differences.shown} == {1}


@pytest.mark.full
def test_what_a_finite_retention_deleted_is_told_and_no_difference(original: Settings) -> None:
    with copy_of(original) as copy:
        ledger = Topics.of(copy).ledger
        alter(quiet_admin(copy), ledger, {"retention.ms": str(10**12)})
        delete_before(copy, ledger, 1, 300)
        report = verified(copy, postgres=False)
    assert report.clean, report.differences.shown
    assert [one.not_kept for one in report.covered] == [0, 300]


def test_an_input_that_lost_its_first_records_cannot_be_verified(
    original: Settings, settings: Settings
) -> None:
    """On a pipeline of its own, without a worker."""
    initialise(settings)
    deliver(settings, [as_record(transaction(1, "a"), settings.partitions)], lambda _: None)
    topic = Topics.of(settings).transactions
    partition = as_record(transaction(1, "a"), settings.partitions).partition
    delete_before(settings, topic, partition, 1)
    with pytest.raises(Refused, match="begins at offset 1"):
        verified(settings, postgres=False)


def test_a_pipeline_that_is_not_there_is_named(settings: Settings) -> None:
    with pytest.raises(Refused, match=f"{settings.prefix}.pipeline does not exist: run `wallet init`"):
        verified(settings, postgres=False)


def test_records_without_an_outcome_are_in_flight_until_the_group_says_they_are_decided(
    original: Settings,
) -> None:
    last: list[Copied] = []

    def tamper(records: Records) -> None:
        last.append(records[0].pop())

    with copy_of(original, ledger=tamper) as copy:
        report = verified(copy, postgres=False)
        assert told(report) == [("ledger", "missing")]
        assert (
            report.differences.shown[0].source_offset
            == decode_entry((last[0][1] or b"")[HEADER_BYTES:]).source_offset
        )


@pytest.mark.full
def test_only_the_named_partition_is_verified(original: Settings) -> None:
    def tamper(records: Records) -> None:
        del records[0][3]

    with copy_of(original, ledger=tamper) as copy:
        assert told(verified(copy, postgres=False, partition=1)) == []
        assert told(verified(copy, postgres=False, partition=0)) == [("ledger", "missing")]
    assert verified(original, partition=1).clean
    assert PARTITIONS == 2


def test_up_to_a_named_end_what_comes_later_is_in_flight(original: Settings) -> None:
    report = verified(original, partition=0, to_offset=500)
    assert report.clean, report.differences.shown
    assert report.covered[0].to_offset == 500
    assert report.covered[0].in_flight > 0
    assert report.rows["transactions"] == report.covered[0].entries


@pytest.mark.full
def test_a_verified_point_is_gone_on_from(original: Settings, tmp_path: Path) -> None:
    point = tmp_path / "point"
    first = verified(original, save=point)
    assert first.saved == str(point)
    second = verified(original, since=point, save=point)
    assert second.clean, second.differences.shown
    assert sum(one.records for one in second.covered) == 0
    assert second.rows == first.rows
    one = verified(original, since=point, partition=0)
    assert one.clean, one.differences.shown
    with pytest.raises(Refused, match="after the given end 5: give a later end"):
        verified(original, since=point, partition=0, to_offset=5)
    with copy_of(original) as copy, pytest.raises(Refused, match="another prefix"):
        verified(copy, since=point, postgres=False)
