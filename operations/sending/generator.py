"""Synthetic transactions: an endless, deterministic stream of records, good and bad, for a seed.

Pure: no clock, no I/O. `wallet generate`, the demo, the benchmarks and the tests use it.
"""

import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import NamedTuple

from schemas.codec import encode_transaction, frame
from schemas.partitioner import partition_of
from schemas.records import CREDIT, DEBIT, Reason, Transaction

Headers = list[tuple[str, bytes | None]]

#: The first record's occurred_at, 2026-01-01T00:00:00Z; each later record is a millisecond later.
FIRST_US = 1_767_225_600_000_000
CURRENCIES = ("EUR", "USD", "CHF", "JPY")
#: One in this many good records has a legal encoding that no library writes.
UNUSUAL_ONE_IN = 500
#: Duplicates and conflicts repeat one of this many newest good records.
REMEMBERED = 4_096
#: Relative frequency of each kind of bad record; too large ones are rare because they are expensive.
BAD_WEIGHTS = {
    Reason.TOO_LARGE: 1,
    Reason.UNDECODABLE: 12,
    Reason.INVALID: 12,
    Reason.MISROUTED: 12,
    Reason.CONFLICT: 12,
    Reason.CURRENCY_MISMATCH: 12,
    Reason.OVERFLOW: 12,
    Reason.INSUFFICIENT_FUNDS: 12,
}


@dataclass(frozen=True)
class Mix:
    """What the stream consists of. Shares are from 0 to 1; the share of transfers counts both legs."""

    wallets: int = 1_000
    skew: float = 0.8
    transfers: float = 0.2
    duplicates: float = 0.02
    bad: float = 0.0
    seed: int = 1
    partitions: int = 12
    schema_id: int = 1
    max_record_bytes: int = 262_144
    overdraft_rejected: bool = False


class ProducerRecord(NamedTuple):
    """One record to produce; `transaction` is what a line of JSON can hold of it, if that is all of it."""

    key: bytes | None
    value: bytes | None
    headers: Headers
    partition: int
    transaction: Transaction | None = None


def records(count: int, mix: Mix) -> Iterator[ProducerRecord]:
    """The first `count` records of this mix and seed."""
    return islice(_Stream(mix).endless(), count)


class _Stream:
    """The state of one stream: the wallets opened so far, and the newest records."""

    def __init__(self, mix: Mix) -> None:
        self._mix = mix
        self._dice = random.Random(mix.seed)  # noqa: S311 - it must repeat, not be secret
        self._frame = frame(mix.schema_id)
        self._weights = list(accumulate((rank + 1) ** -mix.skew for rank in range(mix.wallets)))
        self._wallets = range(mix.wallets)
        self._opened: set[int] = set()
        self._veterans: list[int] = []
        self._partitions: dict[str, int] = {}
        self._newest: list[ProducerRecord] = []
        self._sent = 0
        self._brim: str | None = None
        self._bad: list[Callable[[], ProducerRecord]] = []
        weights = BAD_WEIGHTS if mix.overdraft_rejected else BAD_WEIGHTS | {Reason.INSUFFICIENT_FUNDS: 0}
        for reason, weight in weights.items():
            self._bad += [getattr(self, f"_{reason.lower()}")] * weight

    def endless(self) -> Iterator[ProducerRecord]:
        """Records without end."""
        mix, dice = self._mix, self._dice
        while True:
            luck = dice.random()
            if luck < mix.bad and self._newest:
                yield dice.choice(self._bad)()
            elif luck < mix.bad + mix.duplicates and self._newest:
                yield dice.choice(self._newest)
            # A transfer yields two records, so draw it half as often as its share.
            elif mix.wallets > 1 and dice.random() < mix.transfers / (2 - mix.transfers):
                yield from self._transfer()
            else:
                yield self._single()

    def _single(self) -> ProducerRecord:
        number = self._wallet()
        kind = DEBIT if number in self._opened and self._dice.random() < 0.4 else CREDIT
        return self._good(number, self._transaction(number, kind, self._amount(kind)))

    def _transfer(self) -> Iterator[ProducerRecord]:
        """A debit and a credit of two wallets with the same currency, which share id and group."""
        payer = self._wallet()
        payee = (payer + len(CURRENCIES) * self._dice.randint(1, 1_000)) % self._mix.wallets
        if payer not in self._opened or payer == payee or _currency(payer) != _currency(payee):
            yield self._single()
            return
        debit = self._transaction(payer, DEBIT, self._amount(DEBIT))
        debit = debit._replace(group_id=f"transfer-{debit.transaction_id[:8]}")
        yield self._good(payer, debit)
        yield self._good(payee, debit._replace(wallet_id=_name(payee), type=CREDIT))

    def _good(self, number: int, transaction: Transaction) -> ProducerRecord:
        if number not in self._opened:
            self._opened.add(number)
            self._veterans.append(number)
        value = self._frame + encode_transaction(transaction)
        if transaction.metadata and self._sent % UNUSUAL_ONE_IN == 0:
            value = self._frame + unusual(transaction)
        record = self._record(transaction, value)
        if len(self._newest) < REMEMBERED:
            self._newest.append(record)
        else:
            self._newest[self._sent % REMEMBERED] = record
        return record

    def _wallet(self) -> int:
        return self._dice.choices(self._wallets, cum_weights=self._weights)[0]

    def _amount(self, kind: int) -> int:
        return self._dice.randint(1, 20_000 if kind == DEBIT else 50_000)

    def _transaction(self, number: int, kind: int, amount: int) -> Transaction:
        self._sent += 1
        metadata = (("channel", "app"),) if self._sent % 5 == 0 else ()
        return Transaction(
            self._id(),
            _name(number),
            kind,
            amount,
            _currency(number),
            FIRST_US + self._sent * 1_000,
            None,
            metadata,
        )

    def _id(self) -> str:
        digits = f"{self._dice.getrandbits(128):032x}"
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    def _record(self, transaction: Transaction, value: bytes | None = None) -> ProducerRecord:
        value = self._frame + encode_transaction(transaction) if value is None else value
        return ProducerRecord(
            transaction.wallet_id.encode(), value, [], self._partition(transaction.wallet_id), transaction
        )

    def _partition(self, wallet_id: str) -> int:
        known = self._partitions.get(wallet_id)
        if known is None:
            known = self._partitions[wallet_id] = partition_of(wallet_id.encode(), self._mix.partitions)
        return known

    # -- bad records, one method a reason

    def _victim(self) -> Transaction:
        """A new transaction of a wallet that already has entries."""
        return self._transaction(self._dice.choice(self._veterans), CREDIT, self._amount(CREDIT))

    def _bytes(
        self, transaction: Transaction, value: bytes | None, headers: Headers | None = None
    ) -> ProducerRecord:
        """A record that no JSON line can hold."""
        return self._record(transaction)._replace(value=value, headers=headers or [], transaction=None)

    def _too_large(self) -> ProducerRecord:
        victim = self._victim()
        padding = self._mix.max_record_bytes + 1
        if self._dice.random() < 0.5:
            return self._bytes(victim, self._record(victim).value, [("padding", bytes(padding))])
        return self._bytes(victim, bytes(padding))

    def _undecodable(self) -> ProducerRecord:
        victim = self._victim()
        return self._bytes(victim, self._dice.choice(_ILLEGAL)(self._frame + encode_transaction(victim)))

    def _invalid(self) -> ProducerRecord:
        victim = self._dice.choice(_BROKEN_RULES)(self._victim())
        return self._bytes(victim, self._frame + encode_transaction(victim))

    def _misrouted(self) -> ProducerRecord:
        record = self._record(self._victim())._replace(transaction=None)
        if self._mix.partitions > 1 and self._dice.random() < 0.5:
            return record._replace(partition=(record.partition + 1) % self._mix.partitions)
        return record._replace(key=self._dice.choice((None, b"", b"\xff", b"somebody-else")))

    def _conflict(self) -> ProducerRecord:
        before = self._dice.choice(self._newest).transaction
        return self._single() if before is None else self._record(before._replace(amount=before.amount + 1))

    def _currency_mismatch(self) -> ProducerRecord:
        return self._record(self._victim()._replace(currency="XXX"))

    def _overflow(self) -> ProducerRecord:
        """Uses separate wallets: the first record fills one up, every later one overflows it."""
        if self._brim is None:
            self._brim = f"brim-{self._dice.getrandbits(32):08x}"
            return self._record(
                self._victim()._replace(wallet_id=self._brim, amount=2**63 - 1, currency="EUR")
            )
        return self._record(self._victim()._replace(wallet_id=self._brim, currency="EUR"))

    def _insufficient_funds(self) -> ProducerRecord:
        return self._record(self._victim()._replace(type=DEBIT, amount=10**15))


