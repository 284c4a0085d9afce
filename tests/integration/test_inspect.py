"""Point in time: topics, tables, SQL functions and an independent sum of the input all say the same."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path
from typing import LiteralString

import pytest
from psycopg import sql

from config.errors import ConfigurationError, Refused, WalletError
from config.settings import Settings
from operations.looking import balances as reading
from operations.looking.inspect import Found, Moment, look
from operations.setup.init import initialise
from schemas.records import CREDIT, DEBIT, Transaction, from_ms
from sinks import postgres
from sinks.postgres import questions
from sinks.postgres.migrations import migrate
from tests.integration.pipelines import Rig, Upstream, as_record, small, transaction, wallets_of
from tests.integration.replays import entries_of, publish, replayed
from tests.integration.tables import archive_november
from tests.ledgers import DAY_MS, NOVEMBER_MS, SNAPSHOT_FRAME, Ledger
from topics.names import Topics

pytestmark = pytest.mark.integration

ALICE, BOB, NOBODY = (name for name, _ in zip(wallets_of(1), range(3), strict=False))
MS = timedelta(milliseconds=1)
ENTRIES = 45


def history() -> list[tuple[Transaction, int]]:
    """Alice's transactions, two a day by upstream's clock in another order than recorded, and one of Bob's."""
    told = []
    for number in range(ENTRIES):
        at_ms = NOVEMBER_MS - 40 * DAY_MS + number // 2 * DAY_MS
        occurred_us = (at_ms - (number * 7 % 11) * DAY_MS) * 1_000
        kind = DEBIT if number % 3 == 2 else CREDIT
        told.append((transaction(number, ALICE, 10 + number, type=kind, occurred_us=occurred_us), at_ms))
        if number == 20:
            told.append((transaction(1_000, BOB, 7, occurred_us=at_ms * 1_000), at_ms))
    return told


@pytest.fixture
def pipeline(settings: Settings, tmp_path: Path) -> Iterator[Settings]:
    """A history with its own dates, posted by a worker and written by the sinks."""
    settings = small(settings, overdraft="allow")
    told = history()
    with Rig(settings, tmp_path, create_time=True) as rig:
        rig.upstream.send([as_record(one) for one, _ in told], iter([at_ms for _, at_ms in told]))
        worker = rig.start()
        rig.wait_until_posted()
        worker.kill()
        migrate(settings)
        replayed(settings)
        yield settings


def independent(at: datetime, *, occurred: bool = False) -> int:
    """Alice's balance, summed from what upstream sent."""
    return sum(
        one.amount if one.type == CREDIT else -one.amount
        for one, at_ms in history()
        if one.wallet_id == ALICE and (one.occurred_at if occurred else from_ms(at_ms)) <= at
    )


def boundaries(times: set[datetime]) -> list[datetime]:
    """Each of these times, a millisecond before and one after."""
    return sorted({at + step for at in times for step in (-MS, timedelta(), MS)})


def answers(settings: Settings, function: LiteralString, times: list[datetime]) -> list[int]:
    """What a function says of Alice at each of these times."""
    query = sql.SQL(
        "SELECT {}(%s, at) FROM unnest(%s::timestamptz[]) WITH ORDINALITY AS t (at, n) ORDER BY n"
    )
    with postgres.connect(settings, postgres.READER) as connection:
        found = connection.execute(query.format(sql.Identifier(function)), [ALICE, times]).fetchall()
    return [int(one) for (one,) in found]


def looked_at(settings: Settings, **place: datetime | int) -> Found:
    return look(settings, ALICE, Moment(**place), count=3)  # type: ignore[arg-type] # one of three


