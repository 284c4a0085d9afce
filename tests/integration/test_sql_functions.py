"""The SQL functions on exact boundaries, with and without snapshots and an archived month."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import psycopg
import pytest

from config.settings import Settings
from schemas.codec import encode_snapshot
from schemas.records import DEBIT, INTERVAL, from_ms
from sinks import postgres
from sinks.postgres import Connection, questions
from sinks.postgres.migrations import migrate
from sinks.rows import snapshot_row
from sinks.snapshots import SNAPSHOTS
from sinks.tables import copy
from tests.integration.tables import archive_november, write
from tests.ledgers import DAY_MS, NOVEMBER_MS, Ledger

pytestmark = pytest.mark.integration

MICROSECOND = timedelta(microseconds=1)
LONG_AGO = datetime(1999, 1, 1, tzinfo=UTC)
FAR_OFF = datetime(2999, 1, 1, tzinfo=UTC)


@pytest.fixture
def reader(settings: Settings) -> Iterator[Connection]:
    migrate(settings)
    with postgres.connect(settings, postgres.READER) as connection:
        yield connection


def balance_at(reader: Connection, wallet_id: str, at: datetime) -> int | None:
    row = reader.execute("SELECT wallet_balance_at(%s, %s)", [wallet_id, at]).fetchone()
    assert row
    balance: int | None = row[0]
    return balance


def two_months_of_entries() -> Ledger:
    """One wallet, 40 entries three days apart; another one beside it."""
    ledger = Ledger(0)
    for number in range(40):
        at = NOVEMBER_MS + number * 3 * DAY_MS
        ledger.post(
            "wallet", 100 + number, kind=number % 2, recorded_ms=at, occurred_ms=at - number * 3 * DAY_MS
        )
        ledger.post("other", 7)
    return ledger


@pytest.mark.parametrize("snapshot_every", [None, 1, 7, 100])
def test_a_balance_counts_the_entry_of_that_very_time_and_none_after_and_statements_add_up_to_it(
    reader: Connection, settings: Settings, snapshot_every: int | None
) -> None:
    ledger = two_months_of_entries()
    write(settings, ledger, snapshot_every=snapshot_every)
    assert_balances_are_those_of(ledger, reader)
    assert_statements_add_up(ledger, reader)
    archive_november(settings, sealed=False)
    assert_balances_are_those_of(ledger, reader)
    assert_statements_add_up(ledger, reader)


def assert_balances_are_those_of(ledger: Ledger, reader: Connection) -> None:
    before = 0
    for written in ledger.written:
        entry = written.entry
        if entry.transaction.wallet_id == "wallet":
            assert balance_at(reader, "wallet", entry.recorded_at - MICROSECOND) == before
            assert balance_at(reader, "wallet", entry.recorded_at) == entry.balance
            before = entry.balance
    assert balance_at(reader, "wallet", FAR_OFF) == before
    assert reader.execute("SELECT wallet_balance('wallet'), wallet_balance('other')").fetchone() == (
        before,
        280,
    )


def assert_statements_add_up(ledger: Ledger, reader: Connection) -> None:
    """An opening balance and the lines count an entry of the start once."""
    times = [w.entry.recorded_at for w in ledger.written if w.entry.transaction.wallet_id == "wallet"]
    for start, end in ((times[0], times[9]), (times[9], times[31]), (times[39], FAR_OFF)):
        opening, lines, closing = reader.execute(
            """
            SELECT wallet_balance_before('wallet', %(start)s),
                (SELECT sum(CASE type WHEN 'CREDIT' THEN amount ELSE -amount END)
                    FROM wallet_statement('wallet', %(start)s, %(end)s)),
                wallet_balance_before('wallet', %(end)s)
            """,
            {"start": start, "end": end},
        ).fetchone() or (None, None, None)
        assert opening + lines == closing
    assert reader.execute("SELECT wallet_balance_before('unknown', now())").fetchone() == (None,)


def test_a_wallet_has_nothing_before_its_first_entry_and_an_unknown_one_has_no_balance(
    reader: Connection, settings: Settings
) -> None:
    write(settings, two_months_of_entries(), snapshot_every=1)
    assert reader.execute(
        "SELECT wallet_balance_at('wallet', %(at)s), wallet_balance_effective_at('wallet', %(at)s),"
        " wallet_balance('x'), wallet_balance_at('x', %(at)s), wallet_balance_effective_at('x', %(at)s)",
        {"at": LONG_AGO},
    ).fetchone() == (0, Decimal(0), None, None, None)


def test_several_entries_of_one_time_all_count(reader: Connection, settings: Settings) -> None:
    ledger = Ledger(0)
    for _ in range(5):
        ledger.post("wallet", 10)
    write(settings, ledger, snapshot_every=2)
    assert balance_at(reader, "wallet", from_ms(NOVEMBER_MS)) == 50
    assert balance_at(reader, "wallet", from_ms(NOVEMBER_MS) - MICROSECOND) == 0


def test_the_effective_balance_goes_by_the_upstream_clock(reader: Connection, settings: Settings) -> None:
    ledger = Ledger(0)
    ledger.post("wallet", 100, occurred_ms=NOVEMBER_MS - 1_000)
    ledger.post("wallet", 30, kind=DEBIT, occurred_ms=NOVEMBER_MS - 9_000)
    ledger.post("wallet", 5, occurred_ms=NOVEMBER_MS + 9_000)
    write(settings, ledger)
    expected = {-9_001: 0, -9_000: -30, -1_001: -30, -1_000: 70, 8_999: 70, 9_000: 75}
    for ms, balance in expected.items():
        at = from_ms(NOVEMBER_MS + ms)
        query = "SELECT wallet_balance_effective_at('wallet', %s)"
        assert reader.execute(query, [at]).fetchone() == (Decimal(balance),)


def test_sums_beyond_64_bits_are_exact(reader: Connection, settings: Settings) -> None:
    ledger = Ledger(0)
    most = 2**63 - 1
    for kind in (0, 1, 1, 0, 0):
        ledger.post("wallet", most, kind=kind, occurred_ms=NOVEMBER_MS + kind * DAY_MS)
    write(settings, ledger)
    query = "SELECT wallet_balance('wallet'), wallet_balance_effective_at('wallet', %s)"
    assert reader.execute(query, [from_ms(NOVEMBER_MS)]).fetchone() == (most, Decimal(3 * most))


@pytest.mark.parametrize("archived", [False, True])
def test_a_statement_includes_its_start_and_not_its_end(
    reader: Connection, settings: Settings, archived: bool
) -> None:
    ledger = two_months_of_entries()
    write(settings, ledger)
    if archived:
        archive_november(settings, sealed=False)
    entries = [w.entry for w in ledger.written if w.entry.transaction.wallet_id == "wallet"]
    start, end = entries[5].recorded_at, entries[31].recorded_at
    lines = list(questions.statement(settings, "wallet", start, end))
    assert [(line.sequence, line.balance, line.hash) for line in lines] == [
        (entry.sequence, entry.balance, entry.hash) for entry in entries[5:31]
    ]
    assert [line.sequence for line in questions.statement(settings, "wallet")] == list(range(1, 41))
    assert list(questions.statement(settings, "unknown")) == []


def test_a_statement_has_every_column_but_entry(reader: Connection, settings: Settings) -> None:
    of_table = [column.name for column in reader.execute("SELECT * FROM transactions").description or ()]
    of_statement = [
        column.name for column in reader.execute("SELECT * FROM wallet_statement('x')").description or ()
    ]
    assert [*of_statement, "entry"] == of_table


def test_a_balance_reads_the_entries_after_its_snapshot_only(reader: Connection, settings: Settings) -> None:
    ledger = Ledger(0)
    for number in range(400):
        ledger.post("wallet", 1, recorded_ms=NOVEMBER_MS + number * DAY_MS)
    write(settings, ledger, snapshot_every=50)
    with reader.transaction():
        at = from_ms(NOVEMBER_MS + 320 * DAY_MS)
        assert balance_at(reader, "wallet", at) == 321
        touched = reader.execute(
            "SELECT relname, seq_scan, idx_tup_fetch FROM pg_stat_xact_user_tables"
            " WHERE relname LIKE 'transaction%' AND (idx_scan > 0 OR seq_scan > 0) ORDER BY 1"
        ).fetchall()
    # Entry 300 had a snapshot, on 27 August; entries 301 to 321 are of August and September.
    assert {name for name, _, _ in touched} == {
        "transaction_snapshots",
        "transactions_2027_08",
        "transactions_2027_09",
    }
    assert sum(scans for _, scans, _ in touched) == 0
    assert sum(fetched for _, _, fetched in touched) <= 1 + 50


TEN_YEARS = 120
LOCKED = """
    SELECT DISTINCT c.relname FROM pg_locks AS l JOIN pg_class AS c ON c.oid = l.relation
    WHERE l.pid = pg_backend_pid() AND c.relkind IN ('r', 'p') AND c.relname LIKE 'transactions%'
