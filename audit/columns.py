"""Parse the Avro bodies of many records at once with numpy, one field of all of them after the other.

Anything but the canonical encoding of a valid Transaction, entry, balance or snapshot is not judged here: its row in
`usual` is False, and `audit.avro` reads it slowly.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audit.contract import FIRST_US, FRAME_BYTES, LAST_US

Longs = NDArray[np.int64]
Words = NDArray[np.uint64]
Flags = NDArray[np.bool_]
Octets = NDArray[np.uint8]

HASH_BYTES = 32
ID_CHARACTERS = 36
#: Behind the last value, so that eight bytes, or an id, can be read from any place.
PADDING = bytes(64)

_HIGH = np.uint64(0x8080808080808080)
_ONE = np.uint64(1)
#: Bits of a word's first n bytes.
_FIRST_BYTES = np.array([(1 << 8 * n) - 1 for n in range(9)], dtype=np.uint64)
#: The shortest varint of n bytes holds at least this.
_LEAST = np.array([0, 0, *(1 << 7 * n for n in range(1, 10))], dtype=np.uint64)
#: The value of a hexadecimal digit of a lower-case UUID; 255 for what is none.
_DIGIT = np.full(256, 255, dtype=np.uint8)
_DIGIT[list(b"0123456789abcdef")] = range(16)
_DASHES = np.array([8, 13, 18, 23])
_DIGITS = np.setdiff1d(np.arange(ID_CHARACTERS), _DASHES)
CODE_POINTS = 128


def _squeezed(word: Words) -> Words:
    """The lower seven bits of each byte, without the gaps between them."""
    word = word & ~_HIGH
    word = (word & np.uint64(0x007F007F007F007F)) | ((word & np.uint64(0x7F007F007F007F00)) >> _ONE)
    word = (word & np.uint64(0x00003FFF00003FFF)) | ((word & np.uint64(0x3FFF00003FFF0000)) >> np.uint64(2))
    squeezed: Words = (word & np.uint64(0x0FFFFFFF)) | (
        (word & np.uint64(0x0FFFFFFF00000000)) >> np.uint64(4)
    )
    return squeezed


def _signed(word: Words) -> Longs:
    """What a zigzag number stands for."""
    return ((word >> _ONE) ^ (~(word & _ONE) + _ONE)).view(np.int64)


class Packed:
    """Values behind each other, and where each begins and ends."""

    def __init__(self, values: Sequence[bytes]) -> None:
        self.octets: Octets = np.frombuffer(b"".join((*values, PADDING)), dtype=np.uint8)
        lengths = np.fromiter(map(len, values), np.int64, len(values))
        self.ends: Longs = np.cumsum(lengths)
        self.starts: Longs = self.ends - lengths
        self._words = np.ndarray((len(self.octets) - 7,), "<u8", self.octets, strides=(1,))

    def words(self, at: Longs) -> Words:
        """The eight bytes from each place on, the first one lowest."""
        found: Words = self._words[at]
        return found

    def ids(self, at: Longs) -> Octets:
        """The 36 bytes from each place on, one row each."""
        rows = np.ndarray((len(self.octets) - 35,), f"V{ID_CHARACTERS}", self.octets, strides=(1,))[at]
        return rows.view(np.uint8).reshape(len(at), ID_CHARACTERS)


class Cursor:
    """A place in each of many values, moved field by field; `good` is False where the bytes are not canonical."""

    def __init__(self, packed: Packed, skip: int = FRAME_BYTES) -> None:
        self.packed = packed
        self.at: Longs = packed.starts + skip
        self.good: Flags = self.at < packed.ends

    def long(self) -> Longs:
        """The next zigzag varint of each value."""
        at = np.minimum(self.at, self.packed.ends)
        word = self.packed.words(at)
        last = ~word & _HIGH
        # One past the bytes before the lowest bit that is set there: how many bytes the varint has.
        size = (np.bitwise_count(last ^ (last - _ONE)) >> np.uint8(3)).astype(np.int64)
        far = last == 0
        size[far] = 8
        word = _squeezed(word & _FIRST_BYTES[size])
        if far.any():
            self._rest(np.flatnonzero(far), at, word, size)
        self.good &= word >= _LEAST[np.minimum(size, 10)]
        self.at = at + size
        return _signed(word)

    def _rest(self, rows: Longs, at: Longs, word: Words, size: Longs) -> None:
        """Of varints with nine or ten bytes, those behind the eighth."""
        more = self.packed.words(at[rows] + 8)
        ninth, tenth = more & np.uint64(0xFF), (more >> np.uint64(8)) & np.uint64(0xFF)
        longest = ninth >= 0x80
        word[rows] |= (ninth & np.uint64(0x7F)) << np.uint64(56)
        word[rows[longest]] |= tenth[longest] << np.uint64(63)
        size[rows] = 9 + longest
        self.good[rows[longest & (tenth != 1)]] = False

    def octet(self) -> Octets:
        """The next byte of each value."""
        at = np.minimum(self.at, self.packed.ends)
        self.at = at + 1
        found: Octets = self.packed.octets[at]
        return found

    def skip(self, count: Longs) -> None:
        """Skip bytes of each value; a negative count is not canonical."""
        self.good &= (count >= 0) & (count <= self.packed.ends - self.at)
        self.at = self.at + np.where(self.good, count, 0)

    def end(self, left: int = 0) -> Flags:
        """Whether each value was canonical and ends here, except for `left` bytes."""
        self.good &= self.at + left == self.packed.ends
        return self.good


class Transactions(NamedTuple):
    """What decides of transactions; places are counted from where each value begins, and an id is two words.

    `pairs` is how many the metadata has, and where the first begins; `in_order` is whether its keys rise; `tail` is
    where what follows the transaction begins.
    """

    usual: Flags
    wallet_at: Longs
    wallet_bytes: Longs
    debit: Flags
    amount: Longs
    currency: Words
    occurred_us: Longs
    group_at: Longs
    group_bytes: Longs
    id_high: Words
    id_low: Words
    pairs: Longs
    pairs_at: Longs
    in_order: Flags
    tail: Longs

    @property
    def signed(self) -> Longs:
        """What each adds to its wallet."""
        return np.where(self.debit, -self.amount, self.amount)


def transactions(cursor: Cursor, values: Sequence[bytes]) -> Transactions:
    """The Transaction at each cursor, which stands behind it then. The wallet's own rules are for who knows its key."""
    packed = cursor.packed
    cursor.good &= cursor.octet() == 2 * ID_CHARACTERS
    id_high, id_low = _uuids(cursor)
    wallet_bytes = cursor.long()
    wallet_at = cursor.at
    cursor.skip(wallet_bytes)
    kind = cursor.octet()
    cursor.good &= (kind == 0) | (kind == 2)
    amount = cursor.long()
    cursor.good &= amount > 0
    letters = packed.words(np.minimum(cursor.at, packed.ends)) & np.uint64(0xFFFFFFFF)
    cursor.skip(np.full(len(letters), 4))
    for place in range(4):
        letter = (letters >> np.uint64(8 * place)) & np.uint64(0xFF)
        cursor.good &= (letter == 6) if place == 0 else ((letter >= ord("A")) & (letter <= ord("Z")))
    occurred_us = cursor.long()
    cursor.good &= (occurred_us >= FIRST_US) & (occurred_us <= LAST_US)
    group_at, group_bytes = _groups(cursor, values)
    pairs, pairs_at, in_order = _metadata(cursor, values)
    return Transactions(
        cursor.good.copy(),
        wallet_at - packed.starts,
        wallet_bytes,
        kind == 2,
        amount,
        letters >> np.uint64(8),
        occurred_us,
        group_at - packed.starts,
        group_bytes,
        id_high,
        id_low,
        pairs,
        pairs_at,
        in_order,
        cursor.at - packed.starts,
    )


