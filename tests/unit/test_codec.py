"""What a value is: a transaction with its canonical bytes, UNDECODABLE, or INVALID."""

from hashlib import sha256
from typing import Any

import pytest

from schemas.codec import (
    Decoded,
    TransactionCodec,
    body_of,
    chain,
    content_digest,
    encode_entry,
    encode_transaction,
    frame,
    order_of,
)
from schemas.digest import digest
from schemas.native.varints import long_bytes
from schemas.records import DETAIL_CHARACTERS, Reason, Rejected, Transaction
from schemas.rules import EARLIEST_US, LATEST_US
from tests.unit.transactions import UUID, block, encoded_until_metadata, overlong, text

CODEC = TransactionCodec(1, lambda *_: None)
GOOD = Transaction(UUID, "alice", 0, 1_250, "EUR", 1_790_000_000_000_000)
HEAD = encoded_until_metadata(GOOD)


def decode(body: bytes) -> Decoded | Rejected:
    """What `decode` says, which `order` must say, too, by its own fast path."""
    value = frame(1) + body
    found = CODEC.decode(value)
    assert CODEC.order(value) == (found if isinstance(found, Rejected) else order_of(*found))
    return found


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        (None, "no value"),
        (b"", "no value"),
        (b"\0\0\0\0", "not the wire format: the value starts with 00000000"),
        (b"\1\0\0\0\1" + HEAD + b"\0", "not the wire format: the value starts with 0100000001"),
        (b'{"wallet_id": "alice"}', "not the wire format: the value starts with 7b2277616c"),
        (frame(2) + HEAD + b"\0", "schema id 2 is not a Transaction's"),
        (frame(1), "ends within a number"),
    ],
)
def test_what_is_not_our_wire_format_is_undecodable(value: bytes | None, detail: str) -> None:
    assert CODEC.decode(value) == Rejected(Reason.UNDECODABLE, detail)


TEN_BYTES_TOO_MUCH = b"\x80" * 9 + b"\x02"
ILLEGAL = {
    "bytes left over": (HEAD + b"\0\0", "1 bytes left over"),
    "cut off": (HEAD, "ends within a number"),
    "a string cut off": (HEAD[:20], "ends within a value, 17 bytes missing"),
    "a negative length": (b"\x01" + HEAD[1:] + b"\0", "negative length -1"),
    "an enum index out of range": (
        HEAD.replace(text("alice") + b"\0", text("alice") + b"\4") + b"\0",
        "index 2 where 2 choices exist",
    ),
    "a negative enum index": (
        HEAD.replace(text("alice") + b"\0", text("alice") + b"\1") + b"\0",
        "index -1 where 2 choices exist",
    ),
    "a union index out of range": (HEAD[:-1] + b"\4\0", "index 2 where 2 choices exist"),
    "a tenth byte above 1": (TEN_BYTES_TOO_MUCH, "a number beyond 64 bits"),
    "an eleventh byte": (b"\x80" * 10 + b"\0", "a number beyond 64 bits"),
    "not UTF-8": (
        HEAD.replace(b"alice", b"al\xffce") + b"\0",
        "a string that is not UTF-8 (invalid start byte at byte 2)",
    ),
    "a surrogate in UTF-8": (
        HEAD.replace(b"alice", b"a\xed\xa0\x80e") + b"\0",
        "a string that is not UTF-8 (invalid continuation byte at byte 1)",
    ),
    "an overlong NUL in UTF-8": (
        HEAD.replace(b"alice", b"ali\xc0\x80") + b"\0",
        "a string that is not UTF-8 (invalid start byte at byte 3)",
    ),
    "a count that cannot fit": (
        HEAD + long_bytes(2**62) + b"\0",
        f"{2**62} items announced, more than the bytes can hold",
    ),
    "the least count there is": (
        HEAD + long_bytes(-(2**63)) + b"\0",
        f"{2**63} items announced, more than the bytes can hold",
    ),
    "a block larger than its size": (
        HEAD + b"\1" + long_bytes(3) + text("k") + text("v") + b"\0",
        f"a block ends at byte {len(HEAD) + 6}, its size says {len(HEAD) + 5}",
    ),
    "a block smaller than its size": (
        HEAD + b"\1" + long_bytes(5) + text("k") + text("v") + b"\0",
        f"a block ends at byte {len(HEAD) + 6}, its size says {len(HEAD) + 7}",
    ),
    "a block of negative size": (
        HEAD + b"\1" + long_bytes(-4) + text("k") + text("v") + b"\0",
        f"a block ends at byte {len(HEAD) + 6}, its size says {len(HEAD) - 2}",
    ),
}


