"""The rejection sink on a real Kafka and a real Postgres: whatever bytes came are in the table."""

import base64
from datetime import timedelta

import pytest

from config.errors import Stopped
from config.settings import Settings
from operations.setup.init import initialise
from schemas.records import EPOCH
from sinks import postgres
from sinks.postgres import questions
from tests.ledgers import NOVEMBER_MS, drain, publish
from topics.names import Topics

pytestmark = pytest.mark.integration

Headers = list[tuple[str, bytes | None]]

ALL_BYTES = bytes(range(256))


def appended(
    offset: int, reason: str = "INVALID", detail: str = "amount is 0", at_ms: int = NOVEMBER_MS
) -> Headers:
    return [
        ("rejection.reason", reason.encode()),
        ("rejection.detail", detail.encode()),
        ("rejection.topic", b"wallet.transactions"),
        ("rejection.partition", b"1"),
        ("rejection.offset", str(offset).encode()),
        ("rejection.at", str(at_ms).encode()),
    ]


def as_stored(headers: Headers) -> list[list[str | None]]:
    def encoded(value: bytes | None) -> str | None:
        return None if value is None else base64.b64encode(value).decode()

    return [[encoded(name.encode()), encoded(value)] for name, value in headers]


CASES: list[tuple[bytes | None, bytes | None, Headers]] = [
    (b"key", b"value", []),
    (None, None, []),
    (b"", b"", []),
    (ALL_BYTES, ALL_BYTES * 1_000, [("name", ALL_BYTES)]),
    (b"\0", b"\0", [("", b""), ("", None), ("twice", b"1"), ("twice", b"2"), ('"\\\u2028\U0001f600', b"\0")]),
    # Upstream sent headers under our names: ours are the last six.
    (b"key", b"value", appended(999, "DUPLICATE", "not ours")),
    (b"key", b"value", [*appended(998), ("rejection.reason", None)]),
]


def test_key_value_and_headers_are_in_the_table_as_they_came(settings: Settings) -> None:
    initialise(settings)
    topic = Topics.of(settings).rejections
    publish(
        settings,
        topic,
        [(1, key, value, headers + appended(n)) for n, (key, value, headers) in enumerate(CASES)],
    )
    publish(settings, topic, [(1, None, None, appended(100, "TOO_LARGE", "9 bytes, limit 8", at_ms=-1))])
    drain(settings, "rejections")
    at = EPOCH + timedelta(milliseconds=NOVEMBER_MS)
    expected = [
        (1, n, "INVALID", "amount is 0", at, key, value, as_stored(headers))
        for n, (key, value, headers) in enumerate(CASES)
    ]
    expected.append(
        (1, 100, "TOO_LARGE", "9 bytes, limit 8", EPOCH - timedelta(milliseconds=1), None, None, [])
    )
    with postgres.connect(settings) as connection:
        assert connection.execute("SELECT * FROM rejections ORDER BY source_offset").fetchall() == expected
        connection.execute("UPDATE sink_positions SET next_offset = 0")
        drain(settings, "rejections")
        assert connection.execute("SELECT * FROM rejections ORDER BY source_offset").fetchall() == expected
    assert questions.rejections_by_reason(settings) == {"INVALID": len(CASES), "TOO_LARGE": 1}


def test_a_record_without_our_headers_stops_the_sink(settings: Settings) -> None:
    initialise(settings)
    publish(settings, Topics.of(settings).rejections, [(3, b"key", b"value", [("some", b"header")])])
    with pytest.raises(Stopped, match=r"rejections partition 3 offset 0 does not decode"):
        drain(settings, "rejections")
