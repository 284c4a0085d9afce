"""What `apply` decides, case by case, and which snapshots an entry causes."""

from uuid import UUID

import pytest

from schemas.records import CREDIT, DEBIT, INTERVAL, PERIOD, Balance, Order, Reason, Rejected
from streams.wallet import DAY_MS, LARGEST, SMALLEST, Known, Policy, apply, snapshots

ALLOW = Policy(overdraft_allowed=True, id_window_ms=None, snapshot_every=100)
REJECT = ALLOW._replace(overdraft_allowed=False)
WINDOW = ALLOW._replace(id_window_ms=2 * DAY_MS)
NOW_MS = 1_800_000_000_000
ID = UUID("0b0e7d3c-2f65-4c6f-9d5e-0123456789ab")
CONTENT, OTHER_CONTENT = b"c" * 32, b"o" * 32


def holding(balance: int, currency: str = "EUR", sequence: int = 7, recorded_ms: int = NOW_MS) -> Balance:
    return Balance("wallet-1", currency, balance, sequence, recorded_ms, 1, 41, bytes(32))


def credit(amount: int, currency: str = "EUR") -> Order:
    return Order(ID.bytes, b"wallet-1", CREDIT, amount, currency, b"body", CONTENT)


def debit(amount: int, currency: str = "EUR") -> Order:
    return credit(amount, currency)._replace(type=DEBIT)


def decided(
    balance: Balance | None,
    order: Order,
    policy: Policy,
    known: Known | None = None,
    recorded_ms: int = NOW_MS,
) -> tuple[int, int] | Reason:
    """What `apply` says, as (sequence, balance) or the reason."""
    outcome = apply(balance, order, known, recorded_ms, policy)
    return outcome.reason if isinstance(outcome, Rejected) else (outcome.sequence, outcome.balance)


@pytest.mark.parametrize(
    ("balance", "order", "policy", "wanted"),
    [
        # a wallet's first entry
        (None, credit(1), ALLOW, (1, 1)),
        (None, credit(LARGEST), REJECT, (1, LARGEST)),
        (None, debit(100), ALLOW, (1, -100)),
        (None, debit(1), REJECT, Reason.INSUFFICIENT_FUNDS),
        (None, credit(5, "XTS"), ALLOW, (1, 5)),
        # the next one
        (holding(100), credit(50), ALLOW, (8, 150)),
        (holding(100), debit(50), ALLOW, (8, 50)),
        (holding(0, sequence=LARGEST - 1), credit(1), ALLOW, (LARGEST, 1)),
        # around zero
        (holding(100), debit(100), REJECT, (8, 0)),
        (holding(100), debit(101), REJECT, Reason.INSUFFICIENT_FUNDS),
        (holding(100), debit(101), ALLOW, (8, -1)),
        (holding(0), debit(1), REJECT, Reason.INSUFFICIENT_FUNDS),
        # a credit is posted even when the balance stays negative
        (holding(-100), credit(1), REJECT, (8, -99)),
        (holding(-100), credit(1), ALLOW, (8, -99)),
        (holding(SMALLEST), credit(1), REJECT, (8, SMALLEST + 1)),
        (holding(-100), debit(1), REJECT, Reason.INSUFFICIENT_FUNDS),
        # the ends of 64 bits
        (holding(LARGEST - 1), credit(1), ALLOW, (8, LARGEST)),
        (holding(LARGEST), credit(1), ALLOW, Reason.OVERFLOW),
        (holding(LARGEST), credit(LARGEST), ALLOW, Reason.OVERFLOW),
        (holding(SMALLEST + 1), debit(1), ALLOW, (8, SMALLEST)),
        (holding(SMALLEST), debit(1), ALLOW, Reason.OVERFLOW),
        (holding(-1), debit(LARGEST), ALLOW, (8, SMALLEST)),
        (holding(-2), debit(LARGEST), ALLOW, Reason.OVERFLOW),
        (holding(LARGEST), debit(LARGEST), REJECT, (8, 0)),
        # one currency a wallet
        (holding(100), credit(1, "USD"), ALLOW, Reason.CURRENCY_MISMATCH),
        (holding(100), debit(1, "USD"), REJECT, Reason.CURRENCY_MISMATCH),
    ],
)
def test_a_transaction_is_posted_or_rejected(
    balance: Balance | None, order: Order, policy: Policy, wanted: tuple[int, int] | Reason
) -> None:
    assert decided(balance, order, policy) == wanted


SAME, DIFFERENT = Known(CONTENT, NOW_MS), Known(OTHER_CONTENT, NOW_MS)


