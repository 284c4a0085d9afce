"""A Balance to and from bytes: the Python twin of `balance` and `balance_bodies`; and the end of a record of ours."""

import re
from collections.abc import Callable, Mapping

from schemas import native
from schemas.avro import Reader, long_of, string_bytes
from schemas.native.varints import longs
from schemas.records import Balance

_balance = native.balance
#: The three kinds of record share this form: five numbers, then the hash.
_NUMBERS_AND_HASH = re.compile(rb"([\x80-\xff]{0,9}+[\0-\x7f])" * 5 + rb"(.{32})", re.DOTALL).match


def encode_balance(balance: Balance) -> bytes:
    """A Balance's body."""
    wallet_id, currency, amount, sequence, recorded_ms, source_partition, source_offset, last_hash = balance
    owner = string_bytes(wallet_id) + string_bytes(currency)
    return longs(owner, amount, sequence, recorded_ms, source_partition, source_offset) + last_hash


def encode_balances_in_python(balances: Mapping[bytes, Balance]) -> dict[bytes, bytes]:
    """The bodies of balances, under the same keys."""
    return {wallet: encode_balance(balance) for wallet, balance in balances.items()}


#: Likewise, compiled where it can be.
encode_balances: Callable[[dict[bytes, Balance]], dict[bytes, bytes]] = (
    native.balance_bodies or encode_balances_in_python
)


def decode_balance(body: bytes) -> Balance:
    """Read a Balance's body; raises ValueError for damage."""
    balance: Balance | None = _balance(body, Balance) if _balance else None
    return balance or decode_balance_in_python(body)


def decode_balance_in_python(body: bytes) -> Balance:
    """Likewise, with nothing compiled."""
    reader = Reader(body)
    wallet_id, currency = reader.string(), reader.string()
    numbers, end = numbers_and_hash(body, reader.at)
    must_end(body, end)
    return Balance(wallet_id, currency, *numbers)


def numbers_and_hash(body: bytes, at: int) -> tuple[tuple[int, int, int, int, int, bytes], int]:
    """Three longs, source_partition, source_offset and the hash from byte `at` on, and where they end."""
    match = _NUMBERS_AND_HASH(body, at)
    if match is None:
        raise ValueError(f"a record of ours is damaged after byte {at}")
    a, b, c, d, e, last_hash = match.groups()
    return (long_of(a), long_of(b), long_of(c), long_of(d), long_of(e), last_hash), match.end()


def must_end(body: bytes, end: int) -> None:
    """Raise ValueError if anything is left of a record of ours."""
    if end != len(body):
        raise ValueError(f"a record of ours is damaged: {len(body) - end} bytes left over")
