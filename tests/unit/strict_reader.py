"""A second reader of transactions, written from the Avro specification alone, to check the first against.

It shares no code with `schemas`, is as slow as it likes, and says of any bytes what they are: "UNDECODABLE",
"INVALID", or the eight fields. It reads numbers as strings of bits, and a body as a tape that is cut.
"""

from datetime import UTC, datetime, timedelta
from uuid import UUID

Fields = tuple[str, str, str, int, str, int, str | None, list[tuple[str, str]]]


class Illegal(Exception):  # noqa: N818 - an outcome
    """The tape is not Avro."""


class Tape:
    def __init__(self, body: bytes) -> None:
        self.left = list(body)

    def cut(self, count: int) -> bytes:
        if count < 0 or count > len(self.left):
            raise Illegal
        piece, self.left = bytes(self.left[:count]), self.left[count:]
        return piece


def read(body: bytes) -> Fields | str:
    tape = Tape(body)
    try:
        fields = (
            string(tape),
            string(tape),
            ("CREDIT", "DEBIT")[index(2, tape)],
            number(tape),
            string(tape),
            number(tape),
            group(tape),
            entries(tape),
        )
    except Illegal:
        return "UNDECODABLE"
    if tape.left:
        return "UNDECODABLE"
    return fields if obeys_the_rules(*fields) else "INVALID"


def number(tape: Tape) -> int:
    sevens: list[str] = []
    while True:
        bits = f"{tape.cut(1)[0]:08b}"
        sevens.insert(0, bits[1:])
        if bits[0] == "0":
            break
        if len(sevens) == 10:
            raise Illegal
    bits = "".join(sevens).lstrip("0") or "0"
    if len(bits) > 64:
        raise Illegal
    half, odd = divmod(int(bits, 2), 2)
    return -half - 1 if odd else half


def string(tape: Tape) -> str:
    try:
        return str(tape.cut(number(tape)), "utf-8", "strict")
    except UnicodeDecodeError:
        raise Illegal from None


def index(choices: int, tape: Tape) -> int:
    found = number(tape)
    if found not in range(choices):
        raise Illegal
    return found


def group(tape: Tape) -> str | None:
    return string(tape) if index(2, tape) else None


def entries(tape: Tape) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    while (count := number(tape)) != 0:
        block = tape if count > 0 else Tape(tape.cut(number(tape)))
        found += [(string(block), string(block)) for _ in range(abs(count))]
        if count < 0 and block.left:
            raise Illegal
    return found


def obeys_the_rules(
    transaction_id: str,
    wallet_id: str,
    _type: str,
    amount: int,
    currency: str,
    occurred_at: int,
    group_id: str | None,
    metadata: list[tuple[str, str]],
) -> bool:
    texts = [
        transaction_id,
        wallet_id,
        currency,
        group_id or "",
        *(text for pair in metadata for text in pair),
    ]
    keys = [key for key, _ in metadata]
    return (
        is_a_uuid(transaction_id)
        and 1 <= len(list(wallet_id)) <= 128
        and (group_id is None or 1 <= len(list(group_id)) <= 128)
        and amount > 0
        and len(currency) == 3
        and set(currency) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
        and is_a_time(occurred_at)
        and not any(chr(0) in text for text in texts)
        and all(keys.count(key) == 1 for key in keys)
    )


def is_a_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def is_a_time(microseconds: int) -> bool:
    try:
        return bool(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds))
    except OverflowError:
        return False
