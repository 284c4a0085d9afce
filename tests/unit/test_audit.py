"""The audit: nothing is found where a worker did what it must, whatever came in; each thing done to a topic is."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from audit import avro
from audit.columns import Cursor, Packed, is_wallet_id, transactions
from audit.columns import sources as sources_of
from audit.contract import Contract, Reason, is_valid
from audit.foreign import Writer
from audit.partition import PartitionAudit, Span, Stretch
from audit.report import Differences, Findings
from audit.samples import Samples
from config.pipeline import Pipeline
from operations.sending.generator import Mix, records
from schemas.codec import encode_transaction, frame
from schemas.versions import FIXED_IDS, schema_text
from tests.edits import edited
from tests.effort import examples
from tests.unit import agreement
from tests.unit.agreement import TOPIC, in_python
from tests.unit.audit_changes import CHANGES, RULES, Change, Rule, in_topic, replaced
from tests.unit.audits import TOPICS, InMemory, Pipe, piped
from tests.unit.strategies import DAY_MS, PARTITION, START_MS, anything, inputs, pipelines, valid
from tests.unit.transactions import damaged
from topics.source import Sizes, Source

MIX = Mix(
    wallets=60,
    bad=0.12,
    duplicates=0.05,
    partitions=4,
    overdraft_rejected=True,
    max_record_bytes=2_000,
    seed=6,
)
PIPELINE = Pipeline(1, 4, 5, "reject", MIX.max_record_bytes, None, 1)

Records = list[Source]
DERIVED = ("ledger", "rejections", "snapshots", "balances")


@cache
def sources(count: int = 12_000, seed: int = 6) -> Records:
    """One partition's share of a stream of every kind, over some days."""
    made = [one for one in records(count, replace(MIX, seed=seed)) if one.partition == PARTITION]
    found = []
    for at, one in enumerate(made):
        timestamp_ms = START_MS + at * 100_000 - (at % 10 == 9) * 1_000_000
        headers = [*one.headers, *([("trace", b"%d" % at)] if at % 7 == 0 else ())]
        found.append(Source(2 * at, timestamp_ms, one.key, one.value, headers))
    return found


@pytest.fixture(scope="module")
def original() -> Pipe:
    return piped(PIPELINE, sources(), 97)


@pytest.fixture
def pipe(original: Pipe) -> Pipe:
    return Pipe(original.pipeline, {name: [*some] for name, some in original.topics.items()})


@settings(max_examples=examples(25))
@given(pipelines, inputs(), st.integers(1, 5), st.integers(1, 30))
def test_what_a_worker_made_of_nasty_input_is_clean(
    pipeline: Pipeline, came: Records, batch: int, stretch: int
) -> None:
    differences, _, covered = piped(pipeline, came, batch).audit(stretch=stretch)
    assert not differences.total, differences.shown
    assert covered.records == len(came) == covered.entries + covered.rejections


@settings(max_examples=examples(25))
@given(pipelines, anything(), st.integers(1, 5))
def test_what_a_worker_made_of_anything_is_clean(pipeline: Pipeline, came: Records, stretch: int) -> None:
    differences, _, covered = piped(pipeline, came).audit(stretch=stretch)
    assert not differences.total, differences.shown
    assert covered.conserved


@settings(max_examples=examples(25))
@given(pipelines, inputs(), st.integers(1, 30), st.randoms(use_true_random=False))
def test_a_bit_that_is_flipped_anywhere_is_found(
    pipeline: Pipeline, came: Records, stretch: int, chosen: random.Random
) -> None:
    pipe = piped(pipeline, came)
    filled = [name for name, some in pipe.topics.items() if some and name != TOPICS.transactions]
    if not filled:
        return
    some = pipe.topics[chosen.choice(filled)]
    at = chosen.randrange(len(some))
    value = bytearray(some[at].value or b"")
    if value:
        value[chosen.randrange(len(value))] ^= 1 << chosen.randrange(8)
        some[at] = some[at]._replace(value=bytes(value))
        assert pipe.audit(stretch=stretch)[0].total


def test_the_pipeline_that_is_changed_below_has_everything_and_is_clean(original: Pipe) -> None:
    differences, _, covered = original.audit()
    assert not differences.total, differences.shown
    reasons = {dict(one.headers)["rejection.reason"] for one in original.topics[TOPICS.rejections]}
    assert reasons == {reason.encode() for reason in Reason}
    assert covered.snapshots > 100
    assert covered.balances > 100


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
def test_each_thing_done_to_the_topics_is_found(pipe: Pipe, change: Change) -> None:
    change.do(pipe)
    told = pipe.told()
    assert (change.check, change.topic, change.what) in {one[:3] for one in told}, told
    assert len(told) <= change.most, told


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_each_rule_that_a_worker_breaks_is_found(rule: Rule) -> None:
    pipeline = replace(PIPELINE, id_window_days=2) if "early" in rule.name else PIPELINE
    with edited(rule.name, [rule.edit]), in_python():
        broken = piped(pipeline, sources(), 97)
    assert rule.check in {check for check, *_ in broken.told()}


