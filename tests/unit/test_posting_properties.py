"""Properties of the fold: whatever comes, in whatever batches, the bytes that go out are the same."""

import hashlib
from collections.abc import Sequence

from hypothesis import event, given, settings
from hypothesis import strategies as st

from config.pipeline import Pipeline
from operations import fold as oracle
from schemas.codec import NO_HASH, TransactionCodec, decode_entry, encode_balance, encode_snapshot, frame
from schemas.records import INTERVAL, PERIOD, Balance, Reason
from schemas.registry import FIXED_IDS
from streams.batch import Derived, Source
from streams.posting import Fold
from streams.store import BEFORE_TIME
from tests.unit.strategies import DAY_MS, PARTITION, Memory, inputs, pipelines, splits

CODEC = TransactionCodec(FIXED_IDS.transaction, lambda _: None)
TOPIC = "wallet.transactions"


class Written:
    """All that a partition's input has caused, one list for each topic."""

    def __init__(self) -> None:
        self.entries: list[Derived] = []
        self.rejections: list[Derived] = []
        self.snapshots: list[Derived] = []
        self.newest: dict[bytes | None, Derived] = {}
        self.changelog: list[Derived] = []

    def __eq__(self, other: object) -> bool:
        """Equal but for the changelog, which has one record for every batch that touched a wallet."""
        return isinstance(other, Written) and all(
            getattr(self, name) == getattr(other, name)
            for name in ("entries", "rejections", "snapshots", "newest")
        )

    __hash__ = None  # type: ignore[assignment] # it is compared, never looked up


def folded(pipeline: Pipeline, batches: Sequence[Sequence[Source]]) -> Written:
    """Fold batches as a worker does: what is below the next offset was posted already."""
    past, written = Memory(), Written()
    fold = Fold(TOPIC, PARTITION, pipeline, CODEC, FIXED_IDS, past)
    for batch in batches:
        fresh = [record for record in batch if record.offset >= past.next_offset]
        outputs = fold.post(fresh, past.next_offset, past.recorded_ms)
        changed = fold.balance_records(outputs)
        past.take(outputs)
        written.entries += outputs.entries
        written.rejections += outputs.rejections
        written.snapshots += outputs.snapshots
        written.changelog += changed
        written.newest |= {balance.key: balance for balance in changed}
    return written


@given(pipelines, st.data())
@settings(max_examples=120)
def test_any_split_into_batches_and_any_redelivery_gives_the_same_bytes(
    pipeline: Pipeline, data: st.DataObject
) -> None:
    records = data.draw(inputs())
    at_once = folded(pipeline, [records])
    assert folded(pipeline, [[record] for record in records]) == at_once
    assert folded(pipeline, data.draw(splits(records))) == at_once


@given(pipelines, inputs())
@settings(max_examples=120)
def test_every_record_has_exactly_one_outcome_which_names_it(
    pipeline: Pipeline, records: list[Source]
) -> None:
    written = folded(pipeline, [records])
    entries = [decode_entry((entry.value or b"")[5:]) for entry in written.entries]
    named = [entry.source_offset for entry in entries] + [_offset(one) for one in written.rejections]
    assert sorted(named) == [record.offset for record in records]
    assert {entry.source_partition for entry in entries} <= {PARTITION}
    assert [entry.source_offset for entry in entries] == sorted(entry.source_offset for entry in entries)


def _offset(rejection: Derived) -> int:
    name, value = (rejection.headers or [])[-2]
    assert name == "rejection.offset"
    return int(value or "")


@given(pipelines, inputs())
def test_sequences_balances_and_hashes_chain_for_every_wallet(
    pipeline: Pipeline, records: list[Source]
) -> None:
    written = folded(pipeline, [records])
    newest: dict[bytes, tuple[int, int, bytes]] = {}
    for key, value, timestamp_ms, _ in written.entries:
        body = (value or b"")[5:]
        entry = decode_entry(body)
        assert key == entry.transaction.wallet_id.encode()
        assert timestamp_ms == entry.recorded_ms
        sequence, balance, previous = newest.get(key, (0, 0, NO_HASH))
        change = entry.transaction.amount * (-1 if entry.transaction.type else 1)
        assert (entry.sequence, entry.balance) == (sequence + 1, balance + change)
        assert entry.hash == hashlib.sha256(previous + body[:-32]).digest()
        newest[key] = (entry.sequence, entry.balance, entry.hash)


@given(pipelines, inputs())
def test_recorded_at_never_goes_back_and_never_lies_before_the_record(
    pipeline: Pipeline, records: list[Source]
) -> None:
    times = {record.offset: record.timestamp_ms for record in records}
    latest = BEFORE_TIME
    for entry in folded(pipeline, [records]).entries:
        read = decode_entry((entry.value or b"")[5:])
        assert read.recorded_ms == max(latest, times[read.source_offset])
        latest = read.recorded_ms


@given(pipelines, st.data())
@settings(max_examples=250)
def test_the_independent_fold_agrees(pipeline: Pipeline, data: st.DataObject) -> None:
    records = data.draw(inputs())
    written = folded(pipeline, data.draw(splits(records)))
    fold = oracle.Fold(pipeline, frozenset({1}))
    wanted, changelog = Written(), set[Derived | tuple[object, ...]]()
    for record in records:
        before = fold.balances.get((record.key or b"").decode(errors="replace"))
        outcome = fold.step(oracle.Incoming(PARTITION, *record))
        if isinstance(outcome, oracle.Refusal):
            event(outcome.reason)
            assert _matches(written.rejections[len(wanted.rejections)], record, outcome.reason)
            wanted.rejections.append(written.rejections[len(wanted.rejections)])
            continue
        after = outcome.balance
        key = after.wallet_id.encode()
        wanted.entries.append(Derived(key, frame(2) + outcome.body, after.recorded_ms))
        wanted.newest[key] = Derived(key, frame(3) + encode_balance(after), after.recorded_ms)
        changelog.add(tuple(wanted.newest[key]))
        wanted.snapshots += _snapshots(before, after, pipeline.snapshot_every)
    assert written == wanted
    assert all(tuple(balance) in changelog for balance in written.changelog)


def _matches(rejection: Derived, record: Source, reason: Reason) -> bool:
    headers = rejection.headers or []
    kept = reason is not Reason.TOO_LARGE
    upstream, ours = headers[: len(headers) - 6], dict(headers[len(headers) - 6 :])
    detail = ours.pop("rejection.detail")
    assert isinstance(detail, bytes)
    assert detail.decode("ascii").isprintable()
    assert detail
    assert ours == {
        "rejection.reason": reason.encode(),
        "rejection.topic": TOPIC.encode(),
        "rejection.partition": b"%d" % PARTITION,
        "rejection.offset": b"%d" % record.offset,
        "rejection.at": b"%d" % record.timestamp_ms,
    }
    return (rejection.key, rejection.value, rejection.timestamp_ms, tuple(upstream)) == (
        record.key if kept else None,
        record.value if kept else None,
        record.timestamp_ms,
        tuple(record.headers) if kept else (),
    )


def _snapshots(before: Balance | None, after: Balance, every: int) -> list[Derived]:
    due = []
    if before and before.recorded_ms // DAY_MS < after.recorded_ms // DAY_MS and before.sequence % every:
        due.append((before, PERIOD))
    if after.sequence % every == 0:
        due.append((after, INTERVAL))
    key = after.wallet_id.encode()
    return [Derived(key, frame(4) + encode_snapshot(one, why), one.recorded_ms) for one, why in due]


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
