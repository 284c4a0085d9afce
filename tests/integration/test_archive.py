"""Months that are sealed and moved, on a real Kafka and a real Postgres."""

# ruff: noqa: S608 - the owner's statements are put together here, from literals

import json
import os
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import psycopg
import pytest

from audit import catalog, questions
from config.errors import DIFFERENCES, Refused, Stopped, WalletError
from config.settings import Settings
from operations.archive import run as commands
from operations.archive.verify import run as verify
from schemas.records import DEBIT, from_ms
from sinks import postgres
from sinks.archive.compare import Mismatch
from sinks.postgres.one_state import audited
from tests.effort import in_full
from tests.integration.archives import (
    EMPTY,
    FIRST,
    FIRST_MS,
    PARTITIONS,
    RECENT,
    SECOND,
    SECOND_MS,
    archiving,
    month,
    name,
    pipeline_with,
    reasons,
    seal_differences,
    table,
    two_months,
    work,
)
from tests.integration.tables import change, rows
from tests.ledgers import DAY_MS, Ledger, drain
from topics.names import Topics

pytestmark = pytest.mark.integration

PAGE = Path(__file__).parents[2] / "docs" / "operations" / "archive.md"
#: With the transactions that wrote them, so that a row written again would show.
TRUE_ROWS = """
    SELECT * FROM (SELECT xmin::text, * FROM transactions UNION ALL SELECT xmin::text, * FROM transaction_archive) AS e
    ORDER BY wallet_id, sequence
"""
#: An entry of FIRST in the middle of its wallet's sequence.
ONE = "(wallet_id, sequence) = ('wallet-1-3', 3)"
WHERE_ROWS_ARE = """
    SELECT tableoid::regclass::text, count(*), sum(amount)
    FROM (SELECT tableoid, amount FROM transactions UNION ALL SELECT tableoid, amount FROM transaction_archive) AS e
    GROUP BY 1 ORDER BY 1
"""


@pytest.fixture
def ledgers() -> list[Ledger]:
    return [two_months(partition) for partition in range(PARTITIONS)]


@pytest.fixture
def pipeline(settings: Settings, ledgers: list[Ledger]) -> Settings:
    return pipeline_with(settings, *ledgers)


def answers(settings: Settings) -> list[Any]:
    """What the functions say of every wallet, at a hundred times on and around the months' bounds."""
    times = [
        from_ms(FIRST_MS - DAY_MS) + timedelta(hours=31.5 * step, microseconds=step % 3)
        for step in range(100)
    ]
    return rows(
        settings,
        """
        SELECT wallet_id, at, wallet_balance(wallet_id), wallet_balance_at(wallet_id, at),
            wallet_balance_effective_at(wallet_id, at),
            (SELECT array_agg(s::text) FROM wallet_statement(wallet_id, at) AS s)
        FROM wallets, unnest(%s::timestamptz[]) AS at ORDER BY 1, 2
        """,
        times,
    )


def files(settings: Settings) -> list[Any]:
    """The files of FIRST's table and its indexes: new ones would mean that rows were copied or indexes rebuilt."""
    return rows(
        settings,
        "SELECT relname, relfilenode FROM pg_class"
        " WHERE oid = %s::regclass"
        " OR oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = %s::regclass) ORDER BY 1",
        table(FIRST),
        table(FIRST),
    )


