"""A second reader and writer of the schemas, plain and slow, for checking the first (DESIGN section 4).

It shares no code with `schemas.codec` on purpose: where both agree on nasty bytes, both are likely right.
Fields are read one after the other, in the order of the schema, and nothing is cached.
"""

from schemas.records import Balance, Transaction


class Undecodable(Exception):  # noqa: N818 - it names the outcome, which is no error of ours
    """These bytes are not legal Avro of this schema."""


class Reader:
    """Reads Avro primitives from bytes, strictly."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        if count < 0 or self._at + count > len(self._body):
            raise Undecodable(f"{count} bytes wanted at {self._at} of {len(self._body)}")
        self._at += count
        return self._body[self._at - count : self._at]

    def long(self) -> int:
        """A zigzag varint of at most 64 bits; longer than needed is legal."""
        unsigned = 0
        for place in range(10):
            byte = self.take(1)[0]
            if place == 9 and byte > 1:
                raise Undecodable("a varint has more than 64 bits")
            unsigned |= (byte & 0x7F) << (7 * place)
            if byte < 0x80:
                return (unsigned >> 1) ^ -(unsigned & 1)
        raise Undecodable("a varint has more than 64 bits")

    def string(self) -> str:
        """A string of legal UTF-8."""
        try:
            return self.take(self.long()).decode("utf-8")
        except UnicodeDecodeError:
            raise Undecodable("a string is not UTF-8") from None

    def index(self, choices: int) -> int:
        """The index of an enum or of a union."""
        chosen = self.long()
        if not 0 <= chosen < choices:
            raise Undecodable(f"index {chosen} of {choices}")
        return chosen

    def string_map(self) -> list[tuple[str, str]]:
        """The pairs of a map of strings in the order they came, through any number of blocks."""
        pairs: list[tuple[str, str]] = []
        while (count := self.long()) != 0:
            size = self.long() if count < 0 else None
            begin = self._at
            pairs.extend((self.string(), self.string()) for _ in range(abs(count)))
            if size is not None and self._at - begin != size:
                raise Undecodable(f"a block says {size} bytes and has {self._at - begin}")
        return pairs

    def end(self) -> None:
        """Nothing may follow."""
        if self._at != len(self._body):
            raise Undecodable(f"{len(self._body) - self._at} bytes left over")


def read_transaction(body: bytes) -> Transaction:
    """A Transaction from its Avro body; raises Undecodable."""
    reader = Reader(body)
    transaction = Transaction(
        transaction_id=reader.string(),
        wallet_id=reader.string(),
        type=reader.index(2),
        amount=reader.long(),
        currency=reader.string(),
        occurred_us=reader.long(),
        group_id=reader.string() if reader.index(2) == 1 else None,
        metadata=tuple(reader.string_map()),
    )
    reader.end()
    return transaction


def read_balance(body: bytes) -> Balance:
    """A Balance from its Avro body; raises Undecodable."""
    reader = Reader(body)
    balance = Balance(
        wallet_id=reader.string(),
        currency=reader.string(),
        balance=reader.long(),
        sequence=reader.long(),
        recorded_ms=reader.long(),
        source_partition=reader.long(),
        source_offset=reader.long(),
        hash=reader.take(32),
    )
    reader.end()
    return balance


def long(value: int) -> bytes:
    """A zigzag varint, the shortest."""
    unsigned = (value << 1) ^ (value >> 63)
    written = bytearray()
    while unsigned > 0x7F:
        written.append(unsigned & 0x7F | 0x80)
        unsigned >>= 7
    written.append(unsigned)
    return bytes(written)


def string(value: str) -> bytes:
    """A string with its length in bytes before it."""
    encoded = value.encode("utf-8")
    return long(len(encoded)) + encoded


def write_transaction(transaction: Transaction) -> bytes:
    """The canonical Avro body of a Transaction."""
    pairs = b"".join(string(name) + string(value) for name, value in transaction.metadata)
    group = long(0) if transaction.group_id is None else long(1) + string(transaction.group_id)
    return b"".join(
        [
            string(transaction.transaction_id),
            string(transaction.wallet_id),
            long(transaction.type),
            long(transaction.amount),
            string(transaction.currency),
            long(transaction.occurred_us),
            group,
            long(len(transaction.metadata)) + pairs + long(0) if pairs else long(0),
        ]
    )