@pytest.mark.parametrize(
    ("balance", "order", "known", "wanted"),
    [
        (holding(100), credit(1), SAME, Reason.DUPLICATE),
        (holding(100), credit(1), DIFFERENT, Reason.CONFLICT),
        # ... whatever would come later
        (holding(100), credit(1, "USD"), SAME, Reason.DUPLICATE),
        (holding(100), credit(1, "USD"), DIFFERENT, Reason.CONFLICT),
        (holding(LARGEST), credit(1), SAME, Reason.DUPLICATE),
        (holding(LARGEST), credit(1), DIFFERENT, Reason.CONFLICT),
        (holding(0), debit(1), SAME, Reason.DUPLICATE),
        (holding(0), debit(1), DIFFERENT, Reason.CONFLICT),
        # currency before overflow, overflow before funds
        (holding(LARGEST), credit(1, "USD"), None, Reason.CURRENCY_MISMATCH),
        (holding(0), debit(1, "USD"), None, Reason.CURRENCY_MISMATCH),
        (holding(SMALLEST), debit(1), None, Reason.OVERFLOW),
    ],
)
def test_the_first_reason_in_the_contracts_order_is_given(
    balance: Balance, order: Order, known: Known | None, wanted: Reason
) -> None:
    assert decided(balance, order, REJECT, known) == wanted


@pytest.mark.parametrize(
    ("age_ms", "content", "wanted"),
    [
        (0, CONTENT, Reason.DUPLICATE),
        (2 * DAY_MS, CONTENT, Reason.DUPLICATE),
        (2 * DAY_MS, OTHER_CONTENT, Reason.CONFLICT),
        (2 * DAY_MS + 1, CONTENT, (8, 101)),
        (2 * DAY_MS + 1, OTHER_CONTENT, (8, 101)),
    ],
)
def test_an_id_is_forgotten_one_millisecond_after_the_window(
    age_ms: int, content: bytes, wanted: tuple[int, int] | Reason
) -> None:
    known = Known(content, NOW_MS - age_ms)
    assert decided(holding(100), credit(1), WINDOW, known) == wanted


def test_without_a_window_an_id_is_remembered_for_ever() -> None:
    known = Known(CONTENT, NOW_MS - 100_000 * DAY_MS)
    assert decided(holding(100), credit(1), ALLOW, known) == Reason.DUPLICATE


def test_a_detail_is_printable_whatever_the_transaction_holds() -> None:
    outcome = apply(holding(0), debit(1), None, NOW_MS, REJECT)
    assert isinstance(outcome, Rejected)
    assert outcome.detail.isascii()
    assert outcome.detail.isprintable()


MIDNIGHT_MS = NOW_MS - NOW_MS % DAY_MS
EVERY_3 = ALLOW._replace(snapshot_every=3)


def entry(sequence: int, recorded_ms: int) -> Balance:
    return holding(10 * sequence, sequence=sequence, recorded_ms=recorded_ms)


@pytest.mark.parametrize(
    ("before", "after", "wanted"),
    [
        # INTERVAL: after every N-th entry
        (None, entry(1, MIDNIGHT_MS), []),
        (entry(1, MIDNIGHT_MS), entry(2, MIDNIGHT_MS), []),
        (entry(2, MIDNIGHT_MS), entry(3, MIDNIGHT_MS), [(3, INTERVAL)]),
        (entry(3, MIDNIGHT_MS), entry(4, MIDNIGHT_MS), []),
        (entry(5, MIDNIGHT_MS), entry(6, MIDNIGHT_MS), [(6, INTERVAL)]),
        # PERIOD: the close of the previous entry's day
        (entry(1, MIDNIGHT_MS - 1), entry(2, MIDNIGHT_MS), [(1, PERIOD)]),
        (entry(1, MIDNIGHT_MS), entry(2, MIDNIGHT_MS + DAY_MS - 1), []),
        (entry(1, MIDNIGHT_MS), entry(2, MIDNIGHT_MS + DAY_MS), [(1, PERIOD)]),
        # ... one, however many days lie between
        (entry(1, MIDNIGHT_MS), entry(2, MIDNIGHT_MS + 400 * DAY_MS), [(1, PERIOD)]),
        # ... and not when that sequence had an INTERVAL
        (entry(3, MIDNIGHT_MS - 1), entry(4, MIDNIGHT_MS), []),
        # both, the older one first
        (entry(2, MIDNIGHT_MS - 1), entry(3, MIDNIGHT_MS), [(2, PERIOD), (3, INTERVAL)]),
        # days before 1970 have their midnights as well
        (entry(1, -1), entry(2, 0), [(1, PERIOD)]),
        (entry(1, -DAY_MS), entry(2, -1), []),
    ],
)
def test_snapshots_bring_the_balance_forward(
    before: Balance | None, after: Balance, wanted: list[tuple[int, int]]
) -> None:
    found = snapshots(before, after, EVERY_3)
    assert [(balance.sequence, reason) for balance, reason in found] == wanted
    assert all(balance in {before, after} for balance, _ in found)


def test_with_an_interval_of_one_no_day_is_closed_apart() -> None:
    every = ALLOW._replace(snapshot_every=1)
    after = entry(2, MIDNIGHT_MS)
    assert snapshots(entry(1, MIDNIGHT_MS - 1), after, every) == ((after, INTERVAL),)
