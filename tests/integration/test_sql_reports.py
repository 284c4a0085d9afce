"""The reports in SQL against a plain model of the same entries: random ledgers, with and without archived months."""

import json
from collections import defaultdict
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from random import Random

import pytest

from config.settings import Settings
from local.stack import Addresses
from schemas.records import CREDIT, DEBIT, LedgerEntry, from_ms
from sinks import postgres
from sinks.postgres import Connection
from sinks.postgres.migrations import migrate
from tests.conftest import settings_on
from tests.effort import examples
from tests.integration.tables import archive_november, write
from tests.ledgers import DAY_MS, NOVEMBER_MS, Ledger

pytestmark = pytest.mark.integration

CURRENCIES = {"": "EUR", "a": "EUR", "b": "JPY", "ä": "KWD", "B": "EUR"}
WALLETS = [*CURRENCIES]
MOST = 2**63 - 1
HOUR_MS = 3_600_000
#: Milliseconds between two entries: several of one time, of one day, and a jump over a month.
STEPS = (0, 0, 1, HOUR_MS, 11 * HOUR_MS, 3 * DAY_MS, 20 * DAY_MS)


@pytest.fixture(scope="module", params=range(examples(2)))
def reported(
    request: pytest.FixtureRequest, addresses: Addresses
) -> Iterator[tuple[Settings, list[LedgerEntry]]]:
    """A ledger in tables that nobody changes: every second one without snapshots, every first one archived in part."""
    seed = request.param
    with settings_on(addresses, Settings(_env_file=None)) as settings:
        migrate(settings)
        ledger = random_ledger(Random(seed), 120)
        write(settings, ledger, snapshot_every=(3, None)[seed % 2])
        if seed % 2 == 0:
            archive_november(settings, sealed=False)
            with postgres.connect(settings) as owner:
                owner.execute("CALL make_sealed('transactions_2026_12')")
        yield settings, [written.entry for written in ledger.written]


@pytest.fixture
def entries(reported: tuple[Settings, list[LedgerEntry]]) -> list[LedgerEntry]:
    return reported[1]


@pytest.fixture
def reader(reported: tuple[Settings, list[LedgerEntry]]) -> Iterator[Connection]:
    """Who may read these tables."""
    with postgres.connect(reported[0], postgres.READER) as connection:
        yield connection


@pytest.fixture
def own_reader(settings: Settings) -> Iterator[Connection]:
    """Who may read tables of this test's own."""
    migrate(settings)
    with postgres.connect(settings, postgres.READER) as connection:
        yield connection


def random_ledger(random: Random, entries: int) -> Ledger:
    """Entries of all sizes, some of them legs of groups that sum to zero or do not."""
    ledger, balances = Ledger(0), defaultdict[str, int](int)
    for _ in range(entries):
        wallet_id = random.choice(WALLETS)
        amount = random.choice((1, 7, random.randrange(1, 10_000), 2**62, MOST))
        kind = CREDIT if balances[wallet_id] <= 0 else DEBIT
        balances[wallet_id] += amount if kind == CREDIT else -amount
        ledger.post(
            wallet_id,
            amount,
            kind=kind,
            recorded_ms=ledger.recorded_ms + random.choice(STEPS),
            currency=CURRENCIES[wallet_id],
            group_id=random.choice((None, f"group {random.randrange(6)}")),
        )
    return ledger


def signed(entry: LedgerEntry) -> int:
    one = entry.transaction
    return one.amount if one.type == CREDIT else -one.amount


def times_of(entries: list[LedgerEntry]) -> list[datetime | None]:
    """Before all of them, at some of them and just before, after all of them, and no bound."""
    some = [entry.recorded_at for entry in entries[::29]]
    return [
        from_ms(0),
        *some,
        *(at - timedelta(microseconds=1) for at in some),
        from_ms(NOVEMBER_MS * 2),
        None,
    ]


def is_by(entry: LedgerEntry, at: datetime | None) -> bool:
    return at is None or entry.recorded_at <= at


def test_balances_of_many_wallets_are_those_of_each(reader: Connection, entries: list[LedgerEntry]) -> None:
    asked = ["b", "nobody", *reversed(WALLETS), "b"]
    for at in times_of(entries):
        held = {
            wallet_id: sum(
                signed(one) for one in entries if one.transaction.wallet_id == wallet_id and is_by(one, at)
            )
            for wallet_id in WALLETS
        }
        found = reader.execute("SELECT * FROM wallet_balances_at(%s, %s)", [asked, at]).fetchall()
        assert found == [(one, CURRENCIES.get(one), held.get(one)) for one in asked]
    now = reader.execute("SELECT * FROM wallet_balances_at(%s)", [asked]).fetchall()
    assert now == found
    assert reader.execute("SELECT * FROM wallet_balances_at('{}')").fetchall() == []
    assert reader.execute("SELECT * FROM wallet_balances_at(ARRAY[NULL])").fetchall() == [(None, None, None)]