@pytest.mark.parametrize(("body", "detail"), ILLEGAL.values(), ids=ILLEGAL.keys())
def test_illegal_avro_is_undecodable(body: bytes, detail: str) -> None:
    assert decode(body) == Rejected(Reason.UNDECODABLE, detail)


TWO = (("k", "v"), ("l", "w"))
UNUSUAL = {
    "overlong numbers": (encoded_until_metadata(GOOD, lambda n: overlong(n, 9)) + b"\x80\0", ()),
    "a block with its size": (HEAD + block([*TWO], sized=True) + b"\0", TWO),
    "two blocks": (HEAD + block([*TWO[:1]]) + block([*TWO[1:]]) + b"\0", TWO),
}


@pytest.mark.parametrize(("body", "metadata"), UNUSUAL.values(), ids=UNUSUAL.keys())
def test_legal_but_unusual_avro_is_decoded_and_made_canonical(
    body: bytes, metadata: tuple[tuple[str, str], ...]
) -> None:
    expected = GOOD._replace(metadata=metadata)
    assert decode(body) == Decoded(expected, encode_transaction(expected))
    assert encode_transaction(expected) != body


INVALID = {
    "an id that is no UUID": ({"transaction_id": "42"}, "transaction_id '42' is not"),
    "an id in capitals": ({"transaction_id": UUID.upper()}, "is not a UUID of 36 lower-case"),
    "an id without dashes": ({"transaction_id": UUID.replace("-", "")}, "is not a UUID of 36"),
    "an id with a line feed": ({"transaction_id": UUID + "\n"}, "is not a UUID of 36"),
    "an empty wallet_id": ({"wallet_id": ""}, "wallet_id has 0 characters, not 1 to 128"),
    "a long wallet_id": ({"wallet_id": "x" * 129}, "wallet_id has 129 characters, not 1 to 128"),
    "U+0000 in the wallet_id": ({"wallet_id": "a\0b"}, "wallet_id contains U+0000"),
    "amount zero": ({"amount": 0}, "amount 0 is not between 1 and"),
    "a negative amount": ({"amount": -5}, "amount -5 is not between 1 and"),
    "a currency in lower case": ({"currency": "eur"}, "currency 'eur' is not three letters A to Z"),
    "a currency with a line feed": ({"currency": "EUR\n"}, "currency 'EUR\\\\n' is not three letters"),
    "a currency beyond ASCII": ({"currency": "ÄÖÜ"}, "currency '\\xc4\\xd6\\xdc' is not three letters"),
    "before year 1": ({"occurred_us": EARLIEST_US - 1}, "is not within the years 1 to 9999"),
    "after year 9999": ({"occurred_us": LATEST_US + 1}, "is not within the years 1 to 9999"),
    "an empty group_id": ({"group_id": ""}, "group_id has 0 characters, not 1 to 128"),
    "a long group_id": ({"group_id": "ä" * 129}, "group_id has 129 characters, not 1 to 128"),
    "U+0000 in the group_id": ({"group_id": "\0"}, "group_id contains U+0000"),
    "U+0000 in a metadata key": ({"metadata": (("\0", "v"),)}, "a metadata key contains U+0000"),
    "U+0000 in a metadata value": ({"metadata": (("k", "\0"),)}, "a metadata value contains U+0000"),
    "a metadata key twice": ({"metadata": (("k", "1"), ("k", "1"))}, "metadata has the key 'k' twice"),
    "the first key again as the last": (
        {"metadata": (("b", "1"), ("a", "1"), ("b", "2"))},
        "metadata has the key 'b' twice",
    ),
    "a long metadata key twice": (
        {"metadata": (("k" * 63, "1"), ("k" * 63, "2"))},
        "twice",
    ),
}


@pytest.mark.parametrize(("changes", "detail"), INVALID.values(), ids=INVALID.keys())
def test_a_broken_rule_is_invalid(changes: dict[str, Any], detail: str) -> None:
    answer = decode(encode_transaction(GOOD._replace(**changes)))
    assert isinstance(answer, Rejected)
    assert answer.reason is Reason.INVALID
    assert detail in answer.detail


