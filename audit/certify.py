"""Compare the entries of a stretch of the input with that input: conservation, fidelity, arithmetic and the chain.

Most are judged by columns. If anything is wrong with an entry, everything its wallet did in the stretch is judged again
one by one, by the slow fold from the certified balance. So each difference is reported once, with what must be there,
and its consequences are not further differences.
"""

from collections.abc import Callable, Sequence
from hashlib import blake2b, sha256
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np

from audit import avro, fold
from audit.columns import HASH_BYTES, Entries, Flags, Longs, Words, entries
from audit.contract import FIRST_MS, FRAME_BYTES, Balance, Contract, Reason, Transaction, frame
from audit.fold import Posted
from audit.identity import ENTRY, Events, events
from audit.wallets import Wallets, currency_code
from topics.source import Source

#: Reports a difference: which check, what, where, and both versions.
Tell = Callable[..., None]
#: What may be a wallet's newest balance while outcomes are missing.
MOST_GUESSES = 8


class Inputs:
    """A stretch of the input, in the order of its offsets."""

    def __init__(self, records: Sequence[Source]) -> None:
        self.records = records
        self.offsets: Longs = np.array([record[0] for record in records], np.int64)
        self.times: Longs = np.array([record[1] for record in records], np.int64)

    def places(self, sources: Sequence[int]) -> tuple[Longs, Flags]:
        """Where these offsets are among the records, and which of them are there at all."""
        wanted = np.array(sources, np.int64)
        places = np.minimum(np.searchsorted(self.offsets, wanted), max(len(self.offsets) - 1, 0))
        return places, (self.offsets[places] == wanted) if len(self.offsets) else np.zeros(
            len(wanted), np.bool_
        )


class Certified(NamedTuple):
    """What the entries of a stretch must be: one row each, by source. `before` is the wallet's row before, or -1."""

    wallet: Longs
    currency: Words
    balance: Longs
    sequence: Longs
    recorded_ms: Longs
    source: Longs
    links: list[bytes]
    before: Longs


class Judged(NamedTuple):
    """The result of a stretch: its entries as they must be, also as values and columns, and events for their ids.

    `offsets` are their offsets in the topic, -1 for missing ones.
    """

    certified: Certified
    events: Events
    values: list[bytes]
    columns: Entries
    offsets: Longs


def would_be_recorded(records: Sequence[Source], certified: Certified, newest_ms: int) -> tuple[Longs, Longs]:
    """For records of a stretch that are no entries: how many entries came before, and what its recorded_at would be.

    `newest_ms` is the recorded_at of the newest entry before the stretch.
    """
    behind = np.searchsorted(certified.source, np.array([one.offset for one in records], np.int64))
    newest = np.concatenate([[newest_ms], certified.recorded_ms])[behind]
    return behind, np.maximum(newest, np.array([one.timestamp_ms for one in records], np.int64))


def previous(wallet: Longs) -> Longs:
    """For each row the row before it of the same wallet, -1 for a wallet's first."""
    before = np.full(len(wallet), -1, np.int64)
    order = np.argsort(wallet, kind="stable")
    same = wallet[order[1:]] == wallet[order[:-1]]
    before[order[1:][same]] = order[:-1][same]
    return before