def test_a_trial_balance_sums_beyond_64_bits(reader: Connection, entries: list[LedgerEntry]) -> None:
    largest = Decimal(0)
    for at in times_of(entries):
        credited, debited = defaultdict[str, int](int), defaultdict[str, int](int)
        wallets = defaultdict[str, set[str]](set)
        for one in (one for one in entries if is_by(one, at)):
            currency = one.transaction.currency
            (credited if one.transaction.type == CREDIT else debited)[currency] += one.transaction.amount
            wallets[currency].add(one.transaction.wallet_id)
        found = reader.execute("SELECT * FROM wallet_trial_balance(%s)", [at]).fetchall()
        assert found == [
            (of, credited[of], debited[of], credited[of] - debited[of], len(wallets[of]))
            for of in sorted(wallets)
        ]
        largest = max([largest, *(row[1] for row in found)])
    assert reader.execute("SELECT * FROM wallet_trial_balance()").fetchall() == found
    assert largest > MOST


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Auckland"])
def test_days_close_in_utc_wherever_the_session_is(
    reader: Connection, entries: list[LedgerEntry], zone: str
) -> None:
    reader.execute("SELECT set_config('TimeZone', %s, false)", [zone])
    first, end = date(2026, 10, 30), entries[-1].recorded_at.date() + timedelta(days=2)
    for start in (first, date(2026, 11, 20), end):
        for wallet_id in WALLETS:
            of_wallet = [one for one in entries if one.transaction.wallet_id == wallet_id]
            wanted = []
            for number in range((end - start).days):
                day = start + timedelta(days=number)
                on_it = [one for one in of_wallet if one.recorded_at.date() == day]
                credited = sum(one.transaction.amount for one in on_it if one.transaction.type == CREDIT)
                debited = sum(one.transaction.amount for one in on_it if one.transaction.type == DEBIT)
                held = sum(signed(one) for one in of_wallet if one.recorded_at.date() <= day)
                wanted.append((day, held, len(on_it), credited, debited))
            found = reader.execute(
                "SELECT * FROM wallet_daily_balances(%s, %s, %s)", [wallet_id, start, end]
            ).fetchall()
            assert found == wanted
    query = "SELECT * FROM wallet_daily_balances(%s, %s, %s)"
    for wallet_id in WALLETS:
        days = [one.recorded_at.date() for one in entries if one.transaction.wallet_id == wallet_id]
        wanted = reader.execute(query, [wallet_id, days[0], days[-1] + timedelta(days=1)]).fetchall()
        assert reader.execute(query, [wallet_id, "-infinity", "infinity"]).fetchall() == wanted
    for nothing in (
        ["nobody", first, end],
        ["nobody", "-infinity", "infinity"],
        ["a", end, first],
        ["a", "infinity", end],
        ["a", first, "-infinity"],
        ["a", None, end],
        [None, first, end],
    ):
        assert reader.execute(query, nothing).fetchall() == []


def groups_of(entries: list[LedgerEntry]) -> dict[str, list[LedgerEntry]]:
    groups = defaultdict[str, list[LedgerEntry]](list)
    for one in entries:
        if one.transaction.group_id is not None:
            groups[one.transaction.group_id].append(one)
    return groups


def test_a_group_shows_its_legs_and_whether_they_sum_to_zero(
    reader: Connection, entries: list[LedgerEntry]
) -> None:
    of_statement = [
        column.name for column in reader.execute("SELECT * FROM wallet_statement('x')").description or ()
    ]
    columns = [column.name for column in reader.execute("SELECT * FROM wallet_group('x')").description or ()]
    assert columns == [*of_statement, "currency_sum", "complete"]
    for group_id, legs in groups_of(entries).items():
        sums = defaultdict[str, int](int)
        for one in legs:
            sums[one.transaction.currency] += signed(one)
        legs.sort(key=lambda one: (one.recorded_at, one.transaction.wallet_id.encode(), one.sequence))
        found = reader.execute(
            "SELECT wallet_id, sequence, hash, currency_sum, complete FROM wallet_group(%s)", [group_id]
        ).fetchall()
        complete = not any(sums.values())
        assert found == [
            (one.transaction.wallet_id, one.sequence, one.hash, sums[one.transaction.currency], complete)
            for one in legs
        ]
    assert reader.execute("SELECT * FROM wallet_group('none')").fetchall() == []
    assert reader.execute("SELECT * FROM wallet_group(NULL)").fetchall() == []


