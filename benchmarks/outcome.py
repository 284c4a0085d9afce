"""What came out of an input: held against another's, for a figure counts only where the results are equal."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from confluent_kafka import Message

from config.settings import Settings
from schemas.codec import HASH_BYTES, HEADER_BYTES, NO_HASH, body_of, chain, frame, split_entry
from schemas.native.balances import decode_balance
from schemas.records import CREDIT
from schemas.versions import FIXED_IDS
from topics.cluster import offsets, quiet_admin
from topics.topic_log import TopicLog

#: Partition and offset of the input.
Spot = tuple[int, int]


class Newest(NamedTuple):
    """Where a wallet stands after an entry."""

    sequence: int
    balance: int
    hash: bytes


START = Newest(0, 0, NO_HASH)


@dataclass
class Outcome:
    """The entries and rejections of an input, by the record that each is of, and the balances that were kept.

    `broken` says which entries do not follow from the one before them in their wallet.
    """

    entries: dict[Spot, tuple[str, Newest]] = field(default_factory=dict)
    rejected: set[Spot] = field(default_factory=set)
    wallets: dict[str, Newest] = field(default_factory=dict)
    balances: dict[str, Newest] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    def enter(self, body: bytes) -> None:
        """Take a ledger entry; its wallet's earlier ones came before. The chain is computed anew."""
        parts = split_entry(body)
        one, wallet = parts.transaction, parts.transaction.wallet_id
        last = self.wallets.get(wallet, START)
        signed = one.amount if one.type == CREDIT else -one.amount
        due = Newest(last.sequence + 1, last.balance + signed, chain(last.hash, body[:-HASH_BYTES]))
        found = Newest(parts.sequence, parts.balance, parts.hash)
        if found != due:
            self.broken.append(f"entry {found.sequence} of {wallet} does not follow from the one before it")
        spot = parts.source_partition, parts.source_offset
        if spot in self.entries:
            self.broken.append(f"record {spot[0]}:{spot[1]} was posted twice")
        self.entries[spot] = wallet, found
        self.wallets[wallet] = found


def differences(ours: Outcome, theirs: Outcome) -> list[str]:
    """In what their outcome differs from ours, as far as they came in each partition; empty where it is the same.

    Equal are: which records were posted and which rejected, sequence, balance and hash of every entry, and each
    wallet's newest balance. A rival that is slow may have come less far than we.
    """
    reach: dict[int, int] = {}
    for partition, offset in (*theirs.entries, *theirs.rejected):
        reach[partition] = max(offset, reach.get(partition, -1))

    def reached(spot: Spot) -> bool:
        return spot[1] <= reach.get(spot[0], -1)

    due = {spot: entry for spot, entry in ours.entries.items() if reached(spot)}
    both = due.keys() & theirs.entries.keys()
    found: list[tuple[str, Sequence[object]]] = [
        ("entries that are not of the chain", [*ours.broken, *theirs.broken]),
        ("records not posted", sorted(due.keys() - theirs.entries.keys())),
        ("records posted that we reject", sorted(theirs.entries.keys() - due.keys())),
        ("records rejected otherwise", sorted({*filter(reached, ours.rejected)} ^ theirs.rejected)),
        ("entries with other content", sorted(spot for spot in both if due[spot] != theirs.entries[spot])),
        ("wallets whose balance is not that of their newest entry", _off(theirs) + _off(ours)),
    ]
    return [f"{len(which):,} {what}, the first: {which[0]}" for what, which in found if which]


def _off(outcome: Outcome) -> list[str]:
    newest, kept = outcome.wallets, outcome.balances
    return sorted(wallet for wallet in newest.keys() | kept.keys() if newest.get(wallet) != kept.get(wallet))


def read(settings: Settings, ledger: str, rejections: str, balances: str) -> Outcome:
    """What these topics hold, read-committed; they have the pipeline's number of partitions."""
    outcome = Outcome()
    for message in messages(settings, ledger):
        outcome.enter(body_of(message.value() or b"", FIXED_IDS.ledger_entry))
    for message in messages(settings, rejections):
        outcome.rejected.add(_source(message))
    header = frame(FIXED_IDS.balance)
    for message in messages(settings, balances):
        # A rival may keep other things in the same changelog.
        value = message.value()
        if value and value.startswith(header):
            one = decode_balance(value[HEADER_BYTES:])
            outcome.balances[one.wallet_id] = Newest(one.sequence, one.balance, one.hash)
    return outcome


def messages(
    settings: Settings, topic: str, begin: Mapping[int, int] = MappingProxyType({})
) -> Iterator["Message[Any, Any]"]:
    """What a topic holds now, read-committed, of each partition from `begin` on (else all)."""
    places = offsets(quiet_admin(settings), {topic: settings.partitions})
    with closing(TopicLog(settings, topic)) as log:
        for (_, partition), at in places.items():
            for some in log.slices(partition, begin.get(partition, at.begin), at.end):
                yield from some


def _source(message: "Message[Any, Any]") -> Spot:
    """The record that a rejection is of, by the headers that it ends with."""
    told = dict(_texts(message.headers() or []))
    return int(told["rejection.partition"]), int(told["rejection.offset"])


def _texts(headers: Any) -> Iterable[tuple[str, bytes]]:
    return ((name, value) for name, value in headers if value is not None)