@pytest.mark.full
def test_topics_tables_and_functions_agree_with_a_sum_of_the_input(pipeline: Settings) -> None:
    """By recorded and by occurred time, before the first entry, on boundaries, across transactions and archive."""
    recorded = boundaries({from_ms(at_ms) for one, at_ms in history() if one.wallet_id == ALICE})
    occurred = boundaries({one.occurred_at for one, _ in history() if one.wallet_id == ALICE})
    assert {independent(recorded[0]), independent(occurred[0], occurred=True)} == {0}
    for archived in (False, True):
        if archived:
            archive_november(pipeline)
        assert answers(pipeline, "wallet_balance_at", recorded) == [independent(at) for at in recorded]
        assert answers(pipeline, "wallet_balance_effective_at", occurred) == [
            independent(at, occurred=True) for at in occurred
        ]
        lines = list(questions.statement(pipeline, ALICE))
        assert [line.balance for line in lines] == list(
            accumulate(line.amount if line.type == "CREDIT" else -line.amount for line in lines)
        )
        assert len(lines) == ENTRIES
    for at in recorded[::20]:
        seen = looked_at(pipeline, at=at)
        assert questions.balance(pipeline, ALICE, at) == (ALICE, "EUR", seen.balance)
        before = [line for line in lines if line.recorded_at <= at]
        assert seen.balance == independent(at)
        assert [entry.hash for entry in seen.entries] == [line.hash for line in before[:-4:-1]]
    for at in occurred[::40]:
        seen = looked_at(pipeline, effective_at=at)
        assert questions.effective_balance(pipeline, ALICE, at) == (ALICE, "EUR", seen.balance)
        assert (seen.balance, seen.counted) == (
            independent(at, occurred=True),
            sum(line.occurred_at <= at for line in lines),
        )
    # By offset of the input, of which Bob's record is one; and a wallet of one entry.
    for offset in (20, 21, 22, ENTRIES):
        upto = [line for line in lines if line.source_offset <= offset]
        seen = looked_at(pipeline, at_offset=offset)
        assert (seen.balance, seen.entries[0].sequence) == (upto[-1].balance, len(upto))
    bob = look(pipeline, BOB, Moment())
    assert (bob.balance, bob.entries[0].sequence, bob.undecided) == (7, 1, 0)
    assert look(pipeline, BOB, Moment(at_offset=20)).entries == ()


@pytest.mark.full
def test_what_cannot_be_answered_is_said_in_one_line(
    pipeline: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(WalletError, match="has no entry") as unknown:
        look(pipeline, NOBODY, Moment())
    assert unknown.value.exit_code == 1
    with pytest.raises(ConfigurationError, match="is in the future"):
        looked_at(pipeline, at=datetime(2999, 1, 1, tzinfo=UTC))
    with pytest.raises(ConfigurationError, match=rf"--at-offset 999 .* holds 0 to {ENTRIES}"):
        looked_at(pipeline, at_offset=999)
    Upstream(pipeline).send([as_record(transaction(2_000, ALICE))], iter([NOVEMBER_MS]))
    with pytest.raises(Refused, match=rf"only up to offset {ENTRIES + 1}: try again"):
        looked_at(pipeline, at_offset=ENTRIES + 1)
    assert looked_at(pipeline).undecided == 1
    reading.show_balance(pipeline, ALICE, None, history()[0][0].occurred_at, as_json=True)
    assert '"effective_at": "2026-' in capsys.readouterr().out


@pytest.mark.full
def test_a_wallet_of_a_hundred_thousand_entries_is_the_same_everywhere(settings: Settings) -> None:
    initialise(settings)
    ledger = Ledger(1, begin_ms := NOVEMBER_MS - 8 * DAY_MS)
    for number in range(100_000):
        at_ms = begin_ms + number * 10_000
        kind = DEBIT if number % 3 == 2 else CREDIT
        ledger.post(ALICE, 1 + number % 97, kind=kind, recorded_ms=at_ms, occurred_ms=at_ms - number % 7)
    topics = Topics.of(settings)
    publish(settings, topics.ledger, entries_of(ledger))
    snapshots = ledger.snapshots(100)
    publish(settings, topics.snapshots, ((1, b"", SNAPSHOT_FRAME + body, [], 0) for _, body in snapshots))
    replayed(settings)
    entries = [written.entry for written in ledger.written]
    for number in (0, 1, 99, 100, 54_321, 99_999):
        entry = entries[number]
        for at, balance in (
            (entry.recorded_at - MS, entries[number - 1].balance),
            (entry.recorded_at, entry.balance),
        ):
            expected = 0 if number == 0 and at < entry.recorded_at else balance
            assert looked_at(settings, at=at).balance == expected
            assert questions.balance(settings, ALICE, at) == (ALICE, "EUR", expected)
        at = entry.transaction.occurred_at
        summed = sum(
            one.transaction.amount if one.transaction.type == CREDIT else -one.transaction.amount
            for one in entries
            if one.transaction.occurred_us <= entry.transaction.occurred_us
        )
        assert looked_at(settings, effective_at=at).balance == summed
        assert questions.effective_balance(settings, ALICE, at) == (ALICE, "EUR", summed)