def _uuids(cursor: Cursor) -> tuple[Words, Words]:
    packed = cursor.packed
    at = np.minimum(cursor.at, packed.ends)
    characters = packed.ids(at)
    digits = _DIGIT[characters[:, _DIGITS]]
    cursor.good &= (characters[:, _DASHES] == ord("-")).all(axis=1) & (digits.max(axis=1, initial=0) < 16)
    octets = np.ascontiguousarray((digits[:, 0::2] << 4) | digits[:, 1::2])
    halves = octets.view(">u8").astype(np.uint64)
    cursor.skip(np.full(len(at), ID_CHARACTERS))
    return halves[:, 0], halves[:, 1]


def _groups(cursor: Cursor, values: Sequence[bytes]) -> tuple[Longs, Longs]:
    """Where each group id begins, and its bytes; -1 for none."""
    branch = cursor.octet()
    cursor.good &= (branch == 0) | (branch == 2)
    rows = np.flatnonzero(cursor.good & (branch == 2))
    at, size = np.zeros(len(branch), np.int64), np.full(len(branch), -1, np.int64)
    if len(rows):
        some = _of(cursor, rows)
        size[rows] = some.long()
        at[rows] = some.at
        some.skip(size[rows])
        for row, start, count, good in zip(
            rows.tolist(), at[rows].tolist(), size[rows].tolist(), some.good.tolist(), strict=True
        ):
            place = start - int(cursor.packed.starts[row])
            if good and not _is_name(values[row][place : place + count], CODE_POINTS):
                some.good[np.searchsorted(rows, row)] = False
        _back(cursor, some, rows)
    return at, size


