"""One time, one answer: whatever looks a time up says the same of pipelines that lag, were imported or were rebuilt.

In their topics old entries lie among marks of transactions, which carry the broker's clock.
"""

import json
import random
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from confluent_kafka import Message

from config.settings import Settings
from operations.looking.inspect import Moment, look
from operations.looking.time_lookup import first_ms
from operations.rebuild import run as rebuild_run
from operations.replay.ranges import Range, plans
from operations.sending.importing import run as importing
from operations.sending.lines import to_json
from operations.setup import init
from schemas.codec import HEADER_BYTES, decode_entry
from schemas.records import CREDIT, DEBIT, LedgerEntry, Transaction, from_ms
from sinks import postgres
from sinks.consumer import sinks_of
from sinks.postgres import databases, questions
from sinks.postgres.migrations import migrate
from tests.effort import examples, in_full
from tests.integration.exactness import assert_exact
from tests.integration.pipelines import Rig, as_record, small, transaction, wallets_of
from tests.integration.rebuilds import place
from tests.integration.replays import replayed
from tests.integration.verify_copies import decide, verified, write_rows
from tests.reading import read_all
from topics.names import Topics
from topics.topic_log import TopicLog

pytestmark = pytest.mark.integration

COUNT, WALLETS, PARTITIONS = 400, 6, 2
YEAR_1_MS = -62_135_596_800_000
MS, MICROSECOND = timedelta(milliseconds=1), timedelta(microseconds=1)
Told = Sequence[tuple[Transaction, int]]


