"""Avro's primitives: canonical writing, and a strict reader that judges what is legal.

Strict means the Avro specification to the letter, which fastavro does not enforce: an index out of range, a
varint beyond 64 bits, bytes left over and a block whose size is wrong are errors here.
Legal but unusual encodings, such as overlong varints and blocks with sizes, are read.
"""

from collections.abc import Iterator

from schemas.native.varints import long_bytes

UNSIGNED_MAX = 2**64 - 1
INT_MIN, INT_MAX = -(2**31), 2**31 - 1
VARINT_BYTES = 10


def unsigned_of(varint: bytes) -> int:
    """The number that a varint holds, without zigzag; nothing is checked."""
    number = shift = 0
    for byte in varint:
        number |= (byte & 127) << shift
        shift += 7
    return number


def long_of(varint: bytes) -> int:
    """The int or the long that a varint holds; nothing is checked."""
    zigzag = unsigned_of(varint)
    return zigzag >> 1 ^ -(zigzag & 1)


def string_bytes(text: str) -> bytes:
    """A string with its length in front."""
    encoded = text.encode()
    return long_bytes(len(encoded)) + encoded


class IllegalAvro(ValueError):  # noqa: N818 - the name is the message
    """Bytes that the Avro specification does not allow for their schema."""


class Reader:
    """Reads one Avro body from its first byte to its last; every method raises IllegalAvro."""

    __slots__ = ("_at", "_body", "_items_left", "depth")

    def __init__(self, body: bytes, at: int = 0) -> None:
        self._body = body
        self._at = at
        # Only items that occupy no bytes can be more than the bytes. Without a bound, a few bytes could
        # announce 2**62 of them.
        self._items_left = len(body)
        #: How many records the current value is nested in; maintained by the code that reads nested records.
        self.depth = 0

    @property
    def at(self) -> int:
        """How far the body was read."""
        return self._at

    def end(self) -> None:
        """Check that nothing is left."""
        if self._at != len(self._body):
            raise IllegalAvro(f"{len(self._body) - self._at} bytes left over")

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        if count < 0:
            raise IllegalAvro(f"negative length {count}")
        start, self._at = self._at, self._at + count
        if self._at > len(self._body):
            raise IllegalAvro(f"ends within a value, {self._at - len(self._body)} bytes missing")
        return self._body[start : self._at]

    def long(self) -> int:
        """A zigzag varint of up to 64 bits, overlong ones among them."""
        body, at, value = self._body, self._at, 0
        for shift, byte in enumerate(body[at : at + VARINT_BYTES]):
            value |= (byte & 0x7F) << 7 * shift
            if byte < 0x80:
                if value > UNSIGNED_MAX:
                    break
                self._at = at + shift + 1
                return (value >> 1) ^ -(value & 1)
        else:
            if len(body) - at < VARINT_BYTES:
                raise IllegalAvro("ends within a number")
        raise IllegalAvro("a number beyond 64 bits")

    def int32(self) -> int:
        """A long that fits 32 bits."""
        value = self.long()
        if not INT_MIN <= value <= INT_MAX:
            raise IllegalAvro(f"int {value} beyond 32 bits")
        return value

    def index(self, choices: int) -> int:
        """The index of an enum's symbol or a union's branch."""
        index = self.int32()
        if not 0 <= index < choices:
            raise IllegalAvro(f"index {index} where {choices} choices exist")
        return index

    def boolean(self) -> bool:
        """One byte, 0 or 1."""
        byte = self.take(1)[0]
        if byte > 1:
            raise IllegalAvro(f"boolean {byte}")
        return byte == 1

    def bytes(self) -> bytes:
        """A length and as many bytes."""
        return self.take(self.long())

    def string(self) -> str:
        """Bytes that must be UTF-8."""
        encoded = self.bytes()
        try:
            return encoded.decode()
        except UnicodeDecodeError as error:
            raise IllegalAvro(f"a string that is not UTF-8 ({error.reason} at byte {error.start})") from None

    def items(self) -> Iterator[None]:
        """One step per item of an array or a map; the caller reads the item in each step.

        After a negative count comes the block's size in bytes, which must be right.
        """
        while count := self.long():
            block_end = None
            if count < 0:
                count, size = -count, self.long()
                block_end = self._at + size
            if count > self._items_left:
                raise IllegalAvro(f"{count} items announced, more than the bytes can hold")
            self._items_left -= count
            for _ in range(count):
                yield
            if block_end not in {None, self._at}:
                raise IllegalAvro(f"a block ends at byte {self._at}, its size says {block_end}")