def test_months_are_sealed_and_moved_and_every_question_has_the_answer_it_had(
    pipeline: Settings, ledgers: list[Ledger]
) -> None:
    before, files_before, where_before = answers(pipeline), files(pipeline), rows(pipeline, WHERE_ROWS_ARE)
    sealed, moved, waiting = work(pipeline)
    assert [one.month.first for one in sealed] == [one.month.first for one in moved] == [FIRST, SECOND]
    assert waiting
    assert waiting.month.first == RECENT
    assert answers(pipeline) == before
    assert (files(pipeline), rows(pipeline, WHERE_ROWS_ARE)) == (files_before, where_before)
    assert rows(pipeline, "SELECT count(*) FROM transaction_archive") == [(80 * PARTITIONS,)]
    assert (
        rows(
            pipeline,
            "SELECT conname FROM pg_constraint WHERE conrelid = %s::regclass AND contype = 'f'",
            table(FIRST),
        )
        == []
    )
    # What is sealed is the topic's, worked out here from the entries.
    in_first = [one for ledger in ledgers for one in ledger.written if one.entry.recorded_ms < SECOND_MS]
    content = sealed[0].seal.content
    assert [tuple(one) for one in content.ranges] == [(partition, 0, 40) for partition in range(PARTITIONS)]
    assert (content.entries, content.hash) == (
        40 * PARTITIONS,
        sha256(b"".join(one.entry.hash for one in in_first)).digest(),
    )
    assert content.amount == sum(
        -one.entry.transaction.amount if one.entry.transaction.type == DEBIT else one.entry.transaction.amount
        for one in in_first
    )
    # Of every wallet of a month a snapshot brings the balance forward; they came from no topic.
    newest = {one.entry.transaction.wallet_id: one.balance for one in in_first}
    assert sealed[0].seal_rows == len(newest)
    # A second run has nothing to do.
    assert work(pipeline)[:2] == ([], [])
    assert verify(pipeline, None, kafka=True, as_json=False) == 0
    assert verify(pipeline, None, kafka=False, as_json=False) == 0
    with audited(pipeline) as connection:
        assert seal_differences(pipeline, connection) == []
        assert [*catalog.differences(connection)] == []
        assert list(questions.wrong_seals(connection)) == []
    # Whoever has the table can work the seals out, by the statement in the docs.
    statement = PAGE.read_text("utf-8").partition("```sql\n")[2].partition("```")[0]
    assert rows(pipeline, statement.encode()) == [(FIRST, True, True), (SECOND, True, True)]


def test_a_wallet_with_a_snapshot_at_its_last_entry_gets_no_other(pipeline: Settings) -> None:
    change(
        pipeline,
        "INSERT INTO transaction_snapshots SELECT wallet_id, currency, balance, sequence, recorded_at,"
        " source_partition, source_offset, hash, 'PERIOD' FROM transactions WHERE (wallet_id, sequence) IN"
        " (SELECT wallet_id, max(sequence) FROM transactions WHERE recorded_at < %s GROUP BY 1)"
        " AND wallet_id <> 'wallet-0-6'",
        from_ms(SECOND_MS),
    )
    (sealed, *_), _, _ = work(pipeline, FIRST)
    assert sealed.seal_rows == 1
    assert rows(pipeline, "SELECT wallet_id, sequence FROM transaction_snapshots WHERE reason = 'SEAL'") == [
        ("wallet-0-6", 5)
    ]


def test_old_dates_among_the_marks_of_transactions_find_their_month(settings: Settings) -> None:
    """The marks carry today's date, so the broker names one of them when it is asked for SECOND."""
    one = pipeline_with(settings, two_months(0), transactions_of=10)
    change(one, "UPDATE sink_positions SET next_offset = 99, high_offset = 99")
    sealed, _, _ = work(one)
    assert [(s.month.first, s.seal.content.ranges, s.seal.content.entries) for s in sealed] == [
        (FIRST, ((0, 0, 43),), 40),
        (SECOND, ((0, 44, 87),), 40),
    ]


def test_a_month_is_not_sealed_before_all_of_it_is_in_the_tables(pipeline: Settings) -> None:
    change(pipeline, "UPDATE sink_positions SET next_offset = 39 WHERE partition = 1")
    topic = Topics.of(pipeline).ledger
    assert reasons(pipeline, FIRST) == [
        f"{topic} partition 1: the ledger sink is at offset 39, the month ends at offset 40"
    ]
    sealed, moved, waiting = work(pipeline)
    assert (sealed, moved) == ([], [])
    assert waiting
    assert waiting.month.first == FIRST
    change(pipeline, "UPDATE sink_positions SET next_offset = 40 WHERE partition = 1")
    assert reasons(pipeline, FIRST) == []
    assert len(reasons(pipeline, SECOND)) == 1
    assert [one.month.first for one in work(pipeline)[0]] == [FIRST]