"""


def test_of_ten_years_of_months_a_balance_plans_and_locks_those_that_it_reads(
    reader: Connection, settings: Settings
) -> None:
    ledger = Ledger(0)
    ledger.post("old", 1)
    for number in range(TEN_YEARS):
        ledger.post("wallet", 1, recorded_ms=NOVEMBER_MS + number * 31 * DAY_MS)
    write(settings, ledger, snapshot_every=1)
    archive_november(settings, sealed=False)
    hour = timedelta(hours=1)
    questions = {
        ("wallet", ledger.written[50].entry.recorded_at + hour): (50, 1),
        ("wallet", ledger.written[TEN_YEARS].entry.recorded_at + hour): (TEN_YEARS, 1),
        ("old", ledger.written[0].entry.recorded_at + hour): (1, 1),
        ("old", ledger.written[0].entry.recorded_at - hour): (0, 0),
        # Since its newest snapshot the wallet may have entries in every month.
        ("old", ledger.written[3].entry.recorded_at): (1, 3),
    }
    for (wallet_id, at), (balance, months) in questions.items():
        for _ in range(7):  # more often than a plan that fits all values takes to be made
            with reader.transaction():
                assert balance_at(reader, wallet_id, at) == balance
                locked = {name for (name,) in reader.execute(LOCKED)} - {"transactions"}
            assert len(locked) <= months
    with reader.transaction():
        assert reader.execute("SELECT wallet_balance('wallet')").fetchone() == (TEN_YEARS,)
        assert len(reader.execute(LOCKED).fetchall()) <= 1 + 1


def test_a_month_that_is_moved_between_two_questions_of_a_reader_is_not_missed(
    reader: Connection, settings: Settings
) -> None:
    """The reader's state is of before the move, the months are where they are after it."""
    ledger = two_months_of_entries()
    write(settings, ledger, snapshot_every=30)
    at = from_ms(NOVEMBER_MS + 20 * DAY_MS)
    query = "SELECT wallet_balance_at('wallet', %(at)s), wallet_balance_before('wallet', %(at)s)"
    reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    reader.execute("SELECT")  # its state is fixed, and no table is locked
    archive_november(settings, sealed=False)
    moved = reader.execute(query.encode(), {"at": at}).fetchone()
    reader.execute("COMMIT")
    assert moved == reader.execute(query.encode(), {"at": at}).fetchone()
    assert moved
    assert moved[0] != 0


