"""Lines of an import: transactions with their own dates, or opening balances, each read or with what is wrong.

Unlike in `wallet send`, a line is also bad if its recorded_at is in the future or before that of an earlier line: a
record out of order would silently get the time of the one before it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import NAMESPACE_URL, uuid5

from config.settings import Settings
from config.times import rfc3339
from operations.sending.files.file import File
from operations.sending.files.shape import BadLine, Fields, Shape
from operations.sending.files.temporary import Seen, Spool
from operations.sending.files.values import moment_of, text_of, whole_of
from operations.sending.lines import TRANSACTION, to_transaction
from schemas import producer
from schemas.codec import encode_transaction
from schemas.producer import InvalidTransaction
from schemas.records import EPOCH, Transaction, from_ms

RECORDED_AT = "recorded_at"
RECORDED = Shape((*TRANSACTION.required, RECORDED_AT), TRANSACTION.optional, metadata=True)
#: Bytes that the wire format and schema id add to a body.
FRAME_BYTES = 5
#: Earlier times are refused unless asked for: seconds taken for milliseconds would be in January 1970.
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
#: Stand for recorded_at on a kept line without a transaction, and on a bad line.
_NOTHING, _BAD = 0, -1
OPENING = Shape(("wallet_id", "currency", "balance", "at"))
#: Namespace of the ids of opening balances, which are made from the prefix, the wallet and the time.
_NAMESPACE = uuid5(NAMESPACE_URL, "urn:wallet-ledger:opening-balance")


class Dated(NamedTuple):
    """A transaction as it will be in Kafka: the key, the Avro body, and the record's timestamp."""

    key: bytes
    body: bytes
    recorded_ms: int


#: The result of a line: None if there is nothing to send, a text if something is wrong.
Read = Dated | str | None


def keep(spool: Spool, read: Read) -> None:
    """Keep a line until it is sent; of a bad one, only that it existed."""
    if isinstance(read, Dated):
        spool.add(read.recorded_ms, read.key, read.body)
    else:
        spool.add(_NOTHING if read is None else _BAD, b"", b"")


def kept(spool: Spool) -> Iterator[Read]:
    """The kept lines, from the first."""
    for number, key, body in spool.lines():
        if number > 0:
            yield Dated(key, body, number)
        else:
            yield None if number == _NOTHING else "told before"


class Line(NamedTuple):
    """One row of one file, and its number there."""

    file: File
    number: int
    read: Read

    def __str__(self) -> str:
        return f"{self.file.path}: line {self.number}"


#: Makes of a row a transaction and when it was recorded; None for a row that needs none. Raises BadLine.
Meaning = Callable[[Fields], tuple[Transaction, datetime] | None]


@dataclass(frozen=True)
class Part:
    """A file and how its rows become transactions."""

    file: File
    meaning: Meaning


def recorded_transaction(fields: Fields) -> tuple[Transaction, datetime]:
    """A line as in `wallet send`, with a recorded_at."""
    RECORDED.require(fields)
    rest = {name: value for name, value in fields.items() if name != RECORDED_AT}
    return to_transaction(rest), moment_of(fields, RECORDED_AT)


class Reader:
    """Reads the parts in order, each line once; `newest_ms` is the newest recorded_at so far.

    A recorded_at after `ends_ms`, the present, or before `earliest` is refused.
    """

    def __init__(
        self, parts: Sequence[Part], max_record_bytes: int, ends_ms: int, earliest: datetime = EARLIEST
    ) -> None:
        self._parts = parts
        self._max_record_bytes = max_record_bytes
        self._ends_ms = ends_ms
        self._earliest = earliest
        self.newest_ms = 0

    def lines(self) -> Iterator[Line]:
        """Every line that is not empty. The same files and `ends_ms` give the same lines."""
        for part in self._parts:
            for number, row in part.file.rows():
                yield Line(part.file, number, self._read(part.meaning, row))

    def _read(self, meaning: Meaning, row: Fields | str) -> Read:
        if isinstance(row, str):
            return row
        try:
            meant = meaning(row)
            return meant and self._dated(*meant)
        except BadLine as bad:
            return str(bad)

    def _dated(self, transaction: Transaction, recorded_at: datetime) -> Dated:
        not_before(self._earliest, recorded_at, RECORDED_AT)
        recorded_ms = (recorded_at - EPOCH) // _MS
        if recorded_ms > self._ends_ms:
            raise BadLine(f"it was recorded at {iso(recorded_ms)}, which is in the future")
        if recorded_ms < self.newest_ms:
            raise BadLine(
                f"it was recorded at {iso(recorded_ms)}, before {iso(self.newest_ms)} of an earlier line: "
                "sort by recorded_at"
            )
        key, body = transaction.wallet_id.encode(), encode_transaction(transaction)
        if (size := len(key) + FRAME_BYTES + len(body)) > self._max_record_bytes:
            raise BadLine(
                f"it has {size} bytes with its key, more than the limit of {self._max_record_bytes}"
            )
        self.newest_ms = recorded_ms
        return Dated(key, body, recorded_ms)


def not_before(earliest: datetime, at: datetime, name: str) -> None:
    """Raise BadLine for a time that is too early to be intended."""
    if at < earliest:
        raise BadLine(
            f"{name} {rfc3339(at)} is before {earliest.date()}: is it in seconds? Write milliseconds or ISO 8601; "
            "if it is right, add --earliest DATE"
        )


def iso(at_ms: int) -> str:
    """A time in milliseconds since 1970, formatted for people."""
    return rfc3339(from_ms(at_ms))


class Opening:
    """Turns rows of opening balances into transactions: what a wallet held before the first line of its history.

    Remembers wallets on disk to refuse a second one.
    """

    def __init__(self, settings: Settings) -> None:
        self._prefix = settings.prefix
        self._overdraft = settings.overdraft
        #: Balances of zero, which need no transaction.
        self.zeros = 0
        self._seen = Seen()

    def __call__(self, fields: Fields) -> tuple[Transaction, datetime] | None:
        """A CREDIT or a DEBIT by the balance's sign, None for zero. Raises BadLine."""
        OPENING.require(fields)
        wallet_id, balance = text_of(fields, "wallet_id"), whole_of(fields, "balance")
        at = moment_of(fields, "at")
        if balance < 0 and self._overdraft == "reject":
            raise BadLine(f"balance {balance} is below zero, but this pipeline rejects overdrafts")
        try:
            transaction = self._transaction(wallet_id, text_of(fields, "currency"), balance, at)
            already = self._seen.times(wallet_id) > 1
        except UnicodeEncodeError:
            raise BadLine("wallet_id is not UTF-8") from None
        if already:
            raise BadLine(f"wallet {wallet_id!r} already has an opening balance")
        if transaction is None:
            self.zeros += 1
            return None
        return transaction, at

    def close(self) -> None:
        """Forget the wallets."""
        self._seen.close()

    def _transaction(self, wallet_id: str, currency: str, balance: int, at: datetime) -> Transaction | None:
        if balance == 0:
            return None
        as_of = at.astimezone(UTC).isoformat().replace("+00:00", "Z")
        try:
            return producer.transaction(
                transaction_id=str(uuid5(_NAMESPACE, f"{self._prefix}\0{wallet_id}\0{as_of}")),
                wallet_id=wallet_id,
                type="CREDIT" if balance > 0 else "DEBIT",
                amount=abs(balance),
                currency=currency,
                occurred_at=at,
                metadata={"opening_balance": str(balance), "as_of": as_of},
            )
        except InvalidTransaction as error:
            raise BadLine(str(error)) from None
