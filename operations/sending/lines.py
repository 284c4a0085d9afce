"""Turn rows of files into transactions, or say what is wrong with them."""

from typing import Literal

from config.times import rfc3339
from operations.sending.files.shape import BadLine, Fields, Shape
from operations.sending.files.values import kind_of, text_of, time_of, whole_of
from schemas import producer
from schemas.producer import InvalidTransaction
from schemas.records import TYPES, Transaction, from_us

TRANSACTION = Shape(
    ("transaction_id", "wallet_id", "type", "amount", "currency", "occurred_at"), ("group_id",), metadata=True
)


def to_transaction(fields: Fields) -> Transaction:
    """A transaction from the fields of a row; raises BadLine with the first problem."""
    TRANSACTION.require(fields)
    group = fields.get("group_id")
    try:
        return producer.transaction(
            transaction_id=text_of(fields, "transaction_id"),
            wallet_id=text_of(fields, "wallet_id"),
            type=_kind(fields),
            amount=_amount(fields),
            currency=text_of(fields, "currency"),
            occurred_at=time_of(fields, "occurred_at"),
            group_id=None if group is None else text_of(fields, "group_id"),
            metadata=_metadata(fields),
        )
    except InvalidTransaction as error:
        raise BadLine(str(error)) from None


def to_json(transaction: Transaction) -> Fields:
    """The fields of a line for a transaction; absent ones are left out."""
    fields: Fields = {
        "transaction_id": transaction.transaction_id,
        "wallet_id": transaction.wallet_id,
        "type": TYPES[transaction.type],
        "amount": transaction.amount,
        "currency": transaction.currency,
        "occurred_at": rfc3339(from_us(transaction.occurred_us)),
    }
    if transaction.group_id is not None:
        fields["group_id"] = transaction.group_id
    if transaction.metadata:
        fields["metadata"] = dict(transaction.metadata)
    return fields


def _kind(fields: Fields) -> Literal["CREDIT", "DEBIT"]:
    match text_of(fields, "type"):
        case "CREDIT":
            return "CREDIT"
        case "DEBIT":
            return "DEBIT"
        case other:
            raise BadLine(f"type {other[:20]!r} is neither CREDIT nor DEBIT")


def _amount(fields: Fields) -> int:
    amount = whole_of(fields, "amount")
    if amount < 0 or str(fields["amount"]).startswith("+"):
        raise BadLine(
            f"amount {amount:+} has a sign, but type already gives the direction: leave the sign out, or use --map "
            "to read it"
        )
    return amount


def _metadata(fields: Fields) -> dict[str, str]:
    metadata = fields.get("metadata")
    if metadata is None:
        return {}
    if not isinstance(metadata, dict):
        raise BadLine(f"metadata is {kind_of(metadata)}, not an object of strings")
    for key, value in metadata.items():
        if not isinstance(value, str):
            raise BadLine(f"metadata.{key[:40]} is {kind_of(value)}, not a string")
    return metadata