LIMITS: dict[str, dict[str, Any]] = {
    "nothing unusual": {},
    "one character": {"wallet_id": "x"},
    "128 characters": {"wallet_id": "x" * 128, "group_id": "y" * 128},
    "128 characters of four bytes": {"wallet_id": "😀" * 128},
    "the least amount": {"amount": 1},
    "the greatest amount": {"amount": 2**63 - 1},
    "the first microsecond": {"occurred_us": EARLIEST_US},
    "the last microsecond": {"occurred_us": LATEST_US},
    "just before the epoch": {"occurred_us": -1},
    "empty metadata strings": {"metadata": (("", ""),)},
    "much metadata": {"metadata": tuple((f"key {n}", "value" * 50) for n in range(100))},
    "not normalised": {"wallet_id": "e\u0301"},
    "a key that begins another": {"metadata": (("a", "1"), ("ab", "2"))},
    "a key that another begins": {"metadata": (("ab", "1"), ("a", "2"))},
    "keys in no order": {"metadata": (("b", "1"), ("a", "2"))},
    "two strings alike, one a key and one a value": {"metadata": (("a", "b"), ("b", "a"))},
}
LIMITS |= {
    f"{length} characters everywhere": {
        "wallet_id": "w" * length,
        "group_id": "g" * length,
        "metadata": (("k" * length, "v" * length), ("l" * length, "")),
    }
    for length in (62, 63, 64, 65)
}
LIMITS |= {
    f"{count} pairs of metadata": {"metadata": tuple((f"{n:02}", str(n)) for n in range(count))}
    for count in (2, 15, 16, 17, 63, 64)
}
LIMITS |= {
    f"the number 2^{bits}{more:+}": {"amount": 2**bits + more, "occurred_us": more - 2**bits}
    for bits in (6, 7, 13, 14, 20, 27, 34, 41, 48, 55)
    for more in (-1, 0, 1)
}


@pytest.mark.parametrize("changes", LIMITS.values(), ids=LIMITS.keys())
def test_what_the_rules_just_allow_is_decoded(changes: dict[str, Any]) -> None:
    expected = GOOD._replace(**changes)
    assert decode(encode_transaction(expected)) == Decoded(expected, encode_transaction(expected))


def test_illegal_avro_goes_before_a_broken_rule() -> None:
    answer = decode(encode_transaction(GOOD._replace(amount=0)) + b"\0")
    assert isinstance(answer, Rejected)
    assert answer.reason is Reason.UNDECODABLE


@pytest.mark.parametrize("text", ["plain", "ä\n\x1b[31m\0", "\ud800", "\\" * 999, "😀" * 999, "x" * 501])
def test_a_detail_is_short_printable_ascii(text: str) -> None:
    detail = Rejected.because(Reason.INVALID, text).detail
    assert detail.isascii()
    assert detail.isprintable()
    assert 0 < len(detail) <= DETAIL_CHARACTERS


def test_the_content_digest_does_not_depend_on_the_order_of_metadata() -> None:
    one = GOOD._replace(metadata=(("a", "1"), ("b", "2"), ("ä", "3")))
    other = one._replace(metadata=one.metadata[::-1])
    digests = {content_digest(encode_transaction(t), t) for t in (one, other)}
    assert len(digests) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"amount": 1_251},
        {"type": 1},
        {"group_id": "g"},
        {"occurred_us": GOOD.occurred_us + 1},
        {"metadata": (("a", "2"), ("b", "1"))},
        {"metadata": (("a", "1"),)},
    ],
)
def test_any_other_content_has_another_digest(changes: dict[str, Any]) -> None:
    one = GOOD._replace(metadata=(("a", "1"), ("b", "2")))
    other = one._replace(**changes)
    assert content_digest(encode_transaction(one), one) != content_digest(encode_transaction(other), other)


def test_the_hash_chain_is_sha256_of_the_previous_hash_and_the_entry() -> None:
    # (head -c 32 /dev/zero; printf entry) | sha256sum
    assert (
        chain(bytes(32), b"entry").hex() == "2b9ab6d18a027b5596b6f95d34a143af27414921ac03b10e91b12d95c2ade707"
    )
    entry = encode_entry(b"", 1, 2, 3, 4, 5)
    assert entry == bytes([2, 4, 6, 8, 10])


@pytest.mark.parametrize("data", [b"", b"a", bytes(64), b"x" * 100_000])
def test_a_digest_is_sha256(data: bytes) -> None:
    assert digest(data) == sha256(data).digest()
    assert digest(data) == sha256(data).digest(), "the first left nothing behind"


def test_a_body_of_another_schema_is_not_taken_for_ours() -> None:
    assert body_of(frame(3) + b"abc", 3) == b"abc"
    with pytest.raises(ValueError, match="starts with 0000000003, not with schema id 4"):
        body_of(frame(3) + b"abc", 4)
