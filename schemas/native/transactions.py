"""The fast path for transactions of the usual shape, which are nearly all of them.

One regular expression takes a canonical, valid transaction apart. It matches only where every rule of the
schema and of `schemas.rules` holds, so what it returns needs no further check; for anything else the answer
is None and the strict reader decides. Property tests prove that the two agree.

The shape: ASCII strings of 1 to 63 characters, an amount of up to 8 bytes, an occurred_at between 1979 and
3111 (8 bytes), metadata in one block.
"""

import re
from collections.abc import Callable

from schemas.avro import unsigned_of
from schemas.records import Transaction

# A printable character is never one of the control bytes that follow the two names (type and metadata
# count): where a name ends is unambiguous, and the length written before it is compared afterwards.
_USUAL = rb"""
    H ([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})   # transaction_id, 36 characters
    (.) ([ -~]{1,63}+)                                                 # wallet_id
    ([\x00\x02])                                                       # type
    ([\x80-\xff]{0,7}+[\x01-\x7f])                                     # amount
    \x06 ([A-Z]{3})                                                    # currency
    ([\x80-\xff]{7}[\x01-\x7f])                                        # occurred_at
    (?: \x00 | \x02 (.) ([ -~]{1,63}+) )                               # group_id
    (\x00?)                                                            # no metadata
"""
_LENGTH = tuple(bytes([2 * n]) for n in range(64))
#: The continuation bits of eight bytes, subtracted when their seven-bit groups are added up.
_CONTINUED = sum(0x80 << 7 * n for n in range(7))
_DEBIT = b"\2"

Metadata = tuple[tuple[str, str], ...]
Usual = tuple[Transaction, int]

_new = tuple.__new__


def _matcher(header: bytes) -> Callable[[bytes], re.Match[bytes] | None]:
    starts = "".join(f"\\x{byte:02x}" for byte in header)
    return re.compile(starts.encode() + _USUAL, re.VERBOSE | re.DOTALL).match


def usual_reader(header: bytes) -> Callable[[bytes], Usual | None]:
    """A function that reads the transaction after `header`, if it is canonical, valid and usual.

    It returns the transaction and where it ends, or None for anything else.
    """
    match_usual = _matcher(header)

    def read(value: bytes) -> Usual | None:
        match = match_usual(value)
        if match is None:
            return None
        uuid, wallet_length, wallet, kind, zigzag, currency, time_bytes, group_length, group, none = (
            match.groups()
        )
        if wallet_length != _LENGTH[len(wallet)] or (group and group_length != _LENGTH[len(group)]):
            return None
        amount = unsigned_of(zigzag)
        if amount & 1:  # zigzag: below zero
            return None
        a, b, c, d, e, f, g, h = time_bytes
        low = a + (b << 7) + (c << 14) + (d << 21)
        time = low + ((e + (f << 7) + (g << 14) + (h << 21)) << 28) - _CONTINUED
        time = time >> 1 ^ -(time & 1)

        metadata: Metadata = ()
        end = match.end()
        if not none:
            found = _usual_metadata(value, end)
            if found is None:
                return None
            metadata, end = found
        fields = (
            uuid.decode(),
            wallet.decode(),
            1 if kind == _DEBIT else 0,
            amount >> 1,
            currency.decode(),
            time,
            group and group.decode(),
            metadata,
        )
        return _new(Transaction, fields), end

    return read


def _usual_metadata(value: bytes, at: int) -> tuple[Metadata, int] | None:
    """One block of strings of 1 to 63 ASCII characters, no key twice, with its count at `at`; and its end."""
    end = value.find(b"\0", at)
    lengths = value[at:end]
    if end < 0 or not lengths.isascii():  # so every length and the count are single bytes
        return None
    if lengths[0] & 1:  # zigzag: below zero
        return None
    block = lengths.decode()
    strings = []
    at = 1
    try:
        for _ in range(lengths[0]):  # zigzag: twice the entries, so once the strings
            length = lengths[at]
            if length & 1:
                return None
            start, at = at + 1, at + 1 + (length >> 1)
            strings.append(block[start:at])
    except IndexError:
        return None
    entries = tuple(zip(strings[::2], strings[1::2], strict=True))
    return (entries, end + 1) if at == len(block) and len(dict(entries)) == len(entries) else None
