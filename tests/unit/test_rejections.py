"""What upstream may have written into a rejection's headers, and what is made of it."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from confluent_kafka import Message

from config.errors import ConfigurationError
from operations.rejections.listing import ATTEMPT, Rejection, rejection_in
from operations.rejections.resubmit import named_in
from topics.rejections import Headers, appended, source_of
from topics.tail import newest, tail_starts

AT = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.mark.parametrize(
    ("values", "attempt"),
    [
        ([], 0),
        ([b"2"], 2),
        ([b"2", b"3"], 3),
        ([None], 0),
        ([b"-1"], 0),
        ([b"two"], 0),
        ([b"\xff"], 0),
        ([b"9" * 10_000], 0),
    ],
)
def test_the_attempts_of_a_rejection_are_read_whatever_stands_there(
    values: list[bytes | None], attempt: int
) -> None:
    headers = [(ATTEMPT, value) for value in values]
    rejection = Rejection(0, "INVALID", "", "t", 0, 0, AT, None, None, headers)
    assert rejection.attempt == attempt


def test_a_list_of_offsets_is_read_as_editors_write_it(tmp_path: Path) -> None:
    path = tmp_path / "offsets"
    path.write_bytes("\ufeff0:5\r\n# a note\r\n\r\n 1, 007 # another\r\n0:5".encode())
    assert named_in(path) == {"0:5", "1:7"}


@pytest.mark.parametrize("line", ["0:", "-1:5", "0:5:6", f"0:{'9' * 5_000}", "\uff11:\uff12"])
def test_a_line_that_names_no_offset_is_told_by_its_number(line: str, tmp_path: Path) -> None:
    path = tmp_path / "offsets"
    path.write_text(f"0:1\n{line}\n")
    with pytest.raises(ConfigurationError, match=r"line 2 is .*: write PARTITION:OFFSET"):
        named_in(path)


OURS = [
    ("rejection.reason", b"INVALID"),
    ("rejection.detail", b"a sign"),
    ("rejection.topic", b"wallet.transactions"),
    ("rejection.partition", b"1"),
    ("rejection.offset", b"77"),
    ("rejection.at", b"-1000"),
]


def test_a_rejections_last_six_headers_are_the_workers_and_the_others_upstreams() -> None:
    came = [("trace", None), ("rejection.offset", b"5"), ("rejection.offset", b"6")]
    message = Message(headers=[*came, *OURS])
    found = appended(message)
    assert (found.reason, found.partition, found.offset, found.at_ms) == (b"INVALID", 1, 77, -1_000)
    assert found.came == came
    assert source_of(message) == 77


@pytest.mark.parametrize(
    "headers",
    [
        [],
        OURS[1:],
        [*OURS, ("trace", b"1")],
        [*OURS[:4], ("rejection.offset", None), OURS[5]],
        [*OURS[:4], ("rejection.offset", b"x"), OURS[5]],
        [*OURS[:4], ("rejection.offset", b"9" * 5_000), OURS[5]],
        [*OURS[:4], ("rejection.offset", b"+7"), OURS[5]],
        [*OURS[:3], ("rejection.partition", b" 1"), *OURS[4:]],
        [*OURS[:4], OURS[5], OURS[4]],
    ],
)
def test_what_has_not_the_workers_headers_last_is_no_rejection(headers: Headers) -> None:
    message = Message(headers=[*headers])
    with pytest.raises(ValueError, match=r"rejection|int"):
        appended(message)
    assert source_of(message) is None
    assert rejection_in(message) is None


def test_the_newest_record_is_looked_for_in_windows_that_end_at_the_partitions_begin() -> None:
    assert [*tail_starts(100, 5_000)] == [4_984, 4_744, 904, 100]
    assert [*tail_starts(0, 16)] == [0]
    assert [*tail_starts(7, 7)] == []


def test_nothing_before_the_newest_record_is_judged_unless_all_are_compared() -> None:
    judged: list[int] = []

    def judge(at: int) -> int:
        judged.append(at)
        return at

    def read(start: int) -> list[list[int]]:
        return [[*range(start, 16)]]

    assert newest(0, 16, read, judge) == 15
    assert judged == [15]
    assert newest(0, 16, read, judge, max) == 15
    assert judged[1:] == [*range(15, -1, -1)]


def test_the_newest_is_what_is_told_of_the_last_record_that_tells_anything() -> None:
    asked: list[int] = []

    def read(start: int) -> list[list[int]]:
        asked.append(start)
        return [[at] for at in range(start, 5_000)]

    assert newest(100, 5_000, read, lambda at: at if at < 4_900 else None) == 4_899
    assert asked == [4_984, 4_744]
    assert newest(0, 5_000, read, lambda at: -at, max) == -4_984
    assert newest(4_999, 5_000, read, lambda _: None) is None
    assert newest(7, 7, read, lambda at: at) is None
