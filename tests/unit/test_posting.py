"""The fold by example: rejections as written, sizes at the limit, bytes that are kept or encoded anew."""

from dataclasses import replace

import pytest

from config.pipeline import Pipeline
from schemas.codec import TransactionCodec, decode_entry, encode_transaction, frame
from schemas.records import CREDIT, DEBIT, Reason, Transaction
from schemas.versions import FIXED_IDS, SchemaIds
from streams.batch import Derived, Outputs
from streams.posting import ID_IN_HEADER, Fold
from streams.store import BEFORE_TIME
from tests.unit.strategies import ELSEWHERE, HERE, IDS, MAX_RECORD_BYTES, PARTITION, Memory
from tests.unit.transactions import block, encoded_until_metadata
from topics.source import Headers, Source

PIPELINE = Pipeline(1, 4, 100, "reject", MAX_RECORD_BYTES, None, 1)
GOOD = Transaction(IDS[0], HERE[0], CREDIT, 100, "EUR", 10**15, None, (("a", "1"), ("b", "2")))
KEY = GOOD.wallet_id.encode()
FRAME = frame(1)
AT_MS = 1_800_000_000_000


def folded(*records: Source) -> Outputs:
    codec = TransactionCodec(1, lambda *_: None)
    fold = Fold("wallet.transactions", PARTITION, PIPELINE, codec, FIXED_IDS, Memory())
    return fold.outputs(records, 0, BEFORE_TIME)


def source(value: bytes | None, key: bytes | None = KEY, headers: Headers = (), offset: int = 0) -> Source:
    return Source(offset, AT_MS, key, value, headers)


def reason_of(rejection: Derived) -> str:
    headers = dict((rejection.headers or [])[-6:])
    reason = headers["rejection.reason"]
    assert isinstance(reason, bytes)
    return reason.decode()


STRAY = GOOD._replace(wallet_id=ELSEWHERE[0])
SPENDS = GOOD._replace(type=DEBIT, transaction_id=IDS[1], amount=101)


@pytest.mark.parametrize(
    ("value", "key", "reason"),
    [
        (None, KEY, Reason.UNDECODABLE),
        (b"", KEY, Reason.UNDECODABLE),
        (b"\0\0\0\0", KEY, Reason.UNDECODABLE),
        (b"{}", None, Reason.UNDECODABLE),
        (frame(2) + encode_transaction(GOOD), KEY, Reason.UNDECODABLE),
        (FRAME + encode_transaction(GOOD) + b"\0", KEY, Reason.UNDECODABLE),
        (FRAME + encode_transaction(GOOD._replace(amount=0)), KEY, Reason.INVALID),
        # what is invalid is not asked where it belongs
        (FRAME + encode_transaction(GOOD._replace(amount=0)), b"somebody-else", Reason.INVALID),
        (FRAME + encode_transaction(GOOD), None, Reason.MISROUTED),
        (FRAME + encode_transaction(GOOD), b"", Reason.MISROUTED),
        (FRAME + encode_transaction(GOOD), HERE[1].encode(), Reason.MISROUTED),
        (FRAME + encode_transaction(STRAY), STRAY.wallet_id.encode(), Reason.MISROUTED),
        (FRAME + encode_transaction(SPENDS), KEY, Reason.INSUFFICIENT_FUNDS),
        (bytes(MAX_RECORD_BYTES), KEY, Reason.TOO_LARGE),
    ],
)
def test_a_record_that_cannot_be_posted_is_rejected_with_its_reason(
    value: bytes | None, key: bytes | None, reason: Reason
) -> None:
    outputs = folded(source(value, key))
    assert [reason_of(one) for one in outputs.rejections] == [reason]
    assert (outputs.entries, outputs.snapshots, outputs.balances, outputs.new_ids) == ([], [], {}, {})
    assert outputs.next_offset == 1
    assert outputs.recorded_ms == BEFORE_TIME


def test_a_time_before_the_year_1_counts_as_its_first_moment() -> None:
    began_ms = -62_135_596_800_000
    value = FRAME + encode_transaction(GOOD)
    records = [source(value), source(value, offset=1), source(FRAME + encode_transaction(SPENDS), offset=2)]
    for early_ms in (began_ms - 1, -(2**63)):
        out = folded(*(one._replace(timestamp_ms=early_ms) for one in records))
        (entry,) = out.entries
        assert entry.timestamp_ms == out.recorded_ms == began_ms
        assert decode_entry((entry.value or b"")[5:]).recorded_at.isoformat() == "0001-01-01T00:00:00+00:00"
        assert [reason_of(one) for one in out.rejections] == [Reason.DUPLICATE, Reason.INSUFFICIENT_FUNDS]
        for one in out.rejections:
            assert (one.timestamp_ms, (one.headers or [])[-1]) == (
                began_ms,
                ("rejection.at", str(began_ms).encode()),
            )


def test_a_rejection_keeps_key_value_and_headers_as_they_came_and_adds_ours_last() -> None:
    upstream: Headers = (
        ("trace", b"\xff\0"),
        ("trace", b"second"),
        ("empty", None),
        ("", b""),
        ("rejection.reason", b"a joke"),
        ("ключ", b"1"),
    )
    (rejection,) = folded(source(b"\x01rubbish", b"\xfe\xff", upstream, offset=77)).rejections
    assert (rejection.key, rejection.value, rejection.timestamp_ms) == (b"\xfe\xff", b"\x01rubbish", AT_MS)
    headers = rejection.headers or []
    assert headers[:6] == list(upstream)
    assert [name for name, _ in headers[6:]] == [
        f"rejection.{name}" for name in ("reason", "detail", "topic", "partition", "offset", "at")
    ]
    ours = dict(headers[6:])
    assert ours.pop("rejection.detail") != b""
    assert ours == {
        "rejection.reason": b"UNDECODABLE",
        "rejection.topic": b"wallet.transactions",
        "rejection.partition": b"1",
        "rejection.offset": b"77",
        "rejection.at": b"1800000000000",
    }