class Certifier:
    """Judges one partition's entries, stretch by stretch; `wallets` are as of the stretch's begin."""

    def __init__(self, contract: Contract, partition: int, wallets: Wallets, tell: Tell) -> None:
        self.contract, self.partition, self.wallets, self.tell = contract, partition, wallets, tell
        self._came_frame = frame(contract.transaction_schema_id)
        self.frame = frame(contract.entry_schema_id)
        #: The recorded_at of the newest entry before the stretch; as entries never go back, none is before the year 1.
        self.recorded_ms = max(wallets.newest_ms, FIRST_MS)

    def judge(self, inputs: Inputs, found: list[Source], sources: list[int], missing: Longs) -> Judged:
        """Compare the entries of a stretch, by source, with the input; `missing` are places without an outcome."""
        places, there = inputs.places(sources)
        came = [inputs.records[place] for place in places.tolist()]
        values = [record[3] or b"" for record in found]
        columns = entries(values)
        wallet = self.wallets.numbers([record[2] or b"" for record in found])
        times = np.maximum.accumulate(np.concatenate([[self.recorded_ms], inputs.times[places]]))[1:]
        good = self._faithful(columns, values, found, came, wallet) & there
        good &= (columns.source == np.array(sources, np.int64)) & (columns.partition == self.partition)
        good &= (columns.recorded_ms == times) & (columns.recorded_ms == _times(found))
        before = previous(wallet)
        good &= self._adds_up(columns, wallet, before)
        links = [value[-HASH_BYTES:] for value in values]
        good &= self._chained(values, links, wallet, before)
        certified = Certified(
            wallet,
            columns.transaction.currency,
            columns.balance,
            columns.sequence,
            columns.recorded_ms,
            columns.source,
            links,
            before,
        )
        suspected = self._suspected(wallet)
        if good.all() and not len(missing) and not suspected.any():
            made = id_events(columns, values, certified)
            self._move_on(times)
            return Judged(certified, made, values, columns, np.array([one[0] for one in found], np.int64))
        judged = _Explained(self, inputs, found, places, there, good, suspected, missing).judge(certified)
        self._move_on(judged.certified.recorded_ms)
        return judged

    def _move_on(self, times: Longs) -> None:
        if len(times):
            self.recorded_ms = int(times[-1])

    def _suspected(self, wallet: Longs) -> Flags:
        suspects = self.wallets.suspects
        return np.isin(wallet, [*suspects]) if suspects else np.zeros(len(wallet), np.bool_)

    def _faithful(
        self,
        columns: Entries,
        values: list[bytes],
        found: list[Source],
        came: list[Source],
        wallet: Longs,
    ) -> Flags:
        """Whether each begins with the input's own bytes, under its key, and nothing forbids to accept them."""
        ours, frames = self._came_frame, self.frame
        tails, places = columns.transaction.tail.tolist(), columns.transaction.wallet_at.tolist()
        same = [
            value[:FRAME_BYTES] == frames
            and ours + value[FRAME_BYTES:tail] == its[3]
            and its[2] == one[2] is not None
            and value.startswith(one[2], place)
            and not one[4]
            for value, tail, place, one, its in zip(values, tails, places, found, came, strict=True)
        ]
        for row in np.flatnonzero(columns.usual & ~np.array(same, np.bool_)).tolist():
            same[row] = self._is_canonical_form(found[row], came[row], tails[row])
        good = np.array(same, np.bool_) & columns.usual & self.wallets.at_home[wallet]
        good &= columns.transaction.wallet_bytes == [len(one[2] or b"") for one in found]
        too_large = [fold.is_too_large(self.contract, its) for its in came]
        return good & ~np.array(too_large, np.bool_)

    def _is_canonical_form(self, one: Source, its: Source, tail: int) -> bool:
        """Whether an entry begins with the canonical form of what the input says in other bytes."""
        value = one.value or b""
        if its.key != one.key or one.headers or value[:FRAME_BYTES] != self.frame:
            return False
        what = fold.read(self.contract, self.partition, its)
        return isinstance(what, Transaction) and avro.write_transaction(what) == value[FRAME_BYTES:tail]

    def _adds_up(self, columns: Entries, wallet: Longs, before: Longs) -> Flags:
        """Sequence one more than before, balance before plus or minus the amount, in 64 bits, within the policy."""
        wallets, first, signed = self.wallets, before < 0, columns.transaction.signed
        balance = np.where(first, wallets.balance[wallet], columns.balance[before])
        sequence = np.where(first, wallets.sequence[wallet], columns.sequence[before])
        currency = np.where(first, wallets.currency[wallet], columns.transaction.currency[before])
        after = balance + signed
        good: Flags = (columns.sequence == sequence + 1) & (columns.balance == after)
        good &= ((balance ^ after) & (signed ^ after)) >= 0
        good &= (currency == columns.transaction.currency) | (sequence == 0)
        if not self.contract.overdraft_allowed:
            good &= ~columns.transaction.debit | (after >= 0)
        return good

    def _chained(self, values: list[bytes], links: list[bytes], wallet: Longs, before: Longs) -> Flags:
        """Whether each hash follows from the previous one and the bytes."""
        newest = self.wallets.links
        right: Flags = np.array(
            [
                sha256((links[at] if at >= 0 else newest[number]) + value[FRAME_BYTES:-HASH_BYTES]).digest()
                == link
                for value, link, at, number in zip(
                    values, links, before.tolist(), wallet.tolist(), strict=True
                )
            ],
            np.bool_,
        )
        return right


