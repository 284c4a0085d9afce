"""The rules of a Transaction beyond its schema, for the worker that decides and the producer that sends.

They are part of the contract (DESIGN section 4): a record that breaks one is rejected as INVALID.
"""

import re
from datetime import UTC, datetime, timedelta

from schemas.records import EPOCH, TYPES, Transaction

NAME_CHARACTERS = 128
AMOUNT_MAX = 2**63 - 1

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_CURRENCY = re.compile(r"[A-Z]{3}")

_MICROSECOND = timedelta(microseconds=1)
EARLIEST_US = (datetime(1, 1, 1, tzinfo=UTC) - EPOCH) // _MICROSECOND
LATEST_US = (datetime.max.replace(tzinfo=UTC) - EPOCH) // _MICROSECOND
#: An earlier record counts as of this time: most programs, and the months of the tables, know no other.
EARLIEST_MS = EARLIEST_US // 1_000


def broken_rule(transaction: Transaction) -> str | None:
    """The first rule that this transaction breaks, as a sentence for people, or None."""
    return (
        _broken_identity(transaction)
        or _broken_money(transaction)
        or broken_name("group_id", transaction.group_id)
        or _broken_metadata(transaction.metadata)
    )


def _broken_identity(transaction: Transaction) -> str | None:
    if not _UUID.fullmatch(transaction.transaction_id):
        return f"transaction_id {transaction.transaction_id[:40]!r} is not a UUID of 36 lower-case characters"
    return broken_name("wallet_id", transaction.wallet_id)


def _broken_money(transaction: Transaction) -> str | None:
    if not 0 <= transaction.type < len(TYPES):
        return f"type {transaction.type} is neither CREDIT (0) nor DEBIT (1)"
    if not 0 < transaction.amount <= AMOUNT_MAX:
        return f"amount {transaction.amount} is not between 1 and {AMOUNT_MAX}"
    if not _CURRENCY.fullmatch(transaction.currency):
        return f"currency {transaction.currency[:10]!r} is not three letters A to Z"
    if not EARLIEST_US <= transaction.occurred_us <= LATEST_US:
        return f"occurred_at {transaction.occurred_us} us is not within the years 1 to 9999"
    return None


def broken_name(name: str, text: str | None) -> str | None:
    """What is wrong with the id of a wallet or a group, if anything; a missing id is fine."""
    if text is None:
        return None
    if not 1 <= len(text) <= NAME_CHARACTERS:
        return f"{name} has {len(text)} characters, not 1 to {NAME_CHARACTERS}"
    return _broken_text(name, text)


def _broken_metadata(metadata: tuple[tuple[str, str], ...]) -> str | None:
    seen: set[str] = set()
    for key, value in metadata:
        if key in seen:
            return f"metadata has the key {key[:40]!r} twice"
        seen.add(key)
        if broken := _broken_text("a metadata key", key) or _broken_text("a metadata value", value):
            return broken
    return None


def _broken_text(name: str, text: str) -> str | None:
    if "\0" in text:
        return f"{name} contains U+0000"
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        return f"{name} contains a surrogate, which is not Unicode text"
    return None
