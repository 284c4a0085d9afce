"""The fold as a worker uses it, and the independent one held against it, byte by byte."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from unittest.mock import patch

from audit import fold as oracle
from audit.contract import FIRST_MS, Contract, Reason
from config.pipeline import Pipeline
from schemas import codec, native
from schemas.codec import TransactionCodec, decode_entry, encode_snapshot, frame
from schemas.native import balances
from schemas.native.balances import encode_balance
from schemas.native.varints import longs_in_python
from schemas.records import Balance
from schemas.versions import FIXED_IDS
from streams import posting
from streams.batch import Derived
from streams.posting import Fold
from tests.unit.strategies import PARTITION, Memory
from topics.source import Source

CODEC = TransactionCodec(FIXED_IDS.transaction, lambda *_: None)
TOPIC = "wallet.transactions"


@contextmanager
def in_python() -> Iterator[None]:
    """Within it, folds are in Python throughout."""
    with (
        patch.multiple(native, usual=None, orders=None, post=None),
        patch.object(codec, "longs", longs_in_python),
        patch.multiple(balances, longs=longs_in_python, _balance=None),
        patch.object(posting, "encode_balances", balances.encode_balances_in_python),
    ):
        yield


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

    @property
    def named(self) -> list[int]:
        """The source offsets that the outcomes name, in order."""
        entries = [decode_entry((entry.value or b"")[5:]).source_offset for entry in self.entries]
        return sorted([*entries, *(_offset(one) for one in self.rejections)])

    __hash__ = None  # type: ignore[assignment] # it is compared, never looked up


def folded(pipeline: Pipeline, batches: Sequence[Sequence[Source]]) -> Written:
    """Fold batches as a worker does: what is below the next offset was posted already."""
    past, written = Memory(), Written()
    fold = Fold(TOPIC, PARTITION, pipeline, CODEC, FIXED_IDS, past)
    for batch in batches:
        fresh = [record for record in batch if record.offset >= past.next_offset]
        outputs = fold.outputs(fresh, past.next_offset, past.recorded_ms)
        changed = fold.balance_records(outputs)
        past.take(outputs)
        written.entries += outputs.entries
        written.rejections += outputs.rejections
        written.snapshots += outputs.snapshots
        written.changelog += changed
        written.newest |= {balance.key: balance for balance in changed}
    return written


def assert_the_independent_fold_agrees(
    pipeline: Pipeline, records: Sequence[Source], written: Written
) -> list[Reason]:
    """Fold the records once more by `audit.fold`; returns the reasons of the rejections among them."""
    fold, reasons = oracle.Fold(Contract.of(TOPIC, pipeline, FIXED_IDS)), list[Reason]()
    wanted, changelog = Written(), set[Derived | tuple[object, ...]]()
    for record in records:
        outcome = fold.step(PARTITION, record)
        if isinstance(outcome, Reason):
            reasons.append(outcome)
            assert _matches(written.rejections[len(wanted.rejections)], record, outcome)
            wanted.rejections.append(written.rejections[len(wanted.rejections)])
            continue
        after = outcome.balance
        key = after.wallet_id.encode()
        wanted.entries.append(Derived(key, frame(2) + outcome.body, after.recorded_ms))
        wanted.newest[key] = Derived(key, frame(3) + encode_balance(Balance(*after)), after.recorded_ms)
        changelog.add(tuple(wanted.newest[key]))
        wanted.snapshots += [
            Derived(key, frame(4) + encode_snapshot(Balance(*one), why), one.recorded_ms)
            for one, why in outcome.snapshots
        ]
    assert written == wanted
    assert all(tuple(balance) in changelog for balance in written.changelog)
    return reasons


def _offset(rejection: Derived) -> int:
    name, value = (rejection.headers or [])[-2]
    assert name == "rejection.offset"
    return int(value or "")


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
        "rejection.at": b"%d" % max(record.timestamp_ms, FIRST_MS),
    }
    return (rejection.key, rejection.value, rejection.timestamp_ms, tuple(upstream)) == (
        record.key if kept else None,
        record.value if kept else None,
        max(record.timestamp_ms, FIRST_MS),
        tuple(record.headers) if kept else (),
    )