def history(dice: random.Random, begin_ms: int, *, ordered: bool = False) -> Told:
    """Transactions of a few wallets; times stand still, go on by little and by much, and back."""
    names = [
        name
        for part in range(PARTITIONS)
        for name, _ in zip(wallets_of(part, PARTITIONS), range(WALLETS // 2), strict=False)
    ]
    steps = [0, 0, 1, 7, 250, 1_500] if ordered else [0, 0, 1, 7, 250, 1_500, -900, -5]
    told, at_ms = list[tuple[Transaction, int]](), begin_ms
    for number in range(COUNT):
        at_ms += dice.choice(steps)
        kind = dice.choice([CREDIT, CREDIT, DEBIT])
        told.append((transaction(number, dice.choice(names), dice.randint(1, 999), type=kind), at_ms))
    return told


def now_ms() -> int:
    return int(datetime.now(UTC).timestamp() * 1_000)


def fit(settings: Settings) -> Settings:
    """Few partitions, and small batches: many marks."""
    return small(settings, overdraft="allow", partitions=PARTITIONS, batch_records=20)


@contextmanager
def lagging(settings: Settings, folder: Path, begin_ms: int) -> Iterator[Settings]:
    """A worker that began when all records were there, with times from `begin_ms` on."""
    settings = fit(settings)
    told = history(random.Random(begin_ms), begin_ms)
    with Rig(settings, folder, create_time=True) as rig:
        rig.upstream.send([as_record(one, PARTITIONS) for one, _ in told], iter([at_ms for _, at_ms in told]))
        worker = rig.start()
        rig.wait_until_posted()
        worker.stop()
        migrate(settings)
        replayed(settings)
        yield settings


@contextmanager
def late(settings: Settings, folder: Path) -> Iterator[Settings]:
    """The records are of the last two minutes, so that times of entries and of marks overlap."""
    with lagging(settings, folder, now_ms() - 120_000) as there:
        yield there


@contextmanager
def imported(settings: Settings, folder: Path) -> Iterator[Settings]:
    """History of a year ago."""
    settings = fit(settings)
    init.initialise(settings, "history")
    file = folder / "history.jsonl"
    told = history(random.Random(3), now_ms() - 366 * 86_400_000, ordered=True)
    lines = [to_json(one) | {"recorded_at": from_ms(at_ms).isoformat()} for one, at_ms in told]
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert importing.run(settings, importing.Options((file,))) == 0
    decide(settings, folder, COUNT)
    write_rows(settings)
    yield settings


@contextmanager
def rebuilt(settings: Settings, folder: Path, partitions: int = PARTITIONS) -> Iterator[Settings]:
    """The ledger of months ago, built anew today."""
    beside = databases.create(settings, f"{settings.prefix.replace('-', '_')}_shadow")
    both = {"rebuild_postgres": beside.postgres, "rebuild_prefix": f"{settings.prefix}.shadow"}
    try:
        with lagging(settings.model_copy(update=both), folder, now_ms() - 90 * 86_400_000) as live:
            yield rebuild_run.start(place(live, partitions=partitions), follow=False).shadow
    finally:
        databases.drop(settings, f"{settings.prefix.replace('-', '_')}_shadow")


@contextmanager
def copied(settings: Settings, folder: Path) -> Iterator[Settings]:
    """The same, its input copied to another number of partitions."""
    with rebuilt(settings, folder, 3) as there:
        yield there


def messages(settings: Settings, name: str) -> list[Message]:
    return [*read_all(settings, getattr(Topics.of(settings), name), settings.partitions)]


def by_partition(records: Sequence[Message]) -> Mapping[int, list[Message]]:
    found: dict[int, list[Message]] = defaultdict(list)
    for one in records:
        found[one.partition() or 0].append(one)
    return found


def times(dice: random.Random, recorded: Sequence[datetime], count: int) -> list[datetime]:
    """Times of entries, a moment before and after them, between them, and up to now, where the marks are."""
    end = datetime.now(UTC)
    pool = [at + step for at in recorded for step in (-MS, -MICROSECOND, timedelta(), MICROSECOND, MS)]
    pool += [before + (after - before) / 2 for before, after in pairwise(recorded)]
    pool += [recorded[-1] + (end - recorded[-1]) * dice.random() for _ in range(len(pool) // 2)]
    return [recorded[0] - MS, end, *dice.sample([at for at in pool if at < end], count)]


KINDS = {"late": late, "imported": imported, "rebuilt": rebuilt, "copied": copied}


@pytest.mark.timeout(900)  # hundreds of questions of a machine that may be busy, each a command's
@pytest.mark.parametrize(
    "kind",
    ["late", *(in_full(kind) for kind in ("copied", "imported", "rebuilt"))],
)
def test_inspect_balance_statement_and_replay_agree_at_every_time(
    settings: Settings, tmp_path: Path, kind: str
) -> None:
    with KINDS[kind](settings, tmp_path) as pipeline:
        dice = random.Random(kind)
        written = messages(pipeline, "ledger")
        assert len(written) == COUNT
        entries = [decode_entry((one.value() or b"")[HEADER_BYTES:]) for one in written]
        recorded = sorted(entry.recorded_at for entry in entries)
        wallets = sorted({entry.transaction.wallet_id for entry in entries})
        for at in times(dice, recorded, examples(6)):
            _agree(pipeline, dice.choice(wallets), at, entries)
            _replay_divides(pipeline, at, by_partition(written))
        for name, count in (
            ("ledger", 60),
            ("transactions", 15),
            ("snapshots", 15),
            ("rejections", 5),
            ("balances", 5),
        ):
            _is_found(pipeline, name, times(dice, recorded, examples(count)))


def stamp(message: Message) -> datetime:
    return from_ms(message.timestamp()[1])


def _agree(settings: Settings, wallet: str, at: datetime, entries: Sequence[LedgerEntry]) -> None:
    """Worked out from the ledger's entries, looked up in the topics, asked of PostgreSQL in two ways."""
    mine = [entry for entry in entries if entry.transaction.wallet_id == wallet]
    upto = [entry for entry in mine if entry.recorded_at <= at]
    right = upto[-1].balance if upto else 0
    found = look(settings, wallet, Moment(at=at), count=3)
    assert [entry.hash for entry in found.entries] == [entry.hash for entry in upto[:-4:-1]][
        : len(found.entries)
    ]
    assert (found.balance, bool(found.entries)) == (right, bool(upto))
    told = questions.balance(settings, wallet, at)
    assert told is not None
    assert told.balance == right
    lines = [*questions.statement(settings, wallet, None, at + MICROSECOND)]
    assert [line.hash for line in lines] == [entry.hash for entry in upto]
    after = [*questions.statement(settings, wallet, at + MICROSECOND)]
    assert [line.hash for line in lines + after] == [entry.hash for entry in mine]
    signed = sum(line.amount if line.type == "CREDIT" else -line.amount for line in after)
    assert right + signed == mine[-1].balance


def _is_found(settings: Settings, name: str, asked: Sequence[datetime]) -> None:
    """In each partition the first record of the time or later, as whoever reads all of them finds it."""
    there = by_partition(messages(settings, name))
    with closing(TopicLog(settings, getattr(Topics.of(settings), name), f"{settings.prefix}.verify")) as log:
        for partition in range(settings.partitions):
            ends = log.log(partition)
            for at in asked:
                right = next((one.offset() for one in there.get(partition, ()) if stamp(one) >= at), None)
                found = log.first_at(partition, first_ms(at), ends.begin, ends.stable)
                assert (None if found is None else found.offset()) == right


def _replay_divides(settings: Settings, at: datetime, written: Mapping[int, list[Message]]) -> None:
    """What is replayed up to a time and what from it on are all entries, each on its side."""
    sinks = sinks_of(settings, ["ledger"])
    (upto,) = plans(settings, sinks, Range(from_beginning=True, to_time=at))
    (after,) = plans(settings, sinks, Range(from_time=at))
    for first, then in zip(upto.stretches, after.stretches, strict=True):
        there = written.get(first.partition, [])
        where = bisect_left(there, at, key=stamp)
        offsets = [one.offset() or 0 for one in there]
        assert [one for one in offsets if one < first.to_offset] == offsets[:where]
        assert [one for one in offsets if one >= then.from_offset] == offsets[where:]


def test_records_from_before_the_year_1_are_recorded_at_its_beginning_and_in_nobodys_way(
    settings: Settings, tmp_path: Path
) -> None:
    one = fit(settings)
    wallet, now = next(wallets_of(1, PARTITIONS)), now_ms()
    good = [as_record(transaction(number, wallet), PARTITIONS) for number in range(4)]
    bad = [good[0]._replace(value=b"no transaction"), good[0]._replace(value=bytes(one.max_record_bytes))]
    early = [YEAR_1_MS - 1, -(2**62), YEAR_1_MS - 1, -(2**62), YEAR_1_MS]
    with Rig(one, tmp_path, create_time=True) as rig:
        rig.upstream.send([*good[:2], *bad, *good[2:]], iter([*early, now]))
        rig.start()
        rig.wait_until_posted()
        assert_exact(one)
        migrate(one)
        replayed(one)
        assert verified(one).clean
    with postgres.connect(one, postgres.READER) as connection:
        lines = connection.execute("SELECT recorded_at FROM wallet_entries ORDER BY sequence").fetchall()
        rejected = connection.execute("SELECT at FROM rejections").fetchall()
    year_1 = datetime(1, 1, 1, tzinfo=UTC)
    assert [at for (at,) in lines] == [year_1] * 3 + [from_ms(now)]
    assert [at for (at,) in rejected] == [year_1] * 2
