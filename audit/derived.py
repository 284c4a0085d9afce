"""Check that snapshots and newest balances follow from the certified entries, and that there are no others."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from audit import avro
from audit.certify import Certified, Tell, previous
from audit.columns import HASH_BYTES, Flags, Longs, Words, balances
from audit.contract import DAY_MS, FRAME_BYTES, INTERVAL, PERIOD, Balance, Contract, frame
from audit.lanes import Reads
from audit.matching import Matching
from audit.wallets import Wallets, balance_at
from topics.source import Source

CHUNK = 20_000
#: Records of which entries are remembered: a worker writes the balances of a batch in any order.
REMEMBERED = 100_000
#: Most balances that wait because their source was not reached yet.
AHEAD = 1_000
#: From this length on a length takes two bytes.
TWO_BYTES = 64


class Rows(NamedTuple):
    """Balances that must be somewhere; `reason` of snapshots only."""

    wallet: Longs
    currency: Words
    balance: Longs
    sequence: Longs
    recorded_ms: Longs
    source: Longs
    links: list[bytes]
    reason: Longs

    def record(
        self, row: int, contract: Contract, partition: int, wallets: Wallets, *, snapshot: bool
    ) -> Source:
        """One of them as its topic must have it."""
        name = wallets.names[int(self.wallet[row])]
        body = avro.write_balance(balance_at(self, row, name.decode(errors="replace"), partition))
        if snapshot:
            body = frame(contract.snapshot_schema_id) + body + avro.long(int(self.reason[row]))
        else:
            body = frame(contract.balance_schema_id) + body
        return Source(-1, int(self.recorded_ms[row]), name, body, ())


def _columns(rows: Rows) -> list[Any]:
    return [*rows]


def due(certified: Certified, wallets: Wallets, every: int) -> Rows:
    """The snapshots that the entries of a stretch cause, in their order; `wallets` are as of its begin."""
    first, wallet = certified.before < 0, certified.wallet
    sequence = np.where(first, wallets.sequence[wallet], certified.sequence[certified.before])
    recorded = np.where(first, wallets.recorded_ms[wallet], certified.recorded_ms[certified.before])
    later_day = certified.recorded_ms // DAY_MS > recorded // DAY_MS
    closes = np.flatnonzero((sequence > 0) & later_day & (sequence % every != 0))
    nth = np.flatnonzero(certified.sequence % every == 0)
    #: Of each the row that it brings forward; the one before the stretch of a wallet's first row there is -1.
    rows = np.concatenate([certified.before[closes], nth])
    caused = np.concatenate([closes * 2, nth * 2 + 1])
    order = np.argsort(caused, kind="stable")
    rows, caused = rows[order], caused[order]
    number, carried = wallet[caused // 2], rows < 0
    links = [
        wallets.links[one] if row < 0 else certified.links[row]
        for row, one in zip(rows.tolist(), number.tolist(), strict=True)
    ]
    return Rows(
        number,
        certified.currency[caused // 2],
        np.where(carried, wallets.balance[number], certified.balance[rows]),
        np.where(carried, wallets.sequence[number], certified.sequence[rows]),
        np.where(carried, wallets.recorded_ms[number], certified.recorded_ms[rows]),
        np.where(carried, wallets.source[number], certified.source[rows]),
        links,
        np.where(caused % 2 == 1, INTERVAL, PERIOD),
    )


_NONE: Any = np.zeros(0, np.int64)
NO_ROWS = Rows(_NONE, _NONE.astype(np.uint64), _NONE, _NONE, _NONE, _NONE, [], _NONE)


class _Found(NamedTuple):
    """Records as the columns that they hold; `good` are those that are written as they must be."""

    good: Flags
    rows: Rows


def _found(
    records: list[Source], wallets: Wallets, partition: int, frames: bytes, *, snapshots: bool
) -> _Found:
    values = [record.value or b"" for record in records]
    columns = balances(values, snapshots=snapshots)
    keys = [record.key or b"" for record in records]
    end = -1 if snapshots else None
    links = [value[:end][-HASH_BYTES:] for value in values]
    written = [
        value.startswith(frames)
        and value.startswith(key, FRAME_BYTES + (1 if len(key) < TWO_BYTES else 2))
        and not record.headers
        for value, key, record in zip(values, keys, records, strict=True)
    ]
    good = np.array(written, np.bool_) & columns.usual & (columns.partition == partition)
    good &= columns.wallet_bytes == np.array([len(key) for key in keys], np.int64)
    good &= columns.recorded_ms == np.array([record.timestamp_ms for record in records], np.int64)
    numbers = np.array([wallets.number(key) for key in keys], np.int64)
    reason = (
        np.zeros(len(records), np.int64) if columns.reason is None else columns.reason.astype(np.int64) // 2
    )
    rows = Rows(
        numbers,
        columns.currency,
        columns.balance,
        columns.sequence,
        columns.recorded_ms,
        columns.source,
        links,
        reason,
    )
    return _Found(good & (numbers >= 0), rows)


def _equal(found: Rows, wanted: Rows, at: Longs | slice) -> Flags:
    """Which found rows are the wanted ones at these places."""
    good: Flags = np.ones(len(found.wallet), np.bool_)
    for name in ("wallet", "currency", "balance", "sequence", "recorded_ms", "source", "reason"):
        good &= getattr(found, name) == getattr(wanted, name)[at]
    return good


class SnapshotLane:
    """One partition of `snapshots`; one that starts late has lost its first records to a finite retention."""

    def __init__(
        self,
        contract: Contract,
        partition: int,
        wallets: Wallets,
        reads: Reads,
        tell: Tell,
        *,
        starts_late: bool,
    ) -> None:
        self._contract, self._partition, self._wallets, self._reads = contract, partition, wallets, reads
        self._frame = frame(contract.snapshot_schema_id)
        self._matching = Matching(_snapshot_identity, tell)
        self._starts_late = starts_late
        #: How many were deleted before the first one.
        self.not_kept = 0
        self._records: list[Source] = []
        self._ended = False

    def compare(self, wanted: Rows) -> list[Source]:
        """Compare the next records with the due ones; returns those, with offsets if all are right.

        They include records that retention has deleted.
        """
        deleted: list[Source] = []
        if self._starts_late:
            wanted, deleted = self._kept_of(wanted)
        count = max(0, len(wanted.wallet) + self._matching.behind)
        while len(self._records) < count and not self._ended:
            self._read()
        taken, self._records = self._records[:count], self._records[count:]
        if self._matching.is_settled and len(taken) == count and self._are(taken, wanted):
            return [*deleted, *taken]
        records = self._records_of(wanted, len(wanted.wallet))
        self._matching.match(records, taken)
        return [*deleted, *records]

    def _records_of(self, wanted: Rows, count: int) -> list[Source]:
        """The first of these as the topic must have them."""
        return [
            wanted.record(row, self._contract, self._partition, self._wallets, snapshot=True)
            for row in range(count)
        ]

    def _kept_of(self, wanted: Rows) -> tuple[Rows, list[Source]]:
        """Those that are due from the first one on that was kept, and those before it."""
        while not self._records and not self._ended:
            self._read()
        kept = len(wanted.wallet)
        if self._records and (first := _snapshot_identity(self._records[0])) is not None:
            wallet, sequence, reason = first
            same = (wanted.wallet == self._wallets.number(wallet.encode())) & (wanted.sequence == sequence)
            found = np.flatnonzero(same & (wanted.reason == reason))
            if len(found):
                kept, self._starts_late = int(found[0]), False
        self.not_kept += kept
        return Rows(*[column[kept:] for column in _columns(wanted)]), self._records_of(wanted, kept)

    def finish(self, in_flight: Callable[[Source], bool]) -> int | None:
        """Read to the end: what is left is extra unless in flight; returns the offset of the first one in flight."""
        while not self._ended:
            self._read()
        self._matching.match([], self._records)
        self._records = []
        return self._matching.finish(in_flight)

    def _are(self, taken: list[Source], wanted: Rows) -> bool:
        if not taken:
            return True
        found = _found(taken, self._wallets, self._partition, self._frame, snapshots=True)
        same = bool((found.good & _equal(found.rows, wanted, slice(None))).all())
        return same and found.rows.links == wanted.links

    def _read(self) -> None:
        records = self._reads.next(CHUNK)
        self._ended = not records
        self._records += records


def _snapshot_identity(record: Source) -> tuple[str, int, int] | None:
    try:
        snapshot = avro.read_snapshot((record.value or b"")[FRAME_BYTES:])
    except avro.Undecodable:
        return None
    return snapshot.wallet_id, snapshot.sequence, snapshot.reason


class BalanceLane:
    """One partition of `balances`: each is the balance after some entry, and each wallet's newest is there, last."""

    def __init__(
        self, contract: Contract, partition: int, wallets: Wallets, reads: Reads, tell: Tell
    ) -> None:
        self._contract, self._partition, self._wallets = contract, partition, wallets
        self._reads, self._tell = reads, tell
        self._frame = frame(contract.balance_schema_id)
        self._recent: Rows | None = None
        self._ahead: list[Source] = []
        self._ended = False
        self._in_flight: set[int] = set()
        self._first_in_flight: int | None = None
        #: Records read so far.
        self.found = 0

    def compare(self, certified: Certified, reached: int) -> None:
        """Take over the entries of a stretch; the input is read up to the offset `reached`."""
        self._remember(certified)
        waiting, self._ahead = self._ahead, []
        self._look(waiting, reached, None)
        while not self._ended and len(self._ahead) < AHEAD:
            self._look(self._read(), reached, None)

    def finish(self, cut: int, input_end: int, newer: Callable[[], Iterable[Source]]) -> int | None:
        """Read to the end; returns the offset of the first record in flight, or None.

        `newer` reads what came after the end meanwhile: compaction removes a balance once there is a newer one.
        """
        waiting, self._ahead = self._ahead, []
        self._look(waiting, cut, input_end)
        while not self._ended:
            self._look(self._read(), cut, input_end)
        count = len(self._wallets)
        late = self._wallets.told[:count] != self._wallets.sequence[:count]
        missing = {number for number in np.flatnonzero(late).tolist() if number not in self._in_flight}
        for number in [*missing]:
            newest = int(self._wallets.told[number])
            if newest in {one.sequence for one in self._wallets.suspects.get(number, ()) if one}:
                missing.discard(number)
        if missing:
            missing -= {self._wallets.number(record.key or b"") for record in newer()}
        for number in sorted(missing):
            self._tell("derived", "missing", None, self._newest(number))
        return self._first_in_flight

    def _newest(self, number: int) -> Source | None:
        balance = self._wallets.get(number)
        if balance is None:
            return None
        body = frame(self._contract.balance_schema_id) + avro.write_balance(balance)
        return Source(-1, balance.recorded_ms, self._wallets.names[number], body, ())

    def _read(self) -> list[Source]:
        records = self._reads.next(CHUNK)
        self._ended = not records
        self.found += len(records)
        return records

    def _remember(self, certified: Certified) -> None:
        new = Rows(*certified[:-1], reason=np.zeros(len(certified.wallet), np.int64))
        if self._recent is None:
            self._recent = new
            return
        kept = slice(max(0, len(self._recent.wallet) - REMEMBERED), None)
        joined: list[Any] = [
            before[kept] + more if isinstance(before, list) else np.concatenate([before[kept], more])
            for before, more in zip(_columns(self._recent), _columns(new), strict=True)
        ]
        self._recent = Rows(*joined)

    def _look(self, records: list[Source], reached: int, input_end: int | None) -> None:
        """Judge balances whose source was reached; others wait, or at the end are in flight up to `input_end`."""
        if self._recent is None:
            self._recent = NO_ROWS
        found = _found(records, self._wallets, self._partition, self._frame, snapshots=False)
        rows, recent = found.rows, self._recent
        at = np.minimum(np.searchsorted(recent.source, rows.source), max(len(recent.source) - 1, 0))
        same = np.zeros(len(records), np.bool_)
        if len(recent.source):
            same = found.good & _equal(rows, recent, at)
            same &= np.array(
                [link == recent.links[place] for link, place in zip(rows.links, at.tolist(), strict=True)],
                np.bool_,
            )
        rising = self._rising(rows, same)
        waits = (
            found.good & (rows.source >= reached) if input_end is None else np.zeros(len(records), np.bool_)
        )
        self._ahead += [records[row] for row in np.flatnonzero(waits).tolist()]
        for row in np.flatnonzero(~(same & rising) & ~waits).tolist():
            record = records[row]
            if same[row]:
                self._tell("derived", "out of order", record)
            else:
                self._look_at(record, reached, input_end)

    def _rising(self, rows: Rows, same: Flags) -> Flags:
        """Which of the balances that are right are newer than the wallet's one before."""
        right = np.flatnonzero(same)
        wallet, sequence = rows.wallet[right], rows.sequence[right]
        before = previous(wallet)
        last = np.where(before < 0, self._wallets.told[wallet], sequence[before])
        rising = np.zeros(len(same), np.bool_)
        rising[right] = sequence > last
        np.maximum.at(self._wallets.told, wallet, sequence)
        return rising

    def _look_at(self, record: Source, reached: int, input_end: int | None) -> None:
        """Judge a record that is not the balance after a recent entry."""
        try:
            balance = avro.read_balance((record.value or b"")[FRAME_BYTES:])
        except avro.Undecodable:
            self._tell("derived", "extra", record)
            return
        number = self._wallets.number(balance.wallet_id.encode())
        if input_end is None and balance.source_offset >= reached:
            self._ahead.append(record)
        elif input_end is not None and reached <= balance.source_offset < input_end:
            self._in_flight.add(number)
            first = self._first_in_flight
            self._first_in_flight = record.offset if first is None else min(first, record.offset)
        elif balance in self._wallets.suspects.get(number, ()):
            self._wallets.told[number] = balance.sequence
        else:
            self._tell_other(record, balance, number)

    def _tell_other(self, record: Source, balance: Balance, number: int) -> None:
        recent = self._recent
        at = -1 if recent is None else int(np.searchsorted(recent.source, balance.source_offset))
        if recent is not None and at < len(recent.source) and recent.source[at] == balance.source_offset:
            wanted = recent.record(at, self._contract, self._partition, self._wallets, snapshot=False)
            owner = int(recent.wallet[at])
            self._wallets.told[owner] = max(int(self._wallets.told[owner]), int(recent.sequence[at]))
            self._tell("derived", "altered", record, wanted)
        else:
            self._tell("derived", "extra", record, self._newest(number) if number >= 0 else None)