def id_events(columns: Entries, values: list[bytes], certified: Certified) -> Events:
    """What entries say of their ids."""
    of = columns.transaction
    digests = [
        content_of(value[FRAME_BYTES:tail], in_order)
        for value, tail, in_order in zip(values, of.tail.tolist(), of.in_order.tolist(), strict=True)
    ]
    return events(
        certified.wallet,
        ENTRY,
        of.id_high,
        of.id_low,
        certified.source,
        certified.recorded_ms,
        contents(digests),
        certified.sequence,
    )


def content_of(body: bytes, in_order: bool) -> bytes:
    """16 bytes that two transactions share if they say the same, the order of their metadata aside."""
    if not in_order:
        body = avro.write_transaction(fold.content(avro.read_transaction(body)))
    return blake2b(body, digest_size=16).digest()


def id_and_content(transaction: Transaction) -> tuple[int, bytes]:
    """The id of a transaction that was read slowly, as a number, and its content as `content_of` has it."""
    body = avro.write_transaction(fold.content(transaction))
    return UUID(transaction.transaction_id).int, content_of(body, in_order=True)


def contents(digests: list[bytes]) -> Words:
    """Such digests as events hold them."""
    return np.frombuffer(b"".join(digests), np.uint64).reshape(-1, 2)


def _times(found: Sequence[Source]) -> Longs:
    return np.array([record[1] for record in found], np.int64)


class _Row(NamedTuple):
    """An entry as it must be, made by the slow fold; `offset` is its place in the topic, -1 where it is missing."""

    wallet: int
    balance: Balance
    value: bytes
    offset: int


class _Maybe(NamedTuple):
    """What may be a wallet's newest balance, with the entries that are missing then."""

    balance: Balance | None
    rows: tuple[_Row, ...]


def _check_of(wanted: Source, found: Source) -> str:
    """Which check an entry fails that is not what it must be."""
    must, is_now = wanted.value or b"", found.value or b""
    try:
        right, there = avro.read_entry(must[FRAME_BYTES:]), avro.read_entry(is_now[FRAME_BYTES:])
    except avro.Undecodable:
        return "fidelity"
    if (wanted.key, must[:FRAME_BYTES], right.transaction) != (
        found.key,
        is_now[:FRAME_BYTES],
        there.transaction,
    ):
        return "fidelity"
    if found.headers or found.timestamp_ms != there.recorded_ms:
        return "fidelity" if right.recorded_ms == there.recorded_ms else "arithmetic"
    return "arithmetic" if right[1:6] != there[1:6] else "chain"


def _balance_of(found: Source) -> Balance | None:
    """The balance that an entry says, None where it says none."""
    try:
        entry = avro.read_entry((found.value or b"")[FRAME_BYTES:])
    except avro.Undecodable:
        return None
    return Balance(
        entry.transaction.wallet_id, entry.transaction.currency, entry.balance, entry.sequence, *entry[3:]
    )