def test_a_bound_that_is_null_is_none(reader: Connection, settings: Settings) -> None:
    ledger = two_months_of_entries()
    write(settings, ledger)
    middle = ledger.written[20].entry.recorded_at
    query = "SELECT count(*)::int FROM wallet_statement('wallet', %s, %s)"
    found = [
        reader.execute(query, bounds).fetchone() for bounds in ([None, None], [None, middle], [middle, None])
    ]
    assert found == [(40,), (10,), (30,)]


#: Of a wallet with 11 at one time, and the answers of the four balances at these times.
EDGES = {
    "infinity": (11, 11, 11),
    "-infinity": (0, 0, 0),
    "4713-01-01 00:00Z BC": (0, 0, 0),
    "0044-03-15 BC": (0, 0, 0),
    "294276-12-31 23:59:59.999999Z": (11, 11, 11),
}
NAMES = ("", " ", "😀" * 128, "Zürich", "e\u0301", "%", "\\", "NULL", "NaN", "'; DROP TABLE wallets; --")


def test_times_and_names_at_the_edges_have_answers(reader: Connection, settings: Settings) -> None:
    ledger = Ledger(0)
    for name in NAMES:
        ledger.post(name, 5)
        ledger.post(name, 6)
    write(settings, ledger, snapshot_every=2)
    query = "SELECT wallet_balance_at(%(w)s, %(at)s), wallet_balance_before(%(w)s, %(at)s),"
    query += " wallet_balance_effective_at(%(w)s, %(at)s)::bigint"
    for name in NAMES:
        for at, answers in EDGES.items():
            assert reader.execute(query.encode(), {"w": name, "at": at}).fetchone() == answers
        assert questions.balance(settings, name) == (name, "EUR", 11)
        assert len(list(questions.statement(settings, name))) == 2
    # NULL in, NULL out; and what is no time is an error of one line.
    assert reader.execute(query.encode(), {"w": None, "at": "infinity"}).fetchone() == (None, None, None)
    assert reader.execute(query.encode(), {"w": "", "at": None}).fetchone() == (None, None, None)
    with pytest.raises(psycopg.errors.InvalidDatetimeFormat):
        reader.execute(query.encode(), {"w": "", "at": "NaN"})
    statement = "SELECT count(*) FROM wallet_statement('', %s, %s)"
    for start, end, lines in (("infinity", None, 0), (None, "-infinity", 0), ("-infinity", "infinity", 2)):
        assert reader.execute(statement, [start, end]).fetchone() == (lines,)


def test_what_the_command_line_reads(reader: Connection, settings: Settings) -> None:
    ledger = Ledger(0)
    ledger.post("wallet", 5)
    ledger.post("wallet", 6, recorded_ms=NOVEMBER_MS + 1)
    write(settings, ledger)
    with postgres.connect(settings, postgres.WRITER) as writer:
        body = encode_snapshot(ledger.written[0].balance, INTERVAL)
        copy(writer, SNAPSHOTS, [snapshot_row(body)])
    assert questions.balance(settings, "wallet") == ("wallet", "EUR", 11)
    assert questions.balance(settings, "wallet", from_ms(NOVEMBER_MS)) == ("wallet", "EUR", 5)
    assert questions.balance(settings, "unknown") is None
    assert questions.counts(settings) == {
        "wallets": 1,
        "transactions": 2,
        "transaction_archive": 0,
        "transaction_snapshots": 1,
        "rejections": 0,
    }
    assert questions.positions(settings) == []
    assert questions.rejections_by_reason(settings) == {}