@given(damaged(valid.map(encode_transaction)) | valid.map(encode_transaction) | st.binary(max_size=80))
@example(
    b"H0b0e7d3c-2f65-4c6f-9d5e-000000000000\x10\x80allet-1\x00\x02\x06EUR\x80\x80\xc4\x89\xe5\xc5\xb2\x06\x00\x00"
)
def test_columns_read_what_the_slow_reader_reads_and_take_nothing_else(body: bytes) -> None:
    values = [frame(1) + body]
    cursor = Cursor(Packed(values))
    columns = transactions(cursor, values)
    usual = bool(cursor.end()[0])
    at, size = int(columns.wallet_at[0]), int(columns.wallet_bytes[0])
    # The wallet's own rules, its UTF-8 as well, are asked once for every wallet.
    wallet_is_good = usual and is_wallet_id(values[0][at : at + size])
    try:
        read = avro.read_transaction(body)
    except avro.Undecodable:
        assert not wallet_is_good
        return
    canonical = avro.write_transaction(read) == body
    assert wallet_is_good == (canonical and is_valid(read))
    if wallet_is_good:
        assert values[0][at : at + size] == read.wallet_id.encode()
        assert columns.signed[0] == read.signed
        assert columns.occurred_us[0] == read.occurred_us
        assert (int(columns.id_high[0]) << 64 | int(columns.id_low[0])) == UUID(read.transaction_id).int
        assert columns.in_order[0] == (read.metadata == tuple(sorted(read.metadata)))


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20))
def test_columns_read_any_long(numbers: list[int]) -> None:
    cursor = Cursor(Packed([b"".join(map(avro.long, numbers))] * 3), skip=0)
    assert [int(cursor.long()[2]) for _ in numbers] == numbers
    assert cursor.end().all()


@given(st.integers(0, 2**63 - 1), st.binary(min_size=36, max_size=60))
def test_a_source_is_read_back_from_the_hash(source: int, before: bytes) -> None:
    value = frame(2) + before + avro.long(3) + avro.long(source) + bytes(32)
    assert sources_of([value])[0] == source


@settings(max_examples=examples(25))
@given(
    pipelines, inputs(), st.integers(1, 6), st.sampled_from(["ledger", "rejections", "snapshots"]), st.data()
)
def test_what_retention_has_deleted_is_no_difference(
    pipeline: Pipeline, came: Records, stretch: int, topic: str, data: st.DataObject
) -> None:
    pipe, name = piped(pipeline, came), getattr(TOPICS, topic)
    deleted = data.draw(st.integers(0, len(pipe.topics[name])))
    differences, _, covered = pipe.audit(stretch=stretch, late={name: deleted})
    assert not differences.total, differences.shown
    assert covered.not_kept <= deleted


def test_what_was_never_posted_is_missing_though_rejections_were_deleted(pipe: Pipe) -> None:
    del pipe.ledger[100]
    late = {TOPICS.rejections: len(pipe.topics[TOPICS.rejections])}
    assert ("conservation", "missing") in {(one.check, one.what) for one in pipe.audit(late=late)[0].shown}


@pytest.mark.parametrize("window_days", [None, 1])
def test_what_came_before_the_year_1_is_judged_as_of_its_beginning(window_days: int | None) -> None:
    pipeline = replace(PIPELINE, id_window_days=window_days)
    came = [one._replace(timestamp_ms=-(2**62) + at) for at, one in enumerate(sources(2_000))]
    came += [one._replace(offset=one.offset + 10**6) for one in sources(2_000, seed=7)]
    agreement.assert_the_independent_fold_agrees(pipeline, came, agreement.folded(pipeline, [came]))
    pipe = piped(pipeline, came)
    assert pipe.told() == []
    # Judged one by one where something is wrong: that entry is gone, and nothing else differs.
    gone = pipe.ledger[0]
    del pipe.ledger[0]
    ((check, topic, what, source),) = {one for one in pipe.told() if one[1] == "ledger"}
    assert (check, topic, what, source) == ("conservation", "ledger", "missing", named_by(gone))


@pytest.mark.parametrize("came_ms", [START_MS - 1, START_MS - 3 * DAY_MS, -(2**62)])
def test_a_rejection_that_is_gone_is_missing_there_however_early_its_record(came_ms: int) -> None:
    posted = next(one for one in sources() if not one.headers)
    again = posted._replace(offset=posted.offset + 1, timestamp_ms=came_ms)
    for first_ms in (START_MS, came_ms - 1):
        first = posted._replace(timestamp_ms=first_ms)
        pipe = piped(replace(PIPELINE, id_window_days=1), [first, again])
        assert pipe.told() == []
        (rejected,) = pipe.topics[TOPICS.rejections]
        assert dict(rejected.headers)["rejection.reason"] == b"DUPLICATE"
        pipe.topics[TOPICS.rejections].clear()
        assert pipe.told() == [("conservation", "rejections", "missing", again.offset)]