class _Explained:
    """One stretch in which something is wrong, judged wallet by wallet where it is."""

    def __init__(
        self,
        certifier: Certifier,
        inputs: Inputs,
        found: list[Source],
        places: Longs,
        there: Flags,
        good: Flags,
        suspected: Flags,
        missing: Longs,
    ) -> None:
        self._by = certifier
        self._contract, self._wallets, self._partition = (
            certifier.contract,
            certifier.wallets,
            certifier.partition,
        )
        self._inputs, self._found, self._good = inputs, found, good
        #: What the input says at a place of it: a transaction, or why there is none.
        self._read: dict[int, Transaction | Reason] = {}
        self._entry_at: dict[int, int] = {
            place: row
            for row, (place, is_there) in enumerate(zip(places.tolist(), there.tolist(), strict=True))
            if is_there
        }
        self._entry_places = np.array(sorted(self._entry_at), np.int64)
        times = inputs.times[self._entry_places] if len(self._entry_at) else np.zeros(0, np.int64)
        self._entry_times: Longs = np.maximum(np.maximum.accumulate(times), certifier.recorded_ms)
        self._missing = {*missing.tolist()}
        self._suspected = suspected

    def judge(self, certified: Certified) -> Judged:
        """Every entry as it must be; those of wallets without a fault are taken as they are."""
        wrong = self._wallets_in_question(certified.wallet)
        row_of = {row: place for place, row in self._entry_at.items()}
        keep = np.array(
            [row in row_of and number not in wrong for row, number in enumerate(certified.wallet.tolist())],
            np.bool_,
        )
        rows = np.flatnonzero(keep)
        made = [row for number in sorted(wrong) for row in self._explain(number, wrong[number])]
        return self._together(certified, rows, made)

    def _wallets_in_question(self, wallet: Longs) -> dict[int, list[int]]:
        """Wallets by number, each with the places of the input that are about it."""
        doubtful = ~self._good | self._suspected
        wrong: dict[int, list[int]] = {number: [] for number in wallet[doubtful].tolist()}
        for place in (
            *self._missing,
            *(place for place, row in self._entry_at.items() if not self._good[row]),
        ):
            if (number := self._wallet_of(place)) >= 0:
                wrong.setdefault(number, [])
        rows = wallet.tolist()
        for place in sorted({*self._entry_at, *self._missing}):
            row = self._entry_at.get(place, -1)
            number = rows[row] if row >= 0 and self._good[row] else self._wallet_of(place)
            if number in wrong:
                wrong[number].append(place)
            elif number < 0 and row >= 0:
                self._refuse_unread(row, self._what(place))
        return wrong

    def _what(self, place: int) -> Transaction | Reason:
        if place not in self._read:
            self._read[place] = fold.read(self._contract, self._partition, self._inputs.records[place])
        return self._read[place]

    def _wallet_of(self, place: int) -> int:
        """The number of the wallet that the input is about at a place, -1 where it is about none."""
        what = self._what(place)
        if isinstance(what, Reason):
            return -1
        return int(self._wallets.numbers([what.wallet_id.encode()])[0])

    def _explain(self, number: int, places: list[int]) -> list[_Row]:
        """Everything one wallet did: compare each entry with the possible newest balances of its wallet.

        A transaction without an outcome may have been posted or rejected as a duplicate: later entries show which.
        """
        made: list[_Row] = []
        known = self._wallets.suspects.pop(number, None) or [self._wallets.get(number)]
        maybe = [_Maybe(balance, ()) for balance in known]
        for place in places:
            what = self._what(place)
            row = self._entry_at.get(place, -1)
            if isinstance(what, Reason):
                self._refuse(row, what)
                continue
            record = self._inputs.records[place]
            recorded_ms = max(record.timestamp_ms, self._newest_ms(place))
            outcomes = [
                fold.post(self._contract, one.balance, what, self._partition, record.offset, recorded_ms)
                for one in maybe
            ]
            if row < 0:
                posted = [
                    _Maybe(outcome.balance, (*one.rows, self._row(number, outcome, -1)))
                    for one, outcome in zip(maybe, outcomes, strict=True)
                    if isinstance(outcome, Posted)
                ]
                # The first is that all were posted, the last that none was.
                maybe = [*posted, *maybe]
                maybe = maybe if len(maybe) <= MOST_GUESSES else [*maybe[: MOST_GUESSES - 1], maybe[-1]]
                continue
            at, wrong = self._compare(row, what, outcomes, recorded_ms)
            made += maybe[at].rows
            outcome = outcomes[at]
            kept = outcome.balance if isinstance(outcome, Posted) else maybe[at].balance
            if isinstance(outcome, Posted):
                made.append(self._row(number, outcome, self._found[row].offset))
            maybe = [_Maybe(kept, ())]
            if wrong is not None:
                maybe.append(_Maybe(wrong, ()))
        if len(maybe) > 1:
            self._wallets.suspects[number] = [one.balance for one in maybe[:4]]
        return made

    def _row(self, number: int, posted: Posted, offset: int) -> _Row:
        return _Row(number, posted.balance, self._by.frame + posted.body, offset)

    def _newest_ms(self, place: int) -> int:
        """The recorded_at of the newest entry before a place of the input."""
        at = int(np.searchsorted(self._entry_places, place))
        return int(self._entry_times[at - 1]) if at else self._by.recorded_ms

    def _compare(
        self, row: int, what: Transaction, outcomes: list[Posted | Reason], recorded_ms: int
    ) -> tuple[int, Balance | None]:
        """Which outcome an entry matches, the first if none: reports what is wrong, and returns its balance, too."""
        one, key = self._found[row], what.wallet_id.encode()
        for at, outcome in enumerate(outcomes):
            if isinstance(outcome, Posted):
                value = self._by.frame + outcome.body
                if (one.key, one.value, one.timestamp_ms) == (key, value, recorded_ms) and not one.headers:
                    return at, None
        first = outcomes[0]
        if isinstance(first, Reason):
            self._refuse(row, first)
        else:
            wanted = Source(one.offset, recorded_ms, key, self._by.frame + first.body, ())
            self._by.tell(_check_of(wanted, one), "altered", one, wanted)
        return 0, _balance_of(one)

    def _refuse_unread(self, row: int, what: Transaction | Reason) -> None:
        if isinstance(what, Reason):
            self._refuse(row, what)

    def _refuse(self, row: int, why: Reason) -> None:
        if row >= 0:
            self._by.tell("refusals", "extra", self._found[row], None, f"it had to be rejected: {why}")

    def _together(self, certified: Certified, rows: Longs, made: list[_Row]) -> Judged:
        """Both kinds of rows, by source."""
        more = np.array([one.balance.source_offset for one in made], np.int64)
        source = np.concatenate([certified.source[rows], more])
        order = np.argsort(source, kind="stable")

        def joined(column: Any, more: list[int]) -> Any:
            return np.concatenate([column[rows], np.array(more, column.dtype)])[order]

        def listed(some: list[bytes], more: list[bytes]) -> list[bytes]:
            both = [some[row] for row in rows.tolist()] + more
            return [both[at] for at in order.tolist()]

        wallet = joined(certified.wallet, [one.wallet for one in made])
        whole = Certified(
            wallet,
            joined(certified.currency, [currency_code(one.balance.currency) for one in made]),
            joined(certified.balance, [one.balance.balance for one in made]),
            joined(certified.sequence, [one.balance.sequence for one in made]),
            joined(certified.recorded_ms, [one.balance.recorded_ms for one in made]),
            source[order],
            listed(certified.links, [one.balance.hash for one in made]),
            previous(wallet),
        )
        values = listed([record.value or b"" for record in self._found], [one.value for one in made])
        columns = entries(values)
        offsets = joined(
            np.array([one.offset for one in self._found], np.int64), [one.offset for one in made]
        )
        return Judged(whole, id_events(columns, values, whole), values, columns, offsets)
