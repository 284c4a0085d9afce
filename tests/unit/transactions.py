"""Hypothesis strategies for transactions, for their encodings, legal ones and damaged ones, and for balances."""

from collections.abc import Callable

from hypothesis import strategies as st

from schemas.native.varints import long_bytes
from schemas.records import Balance, Transaction
from schemas.rules import EARLIEST_US, LATEST_US

Longs = Callable[[int], bytes]

UUID = "0b0e7d3c-2f65-4c6f-9d5e-0123456789ab"
#: Any text that a rule allows, and much of the kind that is usual.
usual_texts = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=70)
any_texts = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=128
)
#: Their lengths in bytes are those around which the length of a length changes.
_edge_texts = st.sampled_from(["w" * 63, "w" * 64, "é" * 32, "w" * 128])
names = usual_texts | any_texts | _edge_texts
texts = names | st.just("")
metadata = st.dictionaries(texts, texts, max_size=5).map(lambda entries: tuple(entries.items()))

transactions = st.builds(
    Transaction,
    transaction_id=st.uuids().map(str),
    wallet_id=names,
    type=st.sampled_from([0, 1]),
    amount=st.integers(1, 10**6) | st.integers(1, 2**63 - 1),
    currency=st.sampled_from(["EUR", "USD", "AAA", "HHH", "ZZZ"]),
    occurred_us=st.integers(10**15, 2 * 10**15) | st.integers(EARLIEST_US, LATEST_US),
    group_id=st.none() | names,
    metadata=st.just(()) | metadata,
)

longs = st.integers(-(2**63), 2**63 - 1)
ints = st.integers(-(2**31), 2**31 - 1)
hashes = st.binary(min_size=32, max_size=32)
#: Whatever a balance can be written of.
balances = st.builds(
    Balance, st.text(max_size=130), st.text(max_size=3), longs, longs, longs, ints, longs, hashes
)

_LOOSE_TEXTS = st.text(max_size=130)
#: Transactions that Avro allows, whether the rules do or not.
loose_transactions = st.builds(
    Transaction,
    transaction_id=st.uuids().map(str) | st.just(UUID.upper()) | _LOOSE_TEXTS,
    wallet_id=names | _LOOSE_TEXTS | st.just("x" * 129),
    type=st.sampled_from([0, 1]),
    amount=longs,
    currency=st.sampled_from(["EUR", "eur", "EU", "EURO", "ÄÖÜ", "EUR\n", ""]),
    occurred_us=longs | st.sampled_from([EARLIEST_US - 1, LATEST_US + 1]),
    group_id=st.none() | _LOOSE_TEXTS,
    metadata=st.lists(st.tuples(st.text(max_size=2), st.text(max_size=2)), max_size=4).map(tuple),
)


@st.composite
def unusual_encodings(draw: st.DrawFn, given: Transaction) -> bytes:
    """A legal encoding that need not be canonical: overlong numbers, several blocks, blocks with sizes."""

    def longs(value: int) -> bytes:
        return overlong(value, draw(st.sampled_from([0, 0, 0, 1, 9])))

    parts = [encoded_until_metadata(given, longs)]
    left = [*given.metadata]
    while left:
        size = draw(st.integers(1, len(left)))
        parts.append(block(left[:size], longs, sized=draw(st.booleans())))
        del left[:size]
    return b"".join(parts) + longs(0)


def overlong(value: int, more: int) -> bytes:
    """A number with up to `more` bytes than it needs, ten at most."""
    shortest = long_bytes(value)
    more = min(more, 10 - len(shortest))
    return (
        shortest if more < 1 else shortest[:-1] + bytes([shortest[-1] | 128]) + b"\x80" * (more - 1) + b"\0"
    )


def encoded_until_metadata(given: Transaction, longs: Longs = long_bytes) -> bytes:
    """The first seven fields, with numbers written as `longs` does."""
    return b"".join(
        [
            text(given.transaction_id, longs),
            text(given.wallet_id, longs),
            longs(given.type),
            longs(given.amount),
            text(given.currency, longs),
            longs(given.occurred_us),
            longs(0) if given.group_id is None else longs(1) + text(given.group_id, longs),
        ]
    )


def block(entries: list[tuple[str, str]], longs: Longs = long_bytes, *, sized: bool = False) -> bytes:
    """One block of a map, with its size in bytes if `sized`."""
    items = b"".join(text(part, longs) for entry in entries for part in entry)
    return longs(-len(entries)) + longs(len(items)) + items if sized else longs(len(entries)) + items


def text(string: str, longs: Longs = long_bytes) -> bytes:
    """A string with its length in front."""
    encoded = string.encode()
    return longs(len(encoded)) + encoded


_ODD_BYTES = st.sampled_from([0, 1, 2, 3, 4, 0x48, 0x7F, 0x80, 0x81, 0xC0, 0xED, 0xFE, 0xFF]) | st.integers(
    0, 255
)


@st.composite
def damaged(draw: st.DrawFn, bodies: st.SearchStrategy[bytes]) -> bytes:
    """Encodings in which up to three bytes were changed, put in, taken out, or the rest cut off."""
    body = bytearray(draw(bodies))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(body)))
        match draw(st.sampled_from(["change", "insert", "remove", "cut", "append"])):
            case "change":
                body[at : at + 1] = bytes([draw(_ODD_BYTES)])
            case "insert":
                body[at:at] = bytes([draw(_ODD_BYTES)])
            case "remove":
                del body[at : at + 1]
            case "cut":
                del body[at:]
            case _:
                body.append(draw(_ODD_BYTES))
    return bytes(body)