TAMPERED = {
    "an amount": (
        f"UPDATE transactions SET amount = amount + 1 WHERE {ONE}",
        f"UPDATE transactions SET amount = amount - 1 WHERE {ONE}",
        r"source offset 17: wallet 'wallet-1-3' sequence 3: amount is -19 in the tables and -18 in the topic",
    ),
    "a hash": (
        f"UPDATE transactions SET hash = sha256(hash), group_id = encode(hash, 'hex') WHERE {ONE}",
        f"UPDATE transactions SET hash = decode(group_id, 'hex'), group_id = null WHERE {ONE}",
        r"source offset 17: wallet 'wallet-1-3' sequence 3: hash is \w+\.\.\. in the tables and \w+\.\.\. in the topic",
    ),
    "two amounts that cancel out": (
        (
            "UPDATE transactions SET amount = amount + 1 WHERE (wallet_id, sequence) IN"
            " (('wallet-1-3', 3), ('wallet-1-4', 3))"
        ),
        (
            "UPDATE transactions SET amount = amount - 1 WHERE (wallet_id, sequence) IN"
            " (('wallet-1-3', 3), ('wallet-1-4', 3))"
        ),
        None,
    ),
    "a row that is gone": (
        f"CREATE TABLE gone AS SELECT * FROM transactions WHERE {ONE}; DELETE FROM transactions WHERE {ONE}",
        "INSERT INTO transactions SELECT * FROM gone",
        r"source offset 17: wallet 'wallet-1-3' sequence 3 is in the topic but not in the tables",
    ),
    "a row too many": (
        (
            "INSERT INTO transactions SELECT wallet_id, 99, transaction_id, type, amount, currency, occurred_at,"
            f" group_id, metadata, balance, recorded_at, 1, 1000000, hash, entry FROM transactions WHERE {ONE}"
        ),
        "DELETE FROM transactions WHERE sequence = 99",
        r"source offset 1000000: wallet 'wallet-1-3' sequence 99 is in the tables but not in the topic",
    ),
    "a row that is there twice": (
        (
            "INSERT INTO transactions SELECT wallet_id, 99, transaction_id, type, amount, currency, occurred_at,"
            f" group_id, metadata, balance, recorded_at, 1, 17, hash, entry FROM transactions WHERE {ONE}"
        ),
        "DELETE FROM transactions WHERE sequence = 99",
        r"sequence (3|99) is in the tables more than once",
    ),
}


def test_a_row_that_is_not_its_topics_is_named_and_nothing_is_sealed(pipeline: Settings) -> None:
    for tampered, mended, told in TAMPERED.values():
        change(pipeline, tampered)
        if told:
            with pytest.raises(Mismatch, match=told) as refusal:
                work(pipeline)
            assert name(FIRST) in str(refusal.value)
        change(pipeline, mended)
    assert rows(pipeline, "SELECT count(*) FROM archive_seals") == [(0,)]
    assert [one.month.first for one in work(pipeline)[0]] == [FIRST, SECOND]


ARCHIVED = {
    "an amount": (f"UPDATE {table(FIRST)} SET amount = 1 WHERE {ONE}", "wallet-1-3", True),
    "a row that is gone": (f"DELETE FROM {table(FIRST)} WHERE {ONE}", "wallet-1-3", True),
    "a balance, which no seal covers": (
        f"UPDATE {table(FIRST)} SET balance = 1 WHERE {ONE}",
        None,
        False,
    ),
    "what a seal says of its month": (
        f"UPDATE archive_seals SET entries = 79 WHERE month = '{FIRST}'",
        "chain",
        True,
    ),
    "a seal that is gone": (f"DELETE FROM archive_seals WHERE month = '{FIRST}'", "chain", True),
    "the newest seal that is gone": (
        f"DELETE FROM archive_seals WHERE month = '{SECOND}'",
        name(SECOND),
        True,
    ),
}


@pytest.mark.parametrize("kafka", [True, in_full(False)])
def test_what_is_done_to_an_archived_month_is_found(
    pipeline: Settings, capsys: pytest.CaptureFixture[str], kafka: bool
) -> None:
    work(pipeline)
    with postgres.connect(pipeline) as owner:
        for statement, told, found in ARCHIVED.values():
            owner.execute("CREATE TABLE kept AS SELECT * FROM transaction_archive")
            owner.execute("CREATE TABLE kept_seals AS SELECT * FROM archive_seals")
            change(pipeline, statement)
            assert verify(pipeline, None, kafka=kafka, as_json=False) == (DIFFERENCES if found else 0)
            assert not told or told in capsys.readouterr().out
            with audited(pipeline) as connection:
                assert bool(seal_differences(pipeline, connection)) == found
            change(
                pipeline,
                "DELETE FROM transaction_archive; DELETE FROM archive_seals",
            )
            change(pipeline, "INSERT INTO transaction_archive SELECT * FROM kept; DROP TABLE kept")
            change(pipeline, "INSERT INTO archive_seals SELECT * FROM kept_seals; DROP TABLE kept_seals")
    assert verify(pipeline, None, kafka=kafka, as_json=False) == 0