def test_of_a_too_large_record_only_position_and_sizes_are_kept() -> None:
    (rejection,) = folded(source(bytes(2_000), b"k" * 30, [("header", b"v" * 10)], offset=5)).rejections
    assert (rejection.key, rejection.value) == (None, None)
    headers = dict(rejection.headers or [])
    assert len(rejection.headers or []) == 6
    assert headers["rejection.offset"] == b"5"
    detail = headers["rejection.detail"]
    assert isinstance(detail, bytes)
    for measure in (b"2046 bytes", b"limit 1024", b"key 30", b"value 2000", b"headers 16"):
        assert measure in detail


@pytest.mark.parametrize("more", [0, 1])
@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("trace", b"12345")],
        [("t", None), ("t", b""), ("", b"1")],
        [("ключ", b"1")],  # names count in bytes of UTF-8
    ],
)
def test_a_record_of_exactly_the_limit_passes_and_one_more_byte_does_not(headers: Headers, more: int) -> None:
    taken = len(KEY) + sum(len(name.encode()) + len(value or b"") for name, value in headers)
    outputs = folded(source(bytes(MAX_RECORD_BYTES - taken + more), KEY, headers))
    assert [reason_of(one) for one in outputs.rejections] == [
        Reason.TOO_LARGE if more else Reason.UNDECODABLE
    ]


@pytest.mark.parametrize("more", [0, 1])
def test_a_good_transaction_is_posted_up_to_the_limit(more: int) -> None:
    bare = len(KEY) + len(FRAME + encode_transaction(GOOD._replace(metadata=(("pad", "x" * 100),))))
    padded = GOOD._replace(metadata=(("pad", "x" * (100 + MAX_RECORD_BYTES - bare + more)),))
    outputs = folded(source(FRAME + encode_transaction(padded)))
    assert (len(outputs.entries), len(outputs.rejections)) == (1 - more, more)


def test_canonical_bytes_are_copied_and_unusual_ones_written_anew() -> None:
    body = encode_transaction(GOOD)
    other_way = encoded_until_metadata(GOOD) + block([*GOOD.metadata], sized=True) + b"\0"
    assert other_way != body
    for value in (body, other_way):
        (entry,) = folded(source(FRAME + value)).entries
        assert (entry.value or b"")[5:].startswith(body)
        assert decode_entry((entry.value or b"")[5:]).transaction == GOOD


def test_a_duplicate_is_told_from_a_conflict_by_content_not_by_bytes() -> None:
    swapped = GOOD._replace(metadata=GOOD.metadata[::-1])
    other_way = encoded_until_metadata(GOOD) + block([*GOOD.metadata], sized=True) + b"\0"
    outputs = folded(
        source(FRAME + encode_transaction(GOOD)),
        source(FRAME + encode_transaction(swapped), offset=1),
        source(FRAME + other_way, offset=2),
        source(FRAME + encode_transaction(GOOD._replace(occurred_us=GOOD.occurred_us + 1)), offset=3),
        source(FRAME + encode_transaction(GOOD._replace(group_id="g")), offset=4),
    )
    reasons = [reason_of(one) for one in outputs.rejections]
    assert reasons == ["DUPLICATE", "DUPLICATE", "CONFLICT", "CONFLICT"]


def test_an_empty_run_changes_nothing() -> None:
    out = folded()
    assert (out.next_offset, out.recorded_ms, out.entries, out.rejections) == (0, BEFORE_TIME, [], [])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\0" + (104).to_bytes(4, "big"), True),
        (b"\1" + bytes(16), True),
        (b"\0" * 4, False),
        (b"", False),
        (None, False),
    ],
)
def test_a_schema_id_in_a_header_is_told_with_what_to_set(content: bytes | None, told: bool) -> None:
    """As Confluent's serializers write it, when they are told to: the value is the Avro body alone."""
    body = encode_transaction(GOOD)
    (rejection,) = folded(source(body, headers=[("__value_schema_id", content)])).rejections
    detail = dict(rejection.headers or [])["rejection.detail"]
    plain = f"not the wire format: the value starts with {body[:5].hex()}"
    assert detail == (plain + ID_IN_HEADER * told).encode()


def test_a_record_that_can_be_read_may_have_any_header() -> None:
    headers: Headers = [("__value_schema_id", b"\0\0\0\0\1")]
    assert folded(source(FRAME + encode_transaction(GOOD), headers=headers)).entries


@pytest.mark.parametrize("first", [100, 0x7F00_00FD, 2**31 - 4])
def test_schema_ids_may_be_any_that_a_registry_gives(first: int) -> None:
    ids = SchemaIds(first, first + 1, first + 2, first + 3)
    codec = TransactionCodec(first, lambda *_: None)
    pipeline = replace(PIPELINE, snapshot_every=1, transaction_schema_id=first)
    fold = Fold("wallet.transactions", PARTITION, pipeline, codec, ids, Memory())
    body = encode_transaction(GOOD)
    out = fold.outputs([source(frame(first) + body), source(FRAME + body, offset=1)], 0, BEFORE_TIME)
    assert [reason_of(one) for one in out.rejections] == [Reason.UNDECODABLE]
    written = [out.entries, fold.balance_records(out), out.snapshots]
    assert [(one.value or b"")[:5] for (one,) in written] == [frame(schema_id) for schema_id in ids[1:]]
    plain = folded(source(FRAME + body))
    assert (out.entries[0].value or b"")[5:] == (plain.entries[0].value or b"")[5:]