def _metadata(cursor: Cursor, values: Sequence[bytes]) -> tuple[Longs, Longs, Flags]:
    """Pass each map: none, or one block with a positive count, whose keys are all different; do they rise?"""
    count = cursor.long()
    begins = cursor.at - cursor.packed.starts
    in_order = np.ones(len(count), np.bool_)
    rows = np.flatnonzero(cursor.good & (count != 0))
    # Pairs are few; where there are any they are read one value at a time.
    for row, place, pairs in zip(rows.tolist(), begins[rows].tolist(), count[rows].tolist(), strict=True):
        end, in_order[row] = _pairs(values[row], place, pairs)
        cursor.good[row] = end >= 0
        cursor.at[row] = cursor.packed.starts[row] + max(end, 0)
    return count, begins, in_order


def _pairs(value: bytes, at: int, pairs: int) -> tuple[int, bool]:
    """Where a map of `pairs` pairs ends, -1 if it is not canonical or breaks a rule; and whether its keys rise."""
    keys: list[bytes] = []
    try:
        for _ in range(pairs):
            size, at = _short(value, at)
            keys.append(key := value[at : at + size])
            text, at = key.decode(), at + size
            size, at = _short(value, at)
            text += value[at : at + size].decode()
            at += size
            if "\0" in text:
                return -1, False
    except (UnicodeDecodeError, IndexError, ValueError):
        return -1, False
    if pairs < 0 or len({*keys}) < pairs or at >= len(value) or value[at]:
        return -1, False
    return at + 1, pairs == 1 or keys == sorted(keys)


def pairs(value: bytes, at: int, count: int) -> dict[str, str]:
    """The pairs of a map that is canonical, from where the first begins."""
    found = {}
    for _ in range(count):
        size, at = _short(value, at)
        key, at = value[at : at + size], at + size
        size, at = _short(value, at)
        found[key.decode()] = value[at : at + size].decode()
        at += size
    return found


def _short(value: bytes, at: int) -> tuple[int, int]:
    """A canonical length of a string, and where the string begins; raises ValueError for anything else."""
    first = value[at]
    if first < 0x80:
        length, at = first, at + 1
    else:
        length, place = first & 0x7F, 7
        while True:
            at += 1
            octet = value[at]
            length |= (octet & 0x7F) << place
            place += 7
            if octet < 0x80:
                break
        if not octet or place > 35:
            raise ValueError(length)
        at += 1
    if length & 1 or at + (length >> 1) > len(value):
        raise ValueError(length)
    return length >> 1, at


def _is_name(text: bytes, most: int) -> bool:
    try:
        return 1 <= len(text.decode()) <= most and b"\0" not in text
    except UnicodeDecodeError:
        return False


def is_wallet_id(wallet: bytes) -> bool:
    """Whether these bytes are a wallet's id: 1 to 128 code points of UTF-8 without U+0000."""
    return _is_name(wallet, CODE_POINTS)