def test_a_replayed_entry_is_compared_in_the_archive_and_one_that_is_missing_there_stops_the_sink(
    pipeline: Settings,
) -> None:
    work(pipeline)
    before = rows(pipeline, TRUE_ROWS)
    change(pipeline, "UPDATE sink_positions SET next_offset = 0")
    drain(pipeline, "ledger")
    assert rows(pipeline, TRUE_ROWS) == before
    change(pipeline, f"UPDATE {table(FIRST)} SET amount = 1 WHERE {ONE}")
    change(pipeline, "UPDATE sink_positions SET next_offset = 0")
    with pytest.raises(Stopped, match=r"transaction_archive .*sequence=3.* differs from its topic in amount"):
        drain(pipeline, "ledger")
    change(pipeline, f"DELETE FROM {table(FIRST)} WHERE {ONE}")
    change(pipeline, "UPDATE sink_positions SET next_offset = 0")
    with pytest.raises(Stopped, match=r"wallet_id='wallet-1-3', sequence=3.*its month is sealed"):
        drain(pipeline, "ledger")


def test_nobody_moves_a_month_that_is_not_sealed_or_changes_a_seal(pipeline: Settings) -> None:
    with postgres.connect(pipeline, postgres.ARCHIVER) as archiver:
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match=f"{name(FIRST)} is not sealed"):
            archiver.execute("SELECT archive_month(%s, 500)", [FIRST])
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            archiver.execute(f"ALTER TABLE transactions DETACH PARTITION {table(FIRST)}".encode())
    work(pipeline, FIRST)
    with postgres.connect(pipeline) as owner, pytest.raises(psycopg.errors.RestrictViolation):
        owner.execute("UPDATE archive_seals SET entries = 0")
    with (
        postgres.connect(pipeline, postgres.READER) as reader,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        reader.execute("SELECT archive_month(%s, 500)", [FIRST])


def test_status_says_of_every_month_how_far_it_is(
    pipeline: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    work(pipeline, FIRST)
    change(pipeline, "UPDATE sink_positions SET next_offset = 79")
    commands.show_status(pipeline, as_json=True)
    told = json.loads(capsys.readouterr().out)["months"]
    assert [(one["month"], one["state"], one["entries"]) for one in told] == [
        (name(FIRST), "archived", 40 * PARTITIONS),
        (name(SECOND), "incomplete", 40 * PARTITIONS),
        (name(RECENT), "not due", 10 * PARTITIONS),
    ]
    assert [len(one["reasons"]) for one in told] == [0, PARTITIONS, 1]
    commands.show_status(pipeline, as_json=False)
    assert "is at offset 79, the month ends at offset 80" in capsys.readouterr().out


def test_a_named_month_that_cannot_be_sealed_is_told_in_one_line_and_nothing_is_done(
    pipeline: Settings,
) -> None:
    due = month(1) + timedelta(days=pipeline.archive_after_days)
    with pytest.raises(WalletError, match=f"month {name(RECENT)} cannot be sealed yet: it is due on {due}"):
        commands.run(pipeline, RECENT, as_json=False)
    with pytest.raises(WalletError, match=f"{name(EMPTY)} has no rows"):
        commands.run(pipeline, EMPTY, as_json=False)
    change(pipeline, "UPDATE sink_positions SET next_offset = 39 WHERE partition = 1")
    with pytest.raises(WalletError, match=rf"month {name(FIRST)} cannot be sealed yet: .*offset 39"):
        commands.run(pipeline, FIRST, as_json=False)
    assert rows(pipeline, "SELECT count(*) FROM archive_seals") == [(0,)]


def test_who_comes_second_is_refused_and_told_who_works(pipeline: Settings) -> None:
    with archiving(pipeline) as first:
        backend = first.connection.info.backend_pid
        with pytest.raises(
            Refused,
            match=rf"wallet test \S+:{os.getpid()} \(backend {backend}, from [\d.]+\) is already archiving",
        ):
            commands.run(pipeline, None, as_json=False)
    commands.run(pipeline, None, as_json=False)
    assert rows(pipeline, "SELECT count(*) FROM archive_seals") == [(2,)]