def test_open_groups_are_those_that_do_not_sum_to_zero(
    reader: Connection, entries: list[LedgerEntry]
) -> None:
    wanted = []
    for group_id, legs in groups_of(entries).items():
        for currency in {one.transaction.currency for one in legs}:
            of_it = [one for one in legs if one.transaction.currency == currency]
            if total := sum(signed(one) for one in of_it):
                times = [one.recorded_at for one in of_it]
                wanted.append((group_id, currency, len(of_it), total, min(times), max(times)))
    wanted.sort(key=lambda row: (row[4], row[0], row[1]))
    assert reader.execute("SELECT * FROM wallet_open_groups()").fetchall() == wanted
    assert wanted


def test_a_group_is_complete_only_if_every_currency_is(own_reader: Connection, settings: Settings) -> None:
    ledger = Ledger(0)
    whole = [("a", CREDIT, "EUR"), ("c", DEBIT, "EUR"), ("b", CREDIT, "JPY"), ("d", DEBIT, "JPY")]
    for wallet_id, kind, currency in whole:
        ledger.post(wallet_id, MOST, kind=kind, currency=currency, group_id="whole")
    for wallet_id, _, currency in (whole[0], whole[2], whole[0]):
        ledger.post(wallet_id, 1, kind=DEBIT, currency=currency, group_id="open")
    for wallet_id, kind, currency in whole[:3]:
        ledger.post(wallet_id, 1, kind=kind, currency=currency, group_id="half")
    write(settings, ledger)
    asked = "SELECT DISTINCT currency, currency_sum, complete FROM wallet_group(%s) ORDER BY currency"
    assert own_reader.execute(asked, ["whole"]).fetchall() == [("EUR", 0, True), ("JPY", 0, True)]
    assert own_reader.execute(asked, ["open"]).fetchall() == [("EUR", -2, False), ("JPY", -1, False)]
    assert own_reader.execute(asked, ["half"]).fetchall() == [("EUR", 0, False), ("JPY", 1, False)]
    found = own_reader.execute(
        "SELECT group_id, currency, legs, balance FROM wallet_open_groups()"
    ).fetchall()
    assert found == [("half", "JPY", 1, 1), ("open", "EUR", 2, -2), ("open", "JPY", 1, -1)]


# -- how complete the tables are


def complete_until(connection: Connection) -> tuple[datetime | None, dict[str, str]]:
    found = connection.execute("SELECT recorded_at, positions FROM wallet_complete_until()").fetchall()
    ((recorded_at, positions),) = found
    return recorded_at, positions if isinstance(positions, dict) else json.loads(positions)


def test_what_is_complete_is_what_both_sinks_have(own_reader: Connection, settings: Settings) -> None:
    assert complete_until(own_reader) == (None, {})

    def set_to(sink: str, partition: int, input_offset: int, at: int | None) -> None:
        with postgres.connect(settings, postgres.WRITER) as writer:
            writer.execute(
                """
                INSERT INTO sink_positions (
                    sink, topic, partition, next_offset, high_offset, owner, partitions, input_offset, recorded_at
                ) VALUES (%s, %s, %s, 9, 9, 'me', 2, %s, %s)
                ON CONFLICT (sink, topic, partition) DO UPDATE
                SET input_offset = excluded.input_offset, recorded_at = excluded.recorded_at
                """,
                [sink, f"topic.{sink}", partition, input_offset, at and from_ms(at)],
            )

    set_to("ledger", 0, 70, 7_000)
    assert complete_until(own_reader) == (None, {"0": "0"})
    set_to("rejections", 0, 50, 5_000)
    set_to("snapshots", 0, 1, 1)
    # No sink has begun with partition 1: what it holds may have been recorded at any time.
    assert complete_until(own_reader) == (None, {"0": "50"})
    set_to("rejections", 0, MOST, 9_000)
    assert complete_until(own_reader) == (None, {"0": "70"})
    set_to("ledger", 1, 4, 9_400)
    set_to("rejections", 1, 4, None)
    assert complete_until(own_reader) == (None, {"0": "70", "1": "4"})
    set_to("rejections", 1, 5, 9_500)
    assert complete_until(own_reader) == (from_ms(7_000), {"0": "70", "1": "4"})


def test_reports_are_the_readers_and_nobody_elses(own_reader: Connection) -> None:
    found = own_reader.execute(
        """
        SELECT proname, provolatile, proparallel,
            (SELECT array_agg(grantee::regrole::text ORDER BY grantee::regrole::text) FROM aclexplode(proacl)
                WHERE privilege_type = 'EXECUTE' AND grantee <> proowner)
        FROM pg_proc WHERE proname = ANY(%s) ORDER BY proname
        """,
        [REPORTS],
    ).fetchall()
    assert found == [(name, "s", "s", ["wallet_reader", "wallet_writer"]) for name in REPORTS]


REPORTS = [
    "wallet_balances_at",
    "wallet_complete_until",
    "wallet_daily_balances",
    "wallet_group",
    "wallet_open_groups",
    "wallet_trial_balance",
]