def _of(cursor: Cursor, rows: Longs) -> Cursor:
    """A cursor over some of the values."""
    some = object.__new__(Cursor)
    some.packed = object.__new__(Packed)
    some.packed.__dict__.update(cursor.packed.__dict__)
    some.packed.starts, some.packed.ends = cursor.packed.starts[rows], cursor.packed.ends[rows]
    some.at, some.good = cursor.at[rows], cursor.good[rows]
    return some


def _back(cursor: Cursor, some: Cursor, rows: Longs) -> None:
    cursor.at[rows], cursor.good[rows] = some.at, some.good


class Entries(NamedTuple):
    """Ledger entries as columns, and the values that they are read from."""

    packed: Packed
    usual: Flags
    transaction: Transactions
    sequence: Longs
    balance: Longs
    recorded_ms: Longs
    partition: Longs
    source: Longs


def entries(values: Sequence[bytes], skip: int = FRAME_BYTES) -> Entries:
    """Ledger entries, each after `skip` bytes."""
    packed = Packed(values)
    cursor = Cursor(packed, skip)
    transaction = transactions(cursor, values)
    numbers = [cursor.long() for _ in range(5)]
    return Entries(packed, cursor.end(HASH_BYTES), transaction, *numbers)


def sources(values: Sequence[bytes]) -> Longs:
    """The source offset of each entry, read back from its hash, whatever stands before; -1 where there is none."""
    if not values:
        return np.zeros(0, np.int64)
    packed = Packed(values)
    at = packed.ends - HASH_BYTES - 8
    fits = at >= packed.starts
    word = packed.words(np.where(fits, at, packed.starts))
    # The last byte is the lowest then; those before it that have their high bit belong to the number.
    last = ~word.byteswap() & _HIGH & ~np.uint64(0xFF)
    size = (np.bitwise_count(last ^ (last - _ONE)) >> np.uint8(3)).astype(np.uint64) - _ONE
    found = _signed(_squeezed(word >> (np.uint64(8) * (np.uint64(8) - np.minimum(size, np.uint64(8))))))
    found[~fits | (word >> np.uint64(63) != 0)] = -1
    for row in np.flatnonzero(fits & (last == 0)).tolist():
        found[row] = _long_before(values[row], len(values[row]) - HASH_BYTES)
    return np.maximum(found, -1)


def _long_before(value: bytes, end: int) -> int:
    """The zigzag varint of more than seven bytes that ends there; -1 where there is none."""
    begin = end - 1
    while begin > 0 and end - begin < 10 and value[begin - 1] >= 0x80:
        begin -= 1
    unsigned = sum((octet & 0x7F) << 7 * place for place, octet in enumerate(value[begin:end]))
    return (unsigned >> 1) ^ -(unsigned & 1) if unsigned < 1 << 64 else -1


class Balances(NamedTuple):
    """Balances and snapshots as columns; `reason` of a snapshot only."""

    usual: Flags
    wallet_bytes: Longs
    currency: Words
    balance: Longs
    sequence: Longs
    recorded_ms: Longs
    partition: Longs
    source: Longs
    reason: Octets | None


def balances(values: Sequence[bytes], *, snapshots: bool = False) -> Balances:
    """Balances, or snapshots, each a value with its frame. The hash is left to who compares bytes."""
    cursor = Cursor(Packed(values))
    packed = cursor.packed
    wallet_bytes = cursor.long()
    cursor.skip(wallet_bytes)
    letters = packed.words(np.minimum(cursor.at, packed.ends)) & np.uint64(0xFFFFFFFF)
    cursor.good &= (letters & np.uint64(0xFF)) == 6
    cursor.skip(np.full(len(letters), 4))
    balance, sequence, recorded_ms, partition, source = (cursor.long() for _ in range(5))
    cursor.skip(np.full(len(letters), HASH_BYTES))
    reason = cursor.octet() if snapshots else None
    if reason is not None:
        cursor.good &= (reason & 1) == 0
    return Balances(
        cursor.end(),
        wallet_bytes,
        letters >> np.uint64(8),
        balance,
        sequence,
        recorded_ms,
        partition,
        source,
        reason,
    )
