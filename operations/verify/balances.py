"""The changelog `balances` beside the fold.

A worker writes one Balance for every wallet that a batch touches, and the topic is compacted, so not every entry
has one. What is there must be the balance after some entry, and the newest one of each wallet must be there,
last. Balances are found by their hash, which is their entry's.
"""

from collections.abc import Iterable
from typing import NamedTuple

from operations.verify.cut import Cut
from operations.verify.fold import Entered
from operations.verify.kinds import BALANCES, Record, records_of
from operations.verify.reading import Reading
from operations.verify.report import Difference, Differences, What, differing
from schemas.avro import longs_in_python
from schemas.codec import HEADER_BYTES, decode_balance, encode_balance
from schemas.entries import HASH_BYTES
from schemas.records import Balance
from streams.batch import Past

CHUNK = 2_000
#: A worker's batch has up to 100,000 records, whose balances may come in any order: so many are remembered.
REMEMBERED = 100_000
#: Read ahead of the fold until so many wait.
AHEAD = 1_000


class Ahead(NamedTuple):
    """A balance that names a source which the fold has not reached."""

    source: int
    offset: int
    record: Record


class BalanceLane:
    """One partition's balances. Call `compare` with each batch of the fold, then `finish`."""

    def __init__(
        self, reading: Reading, cut: Cut, frame: bytes, past: Past, differences: Differences
    ) -> None:
        self._reading = reading
        self._cut = cut
        self._frame = frame
        self._past = past
        self._differences = differences
        self._recent: dict[bytes, Balance] = {}
        self._older: dict[bytes, Balance] = {}
        self._newest: dict[str, int] = {}
        self._missing: dict[str, Balance] = {}
        self._ahead: list[Ahead] = []
        self._in_flight: set[str] = set()
        self._first_in_flight: int | None = None
        #: Records found so far.
        self.found = 0

    def compare(self, entered: Iterable[Entered], folded: int) -> None:
        """Take over what the fold entered; it has reached the source offset `folded`."""
        self._recent.update((balance[7], balance) for balance, _ in entered)
        self._missing.update((balance[0], balance) for balance, _ in entered)
        if len(self._recent) > REMEMBERED:
            self._older, self._recent = self._recent, {}
            self._newest.clear()
        waiting, self._ahead = self._ahead, []
        for source, offset, record in waiting:
            if source >= folded:
                self._ahead.append(Ahead(source, offset, record))
            else:
                self._look(offset, record, folded)
        while len(self._ahead) < AHEAD and self._read(folded):
            pass

    def finish(self) -> int | None:
        """Read to the end; returns the offset of the first record in flight, None where there is none."""
        # What still waits names a source before the cut that entered nothing: the fold has been there.
        waiting, self._ahead = self._ahead, []
        for _, offset, record in waiting:
            self._look(offset, record, self._cut.source)
        while self._read(self._cut.source):
            pass
        for wallet_id in self._in_flight:
            self._missing.pop(wallet_id, None)
        if self._missing:
            self._forget_replaced()
        for balance in self._missing.values():
            fields = BALANCES.fields(self._expected(balance))
            self._tell("missing", None, balance, fields, None)
        return self._first_in_flight

    def _read(self, folded: int) -> bool:
        messages = self._reading.next(CHUNK)
        for message, record in zip(messages, records_of(messages), strict=True):
            self._look(message.offset() or 0, record, folded)
        self.found += len(messages)
        return bool(messages)

    def _look(self, offset: int, record: Record, folded: int) -> None:
        """Judge one balance, if the fold has come so far."""
        last_hash = (record[1] or b"")[-HASH_BYTES:]
        balance = self._recent.pop(last_hash, None) or self._older.pop(last_hash, None)
        if balance is None:
            self._look_for_reason(offset, record, folded)
            return
        wallet_id, _, _, sequence, *_ = balance
        if record != self._expected(balance):
            self._altered(offset, record, balance)
        elif self._newest.get(wallet_id, 0) >= sequence:
            self._tell("out of order", offset, balance, None, BALANCES.fields(record))
        self._newest[wallet_id] = sequence
        newest = self._missing.get(wallet_id)
        if newest is not None and newest[3] == sequence:
            del self._missing[wallet_id]

    def _look_for_reason(self, offset: int, record: Record, folded: int) -> None:
        """A balance after no entry that the fold has made of late: it is ahead, in flight, or not ours."""
        try:
            balance = decode_balance((record[1] or b"")[HEADER_BYTES:])
        except (ValueError, IndexError):
            self._tell("extra", offset, None, None, BALANCES.fields(record))
            return
        source = balance.source_offset
        if folded <= source < self._cut.source:
            self._ahead.append(Ahead(source, offset, record))
        elif self._cut.source <= source < self._cut.input.end:
            self._in_flight.add(balance.wallet_id)
            if self._first_in_flight is None:
                self._first_in_flight = offset
        else:
            wallet = balance.wallet_id.encode()
            newest = self._past.balances({wallet}).get(wallet)
            expected = BALANCES.fields(self._expected(newest)) if newest else None
            self._tell("extra", offset, balance, expected, BALANCES.fields(record))

    def _expected(self, balance: Balance) -> Record:
        return (balance[0].encode(), self._frame + encode_balance(balance, longs_in_python), balance[4], None)

    def _altered(self, offset: int, record: Record, balance: Balance) -> None:
        versions = differing(BALANCES.fields(self._expected(balance)), BALANCES.fields(record))
        self._tell("altered", offset, balance, *versions)

    def _forget_replaced(self) -> None:
        """Compaction removes a balance once there is a newer one, also while we read: look at what came since."""
        end = self._cut.ends[self._reading.topic]
        self._reading.start(self._cut.partition, end, self._reading.end_now(self._cut.partition))
        while messages := self._reading.next(CHUNK):
            for message in messages:
                self._missing.pop((message.key() or b"").decode(errors="replace"), None)

    def _tell(
        self,
        what: What,
        offset: int | None,
        balance: Balance | None,
        expected: dict[str, object] | None,
        found: dict[str, object] | None,
    ) -> None:
        self._differences.add(
            Difference(
                self._reading.topic,
                what,
                self._cut.partition,
                offset,
                source_offset=balance.source_offset if balance else None,
                wallet_id=balance.wallet_id if balance else None,
                sequence=balance.sequence if balance else None,
                expected=expected,
                found=found,
            )
        )
