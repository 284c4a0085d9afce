"""Seals and what they are made of, without servers: encodings, chains, months, entries read in bulk."""

from datetime import UTC, date, datetime
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.errors import ConfigurationError
from operations.cli.arguments import month_of
from schemas.codec import decode_entry, encode_entry, encode_transaction, frame
from schemas.records import DEBIT
from sinks.archive.entries import hashes, signed_sum, source_offset
from sinks.archive.seals import NO_SEAL, Content, Month, Range, Seal, covered, faults, seal_of
from tests.unit.transactions import transactions

LARGEST = 2**63 - 1
AT = datetime(2026, 11, 22, tzinfo=UTC)


def content(month: int, **changes: object) -> Content:
    one = Content(date(2026, month, 1), (Range(0, 5, 9), Range(3, 0, 2)), 6, -77, sha256(b"").digest())
    return one._replace(**changes)  # type: ignore[arg-type] # the tests know the fields


def chain_of(*contents: Content) -> list[Seal]:
    seals: list[Seal] = []
    for one in contents:
        previous = seals[-1].seal if seals else None
        seals.append(Seal(one, previous, seal_of(one, previous), AT))
    return seals


def test_what_a_seal_covers_is_written_as_the_docs_say() -> None:
    assert covered(content(5)) == (
        b"month=2026-05\nentries=6\namount=-77\n"
        b"hash=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n"
        b"range=0:5:9\nrange=3:0:2\n"
    )
    assert seal_of(content(5), None) == sha256(NO_SEAL + covered(content(5))).digest()


def test_a_chain_as_it_was_sealed_holds() -> None:
    assert faults([]) == []
    assert faults(chain_of(content(5), content(6), content(8))) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"entries": 7},
        {"amount": 77},
        {"hash": bytes(32)},
        {"ranges": (Range(0, 5, 9),)},
        {"ranges": (Range(0, 5, 10), Range(3, 0, 2))},
        {"month": date(2026, 4, 1)},
    ],
    ids=str,
)
def test_a_change_of_anything_that_a_seal_covers_breaks_it(changes: dict[str, object]) -> None:
    first, second = chain_of(content(5), content(6))
    changed = first._replace(content=first.content._replace(**changes))  # type: ignore[arg-type] # as above
    assert [one.month for one in faults([changed, second])] == [changed.content.month]


def test_a_seal_that_was_made_anew_for_changed_rows_no_longer_fits_the_next() -> None:
    _, second = chain_of(content(5), content(6))
    forged = chain_of(content(5, amount=0))
    assert [one.month.month for one in faults([*forged, second])] == [6]


def test_a_seal_that_was_taken_out_is_missed_by_the_next() -> None:
    first, _, third = chain_of(content(5), content(6), content(7))
    assert [one.month.month for one in faults([first, third])] == [7]


def test_a_month_that_was_sealed_before_it_was_over_is_told() -> None:
    early = [
        seal._replace(sealed_at=datetime(2026, 5, 31, 23, 59, tzinfo=UTC)) for seal in chain_of(content(5))
    ]
    (fault,) = faults(early)
    assert fault == (date(2026, 5, 1), "was sealed at 2026-05-31T23:59Z, before it was over")
    # Whoever forges a seal of a month to come can forge its time, too, but not the clock of whoever looks.
    to_come = chain_of(content(5)._replace(month=date(9998, 12, 1)))
    (fault,) = faults([to_come[0]._replace(sealed_at=datetime(9999, 1, 1, tzinfo=UTC))])
    assert "before it was over" in fault.reason


@pytest.mark.parametrize("changes", [{"entries": 0}, {"ranges": ()}], ids=str)
def test_a_seal_of_nothing_is_told(changes: dict[str, object]) -> None:
    assert [one.reason for one in faults(chain_of(content(5, **changes)))] == ["is sealed without entries"]


def test_the_last_moment_of_a_month_is_followed_by_the_next_months_first() -> None:
    assert Month(date(2026, 12, 1), archived=False).ends == datetime(2027, 1, 1, tzinfo=UTC)
    assert Month(date(2024, 2, 1), archived=False).ends == datetime(2024, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize("text", ["2026", "2026-13", "2026-05-01", "May", ""])
def test_a_month_that_is_none_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a month: write 2026-08"):
        month_of("--month", text)


@st.composite
def values(draw: st.DrawFn) -> bytes:
    """An entry as it stands in the topic."""
    body = encode_entry(
        encode_transaction(draw(transactions)),
        draw(st.integers(1, LARGEST)),
        draw(st.integers(-LARGEST, LARGEST)),
        draw(st.integers(0, LARGEST)),
        draw(st.integers(0, 10_000)),
        draw(st.one_of(st.integers(0, 300), st.integers(0, LARGEST))),
    )
    return frame(2) + body + draw(st.binary(min_size=32, max_size=32))


@given(st.lists(values(), max_size=5))
def test_entries_read_in_bulk_are_what_the_decoder_reads(entries: list[bytes]) -> None:
    decoded = [decode_entry(value[5:]) for value in entries]
    signs = (-1 if one.transaction.type == DEBIT else 1 for one in decoded)
    amounts = (one.transaction.amount for one in decoded)
    assert signed_sum(entries) == sum(sign * amount for sign, amount in zip(signs, amounts, strict=True))
    assert hashes(entries) == b"".join(one.hash for one in decoded)
    assert [source_offset(value) for value in entries] == [one.source_offset for one in decoded]