def named_by(entry: Source) -> int:
    return avro.read_entry((entry.value or b"")[5:]).source_offset


def test_more_snapshots_than_are_in_sight_may_have_been_deleted() -> None:
    pipe = piped(replace(PIPELINE, snapshot_every=1), sources(30_000))
    deleted = len(pipe.topics[TOPICS.snapshots]) // 2
    assert deleted > 2_000
    differences, _, covered = pipe.audit(stretch=900, late={TOPICS.snapshots: deleted})
    assert not differences.total, differences.shown
    assert covered.not_kept == deleted


def with_a_huge_wallet(topic: str) -> Callable[[Pipe], None]:
    def change(one: Source) -> Source:
        value, key = one.value or b"", one.key or b""
        return one._replace(value=value.replace(avro.long(len(key)) + key, avro.long(2**63 - 1) + key, 1))

    return in_topic(topic, change)


def more_headers_than_may_be(pipe: Pipe) -> None:
    came = pipe.topics[TOPICS.transactions]
    posted = {one.source_offset for one in (avro.read_entry((each.value or b"")[5:]) for each in pipe.ledger)}
    at = next(at for at, one in enumerate(came) if one.offset in posted and not one.headers)
    came[at] = came[at]._replace(headers=[("", None)] * 99_995)


@pytest.mark.parametrize(
    "do",
    [
        more_headers_than_may_be,
        in_topic("snapshots", lambda one: one._replace(value=(one.value or b"")[:-1] + b"\x01")),
        *(with_a_huge_wallet(topic) for topic in ("ledger", "snapshots", "balances")),
        *(replaced(topic, key=None, value=None) for topic in DERIVED),
        *(replaced(topic, key=b"\xff") for topic in DERIVED),
        *(
            replaced("rejections", headers=[("rejection.offset", named)])
            for named in (None, b"", b"9" * 19, "²".encode(), b"-1", b"1" * 400)
        ),
    ],
)
def test_what_is_damaged_is_a_difference_and_no_failure(pipe: Pipe, do: Callable[[Pipe], None]) -> None:
    do(pipe)
    assert pipe.told()


def test_a_name_that_librdkafka_has_cut_is_no_difference() -> None:
    came = [one._replace(headers=[*one.headers, ("a\0b", b"1")]) for one in sources(2_000)]
    pipe = piped(PIPELINE, came)
    assert len(pipe.topics[TOPICS.rejections]) > 50
    assert pipe.told() == []


def test_an_audit_goes_on_from_where_one_ended_and_finds_what_came_since(
    original: Pipe, tmp_path: Path
) -> None:
    topics = original.topics
    came, ends = topics[TOPICS.transactions], {name: len(some) for name, some in topics.items()}
    cut, end = came[len(came) // 2].offset, came[-1].offset + 1
    starts, spans = dict.fromkeys(ends, 0), [(0, 0), (0, cut), (cut, cut), (cut, end)]
    for begin, to in spans:
        differences = Differences(10)
        audit = PartitionAudit(
            Contract.of(TOPIC, PIPELINE, FIXED_IDS),
            TOPICS,
            Span(PARTITION, begin, to, end, starts, ends),
            lambda topic: InMemory(topics[topic]),
            tmp_path,
            differences,
            Findings(10),
        )
        audit.run(lambda _: None, lambda: ())
        audit.save(tmp_path)
        starts = audit.next_offsets
        assert not differences.total, differences.shown
    assert starts[TOPICS.ledger] == ends[TOPICS.ledger]


def test_samples_of_busy_wallets_stay_within_their_bound() -> None:
    samples = Samples()

    def judged(one: Stretch) -> None:
        for partition in range(12):
            samples.add(one.judged, one.wallets, partition)

    piped(PIPELINE, sources(30_000)).audit(watch=judged)
    assert sum(len(one.steps) for one in samples.histories.values()) <= 20_000
    assert samples.chosen()


def test_a_type_that_a_producers_schema_declares_in_a_branch_not_taken_is_known() -> None:
    ours = json.loads(schema_text("transaction", 1))
    channel = {"type": "enum", "name": "Channel", "symbols": ["WEB", "SHOP"]}
    before = [{"name": "channel", "type": ["null", channel]}, {"name": "via", "type": "Channel"}]
    writer = Writer(json.dumps(ours | {"fields": [*before, *ours["fields"]]}))
    one = avro.read_transaction((sources(2_000)[0].value or b"")[5:])
    assert writer.read(avro.long(0) + avro.long(1) + avro.write_transaction(one)) == one


def test_an_audit_measures_records_by_itself(original: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    posted = avro.read_entry((original.ledger[50].value or b"")[5:]).source_offset
    large = [("h", bytes(PIPELINE.max_record_bytes))]
    came = [one._replace(headers=large) if one.offset == posted else one for one in sources()]
    monkeypatch.setattr(Sizes, "exceed", lambda *_: False)
    with in_python():
        assert ("refusals", "ledger", "extra", posted) in piped(PIPELINE, came).told()
