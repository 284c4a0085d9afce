"""A wallet's balance counts only if `ledger` and `balances` agree on it; otherwise the worker stops.

The topics are read in any order, so what they hold is set aside first (`streams.absorb`), and compared here once both
were read to their ends. A balance that is missing, null, different or without an entry would let its wallet continue
from a wrong balance: Kafka has ended a transaction in only one of the topics, or another program has written to them.
For entries that were deleted from the ledger before they were read, `balances` alone counts.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

from schemas.native.balances import decode_balance
from schemas.records import Balance
from streams.store import CHANGE, ENTRY, PartitionStore

#: Wallets compared together.
STRETCH_WALLETS = 1_000
#: Beyond every offset.
NEVER = 2**63


class Held(NamedTuple):
    """What the topics hold of a wallet, as bodies of Balance: from its entries and from `balances` (b"" for null)."""

    wallet: bytes
    entry: bytes | None
    change: bytes | None


def agree(
    store: PartitionStore, *, everything_unseen: bool, compared: Callable[[int], None] = lambda _: None
) -> Held | None:
    """Take over what both topics agree on; returns a wallet on which they differ, None if there is none.

    A balance that was agreed on before counts as an entry that was read. `everything_unseen`: no entry is left that the
    store has not seen, but there were others. `compared` is called with the number of wallets of each stretch (there
    may be millions in all), and may raise: what was compared before stays compared.
    """
    wallets = _set_aside(store)
    while stretch := [*islice(wallets, STRETCH_WALLETS)]:
        known, cursor = store.bodies([one.wallet for one in stretch]), store.cursor
        agreed: dict[bytes, bytes] = {}
        for one in stretch:
            before = known.get(one.wallet)
            entry = before if one.entry is None else one.entry
            change = before if one.change is None else one.change
            if entry != change:
                balance = _of_unseen_entry(one, before, NEVER if everything_unseen else cursor.unseen)
                if balance is None:
                    return Held(one.wallet, entry, change)
                source, recorded_ms = balance.source_offset + 1, balance.recorded_ms
                cursor = cursor._replace(
                    source=max(cursor.source, source), recorded_ms=max(cursor.recorded_ms, recorded_ms)
                )
            agreed[one.wallet] = change or b""
        store.confirm(stretch[0].wallet, stretch[-1].wallet, agreed, cursor)
        compared(len(stretch))
    if store.cursor.unseen:
        store.set_aside({}, {}, {}, store.cursor._replace(unseen=0))
    return None


def agree_on(store: PartitionStore, wallets: list[bytes]) -> None:
    """Take over what both topics agree on by now, of these wallets: those of which something was just set aside.

    For a copy whose topics are still being written: records of the others are still to come.
    """
    entries = store.aside_of(ENTRY, wallets)
    changes = store.aside_of(CHANGE, wallets)
    alike = {wallet: change for wallet, change in changes.items() if change and entries.get(wallet) == change}
    if alike:
        store.confirm_each(alike)


def _set_aside(store: PartitionStore) -> Iterator[Held]:
    """What was set aside, wallet by wallet."""
    entries, changes = store.aside(ENTRY), store.aside(CHANGE)
    entry, change = next(entries, None), next(changes, None)
    while entry or change:
        wallet = min(one[0] for one in (entry, change) if one)
        held = Held(wallet, None, None)
        if entry and entry[0] == wallet:
            held, entry = held._replace(entry=entry[1]), next(entries, None)
        if change and change[0] == wallet:
            held, change = held._replace(change=change[1]), next(changes, None)
        yield held


def _of_unseen_entry(held: Held, before: bytes | None, unseen: int) -> Balance | None:
    """The wallet's balance, if it is newer than the one before and belongs to an entry that was not read; else None."""
    if held.entry is not None or not held.change:
        return None
    try:
        balance, sequence = decode_balance(held.change), decode_balance(before).sequence if before else 0
    except ValueError:
        return None
    is_newer = balance.sequence > sequence and balance.source_offset < unseen
    return balance if is_newer and balance.wallet_id.encode() == held.wallet else None
