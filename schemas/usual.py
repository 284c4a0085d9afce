"""The fast path for transactions of the usual shape, which are nearly all of them.

One regular expression takes a canonical, valid transaction apart. It matches only where every rule of the
schema and of `schemas.rules` holds, so what it returns needs no further check; for anything else the answer
is None and the strict reader decides. Property tests prove that the two agree.

The shape: ASCII strings of 1 to 63 characters, an amount of up to 8 bytes, an occurred_at
between 1979 and 3111 (8 bytes), metadata in one block. The bytes are matched as Latin-1
text, one character a byte, so that the groups are the strings already.
"""

import re
from collections.abc import Callable

from schemas.records import Transaction

# A printable character is never one of the control bytes that follow the two names (type and metadata
# count): where a name ends is unambiguous, and the length written before it is compared afterwards.
_USUAL = r"""
    H ([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})   # transaction_id, 36 characters
    (.) ([ -~]{1,63}+)                                                 # wallet_id
    ([\x00\x02])                                                       # type
    ([\x80-\xff]{0,7}+[\x01-\x7f])                                     # amount
    \x06 ([A-Z]{3})                                                    # currency
    ([\x80-\xff]{7}[\x01-\x7f])                                        # occurred_at
    (?: \x00 | \x02 (.) ([ -~]{1,63}+) )                               # group_id
    (\x00?)                                                            # no metadata
"""
_LENGTH = tuple(chr(2 * n) for n in range(64))
#: The continuation bits of eight bytes whose sevens are added up.
_CONTINUED = sum(0x80 << 7 * n for n in range(7))

Metadata = tuple[tuple[str, str], ...]
Usual = tuple[Transaction, int]


def usual_reader(header: bytes) -> Callable[[bytes], Usual | None]:
    """A function that reads the transaction after `header`, if it is canonical, valid and usual.

    It returns the transaction and where it ends, or None for anything else.
    """
    starts = "".join(f"\\x{byte:02x}" for byte in header)
    match_usual = re.compile(starts + _USUAL, re.VERBOSE | re.DOTALL).match
    new = tuple.__new__

    def read(value: bytes) -> Usual | None:
        text = value.decode("latin-1")
        match = match_usual(text)
        if match is None:
            return None
        (
            uuid,
            wallet_length,
            wallet,
            kind,
            amount_bytes,
            currency,
            time_bytes,
            group_length,
            group,
            no_metadata,
        ) = match.groups()
        if wallet_length != _LENGTH[len(wallet)] or (group and group_length != _LENGTH[len(group)]):
            return None

        shift = amount = 0
        for byte in amount_bytes.encode("latin-1"):
            amount |= (byte & 127) << shift
            shift += 7
        if amount & 1:  # zigzag: below zero
            return None
        a, b, c, d, e, f, g, h = time_bytes.encode("latin-1")
        low = a + (b << 7) + (c << 14) + (d << 21)
        time = low + ((e + (f << 7) + (g << 14) + (h << 21)) << 28) - _CONTINUED
        time = time >> 1 ^ -(time & 1)

        metadata: Metadata = ()
        end = match.end()
        if not no_metadata:
            found = _usual_metadata(text, end)
            if found is None:
                return None
            metadata, end = found
        kind = 1 if kind == "\2" else 0
        return new(Transaction, (uuid, wallet, kind, amount >> 1, currency, time, group, metadata)), end

    return read


def _usual_metadata(text: str, at: int) -> tuple[Metadata, int] | None:
    """One block of strings of 1 to 63 ASCII characters, no key twice, with its count at `at`; and its end."""
    end = text.find("\0", at)
    block = text[at:end]
    if end < 0 or not block.isascii():  # so every length and the count are single bytes
        return None
    lengths = block.encode()
    if lengths[0] & 1:  # zigzag: below zero
        return None
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
