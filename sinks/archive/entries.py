"""What a seal needs of ledger entries, read from many framed values at once: signed amounts, source offsets.

Our own records are canonical (DESIGN section 4), so both can be found without decoding the rest.
Damaged values raise ValueError, IndexError or TypeError.
"""

from collections.abc import Sequence

from schemas.avro import long_of
from schemas.codec import HASH_BYTES, HEADER_BYTES

#: After the frame: the length of the transaction id, its 36 characters, and the length of the wallet id.
_WALLET_LENGTH = HEADER_BYTES + 1 + 36
_CONTINUES = 128


def signed_sum(values: Sequence[bytes]) -> int:
    """Credits less debits, in minor units. Lengths and amounts of the usual size are read in place."""
    total = 0
    for value in values:
        at = value[_WALLET_LENGTH]
        at = _WALLET_LENGTH + 1 + (at >> 1) if at < _CONTINUES else _after_long_wallet(value)
        low = value[at + 1]
        if low < _CONTINUES:
            amount = low >> 1
        elif (middle := value[at + 2]) < _CONTINUES:
            amount = (low & 127 | middle << 7) >> 1
        elif (high := value[at + 3]) < _CONTINUES:
            amount = (low & 127 | (middle & 127) << 7 | high << 14) >> 1
        else:
            amount = _long_at(value, at + 1)
        total += -amount if value[at] else amount
    return total


def source_offset(value: bytes) -> int:
    """The last number before the hash; read from its end, where the byte before it ends another number."""
    end = start = len(value) - HASH_BYTES
    start -= 1
    while value[start - 1] >= _CONTINUES:
        start -= 1
    return long_of(value[start:end])


def hashes(values: Sequence[bytes]) -> bytes:
    """The hashes of these entries, one after the other."""
    return b"".join([value[-HASH_BYTES:] for value in values])


def _after_long_wallet(value: bytes) -> int:
    """The index of the type after a wallet id of 64 bytes or more."""
    length = _long_at(value, _WALLET_LENGTH)
    return _WALLET_LENGTH + 2 + length


def _long_at(value: bytes, at: int) -> int:
    end = at
    while value[end] >= _CONTINUES:
        end += 1
    return long_of(value[at : end + 1])