def unusual(transaction: Transaction) -> bytes:
    """A legal Avro body that no library writes, for a transaction with 1 to 63 short metadata entries.

    The metadata is in a block with negative count, which is followed by the block's size in bytes; that size
    is a varint one byte longer than needed.
    """
    head = encode_transaction(transaction._replace(metadata=()))[:-1]
    pairs = encode_transaction(transaction)[len(head) + 1 : -1]
    size = 2 * len(pairs)
    return head + bytes([2 * len(transaction.metadata) - 1, 0x80 | (size & 0x7F), size >> 7]) + pairs + b"\0"


def _name(number: int) -> str:
    return f"wallet-{number:06d}"


def _currency(number: int) -> str:
    return CURRENCIES[number % len(CURRENCIES)]


#: Ways to make a framed transaction UNDECODABLE.
_ILLEGAL: tuple[Callable[[bytes], bytes | None], ...] = (
    lambda _: None,
    lambda _: b"",
    lambda value: value[:-1],
    lambda value: value + b"\0",
    lambda value: b"\1" + value[1:],
    lambda value: b"\0" + struct.pack(">I", 2**31 - 1) + value[5:],
    lambda value: value[:5] + b"\xff" * 10 + value[5:],
    lambda value: value[:6] + b"\xff\xfe" + value[8:],
    lambda value: value[:5] + b"\x01" + value[6:],
)

#: Ways to break one rule of the fields each.
_BROKEN_RULES: tuple[Callable[[Transaction], Transaction], ...] = (
    lambda good: good._replace(amount=0),
    lambda good: good._replace(amount=-good.amount),
    lambda good: good._replace(currency="eur"),
    lambda good: good._replace(currency="EURO"),
    lambda good: good._replace(transaction_id=good.transaction_id.replace("-", "_")),
    lambda good: good._replace(transaction_id="A" + good.transaction_id[1:]),
    lambda good: good._replace(wallet_id=""),
    lambda good: good._replace(wallet_id="w" * 129),
    lambda good: good._replace(occurred_us=253_402_300_800_000_000),
    lambda good: good._replace(group_id=""),
    lambda good: good._replace(metadata=(("nul", "a\0b"),)),
    lambda good: good._replace(metadata=(("twice", "1"), ("twice", "2"))),
)
