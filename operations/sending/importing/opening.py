"""Opening balances: what a wallet held before the first line of its history becomes its first transaction."""

from datetime import UTC, datetime
from uuid import NAMESPACE_URL, uuid5

from config.settings import Settings
from operations.sending.files.seen import Seen
from operations.sending.files.shape import BadLine, Fields, Shape
from operations.sending.files.values import moment_of, text_of, whole_of
from schemas import producer
from schemas.producer import InvalidTransaction
from schemas.records import Transaction

OPENING = Shape(("wallet_id", "currency", "balance", "at"))
#: Namespace of the ids of opening balances, which are made from the prefix, the wallet and the time.
_NAMESPACE = uuid5(NAMESPACE_URL, "urn:wallet-ledger:opening-balance")


class Opening:
    """Turns rows of opening balances into transactions; remembers wallets on disk to refuse a second one."""

    def __init__(self, settings: Settings) -> None:
        self._prefix = settings.prefix
        self._overdraft = settings.overdraft
        #: Balances of zero, which need no transaction.
        self.zeros = 0
        self._seen = Seen()

    def __call__(self, fields: Fields) -> tuple[Transaction, datetime] | None:
        """A CREDIT or a DEBIT by the balance's sign, None for zero. Raises BadLine."""
        OPENING.check(fields)
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
