"""Numbers in the fewest bytes, as Avro's longs: the Python twin of `longs`."""

from collections.abc import Callable

from schemas import native

#: Two steps of seven bits: the shortest varints of 0 to 16,383, and the same with more bytes to follow.
#: Looking two bytes up at once is several times faster than shifting them out one by one.
_LAST = tuple(bytes((n,)) if n < 128 else bytes((n & 127 | 128, n >> 7)) for n in range(16_384))
_MORE = tuple(bytes((n & 127 | 128, n >> 7 | 128)) for n in range(16_384))


def long_bytes(value: int) -> bytes:
    """The shortest encoding of an int or a long."""
    zigzag = value << 1 if value >= 0 else ~(value << 1)
    if zigzag < 16_384:
        return _LAST[zigzag]
    if zigzag < 268_435_456:
        return _MORE[zigzag & 16_383] + _LAST[zigzag >> 14]
    encoded = b""
    while zigzag >= 16_384:
        encoded += _MORE[zigzag & 16_383]
        zigzag >>= 14
    return encoded + _LAST[zigzag]


def longs_in_python(first: bytes, *numbers: int) -> bytes:
    """Bytes, then the shortest encoding of each number."""
    return b"".join((first, *map(long_bytes, numbers)))


#: Likewise, compiled where it can be.
longs: Callable[..., bytes] = native.longs or longs_in_python
