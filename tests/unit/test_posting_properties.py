"""Properties of the fold: whatever comes, in whatever batches, the bytes that go out are the same."""

import hashlib

from hypothesis import event, given, settings
from hypothesis import strategies as st

from config.pipeline import Pipeline
from schemas.codec import NO_HASH, decode_entry
from schemas.records import Reason
from streams.store import BEFORE_TIME
from tests.effort import examples
from tests.unit.agreement import assert_the_independent_fold_agrees, folded
from tests.unit.strategies import PARTITION, anything, inputs, pipelines, splits
from topics.source import Source


@given(pipelines, st.data())
@settings(max_examples=examples(30))
def test_any_split_into_batches_and_any_redelivery_gives_the_same_bytes(
    pipeline: Pipeline, data: st.DataObject
) -> None:
    records = data.draw(inputs())
    at_once = folded(pipeline, [records])
    assert folded(pipeline, [[record] for record in records]) == at_once
    assert folded(pipeline, data.draw(splits(records))) == at_once


@given(pipelines, inputs())
@settings(max_examples=examples(50))
def test_every_record_has_exactly_one_outcome_and_entries_chain_in_a_time_that_never_goes_back(
    pipeline: Pipeline, records: list[Source]
) -> None:
    written = folded(pipeline, [records])
    assert written.named == [record.offset for record in records]
    times = {record.offset: record.timestamp_ms for record in records}
    newest: dict[bytes, tuple[int, int, bytes]] = {}
    latest_ms, latest_offset = BEFORE_TIME, -1
    for key, value, timestamp_ms, _ in written.entries:
        body = (value or b"")[5:]
        entry = decode_entry(body)
        assert key == entry.transaction.wallet_id.encode()
        assert entry.source_partition == PARTITION
        assert entry.source_offset > latest_offset
        assert entry.recorded_ms == timestamp_ms == max(latest_ms, times[entry.source_offset])
        sequence, balance, previous = newest.get(key, (0, 0, NO_HASH))
        change = entry.transaction.amount * (-1 if entry.transaction.type else 1)
        assert (entry.sequence, entry.balance) == (sequence + 1, balance + change)
        assert entry.hash == hashlib.sha256(previous + body[:-32]).digest()
        newest[key] = (entry.sequence, entry.balance, entry.hash)
        latest_ms, latest_offset = entry.recorded_ms, entry.source_offset


@given(pipelines, st.data())
@settings(max_examples=examples(62))
def test_the_independent_fold_agrees(pipeline: Pipeline, data: st.DataObject) -> None:
    records = data.draw(inputs())
    written = folded(pipeline, data.draw(splits(records)))
    for reason in assert_the_independent_fold_agrees(pipeline, records, written):
        event(reason)


@given(pipelines, st.data())
@settings(max_examples=examples(62))
def test_whatever_bytes_come_as_key_value_headers_and_time_each_record_has_one_outcome(
    pipeline: Pipeline, data: st.DataObject
) -> None:
    records = data.draw(anything())
    written = folded(pipeline, data.draw(splits(records)))
    assert written.named == [record.offset for record in records]
    for reason in assert_the_independent_fold_agrees(pipeline, records, written):
        event(reason)
    event(f"{len(written.entries)} entries")


def test_the_records_that_are_drawn_meet_every_reason() -> None:
    """The properties above mean little if their input never rejects anything."""
    met = set[str]()

    @given(pipelines, inputs())
    @settings(max_examples=150, database=None)
    def meet(pipeline: Pipeline, records: list[Source]) -> None:
        for rejection in folded(pipeline, [records]).rejections:
            reason = (rejection.headers or [])[-6][1]
            met.add(reason.decode() if isinstance(reason, bytes) else str(reason))

    meet()
    assert met == set(Reason)
