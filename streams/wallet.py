"""What one transaction does to its wallet: the pure decision that the whole ledger is a fold of.

No I/O, no clock and no Faust in here: the same arguments give the same answer on every machine and in
every replay, which is what lets an audit or a rebuild come to the same cent years later.

The compiled loop (`post` in schemas/native/_native.c) has its own copy of the rules of the plainest case: change them
in both places.
"""

from typing import Final, NamedTuple
from uuid import UUID

from config.decisions import Decisions
from schemas.records import CREDIT, INTERVAL, PERIOD, Balance, Order, Reason, Rejected

LARGEST: Final = 2**63 - 1
SMALLEST: Final = -(2**63)
DAY_MS: Final = 86_400_000

_new = tuple.__new__


class Known(NamedTuple):
    """What the id index holds for a transaction id of this wallet: the content posted under it, and when."""

    content: bytes
    recorded_ms: int


class Posted(NamedTuple):
    """Accepted: the wallet's next sequence, and its balance after it in minor units."""

    sequence: int
    balance: int


class Policy(NamedTuple):
    """The part of the pipeline record that decides outcomes."""

    overdraft_allowed: bool
    id_window_ms: int | None
    snapshot_every: int

    @classmethod
    def of(cls, decisions: Decisions) -> "Policy":
        """The policy that `wallet init` fixed for this pipeline."""
        window = decisions.id_window_days
        return cls(
            decisions.overdraft == "allow",
            None if window is None else window * DAY_MS,
            decisions.snapshot_every,
        )


def apply(
    balance: Balance | None,
    order: Order,
    known: Known | None,
    recorded_ms: int,
    policy: Policy,
) -> Posted | Rejected:
    """Decide what one transaction does to its wallet.

    `balance` is None for a wallet that has no entry yet, `order` is the deciding part of the transaction, and
    `known` what was posted under its id before, if anything; `recorded_ms` is when it would be recorded. The
    reasons are tried in the order of `Reason`. A credit is posted even when the balance stays negative.
    """
    if known is not None and not _forgotten(known, recorded_ms, policy):
        name = f"transaction {UUID(bytes=order.transaction_id)}"
        if known.content == order.content:
            return Rejected(Reason.DUPLICATE, f"{name} was posted before")
        return Rejected(Reason.CONFLICT, f"{name} was posted with other content")
    if balance is None:
        before, sequence = 0, 0
    else:
        before, sequence = balance.balance, balance.sequence
        if balance.currency != order.currency:
            return Rejected(
                Reason.CURRENCY_MISMATCH, f"the wallet holds {balance.currency}, got {order.currency}"
            )
    is_credit = order.type == CREDIT
    after = before + order.amount if is_credit else before - order.amount
    if not SMALLEST <= after <= LARGEST:
        return Rejected(Reason.OVERFLOW, f"{after} does not fit into 64 bits")
    if after < 0 and not is_credit and not policy.overdraft_allowed:
        return Rejected(Reason.INSUFFICIENT_FUNDS, f"balance {before}, debit of {order.amount}")
    return _new(Posted, (sequence + 1, after))


def _forgotten(known: Known, recorded_ms: int, policy: Policy) -> bool:
    """Whether the id was posted longer ago than the pipeline's window remembers."""
    return policy.id_window_ms is not None and recorded_ms - known.recorded_ms > policy.id_window_ms


def snapshots(before: Balance | None, after: Balance, policy: Policy) -> tuple[tuple[Balance, int], ...]:
    """The snapshots that an entry causes, as (balance brought forward, reason), in their order.

    PERIOD closes the day of the previous entry when this one falls in a later UTC day, unless that sequence
    had an INTERVAL already; INTERVAL follows every N-th entry. Both depend on the records alone.
    """
    due: tuple[tuple[Balance, int], ...] = ()
    if (
        before is not None
        and after.recorded_ms // DAY_MS > before.recorded_ms // DAY_MS
        and before.sequence % policy.snapshot_every
    ):
        due = ((before, PERIOD),)
    if after.sequence % policy.snapshot_every == 0:
        due += ((after, INTERVAL),)
    return due
